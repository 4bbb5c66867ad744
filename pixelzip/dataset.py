"""A folder of ``.pxz`` files as a dataset.

::

    from pixelzip.dataset import PxzFolder
    from torch.utils.data import DataLoader

    data = PxzFolder("archive", transform=lambda image: torch.from_numpy(image).permute(2, 0, 1))
    loader = DataLoader(data, batch_size=64, num_workers=4)

A dataset needs no torch; torch's DataLoader takes it as it is, and then asks for batches, whose
files are decoded together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pixelzip import api, coding
from pixelzip.pictures import Array

Item = TypeVar("Item")


class PxzFolder(Generic[Item]):
    """The pictures of all ``.pxz`` files in a folder and the folders in it, by path.

    An item is an array as of `pixelzip.decompress_array`, or what ``transform`` makes of it; with
    ``labelled`` it is a pair of that and the number of its class, which is the name of the folder
    right below the root that the file is in.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        transform: Callable[[Array], Item] | None = None,
        labelled: bool = False,
        networks: Sequence[str] = (),
        threads: int = 1,
    ) -> None:
        """``networks`` are those of `pixelzip.decompress`; ``threads`` work on each batch.

        Raises FileNotFoundError if there is no such file in the folder, ValueError if one that has
        to be labelled lies in no folder, or there are no ``threads``.
        """
        self.root, self.transform, self.labelled = Path(root), transform, labelled
        self.networks, self.threads = tuple(networks), coding.thread_count(threads)
        self.paths = sorted(path for path in self.root.rglob("*.pxz") if path.is_file())
        if not self.paths:
            raise FileNotFoundError(f"there is no .pxz file in {self.root}")
        folders = [path.relative_to(self.root).parts[0] for path in self.paths]
        if labelled and any((self.root / folder).is_file() for folder in folders):
            raise ValueError(f"a file right in {self.root} has no class")
        self.classes = sorted(set(folders)) if labelled else []
        self._labels = [self.classes.index(folder) for folder in folders] if labelled else []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        (item,) = self.__getitems__([number])
        return item

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Several items, decoded together. Raises what `pixelzip.decompress` raises."""
        arrays = api.decompress_arrays(
            [self.paths[number] for number in numbers],
            networks=self.networks,
            threads=self.threads,
        )
        made = arrays if self.transform is None else [self.transform(array) for array in arrays]
        if not self.labelled:
            return list(made)
        return [(item, self._labels[number]) for item, number in zip(made, numbers, strict=True)]
