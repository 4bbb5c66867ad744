"""What a release has promised to keep: golden files and all that decodes them, by their SHA-256.

    python tests/released.py 1.0.0

At a release, adds what is new since the last one to ``released.txt``, from which nothing is ever
taken: a line each of the release, the digest and the file. Files may move (a network that codes no
more goes to ``models/zoo/retired``), but their bytes stay.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("released.txt")
KEPT = ("tests/golden/**/*.pxz", "models/zoo/**/*.safetensors", "codec/jpeg/*.xz")


def there() -> dict[str, str]:
    """Digest -> file, of all that a release keeps."""
    paths = sorted(path for pattern in KEPT for path in ROOT.glob(pattern))
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.relative_to(ROOT).as_posix()
        for path in paths
    }


def listed() -> list[str]:
    """The lines of releases up to now."""
    return LIST.read_text("ascii").splitlines() if LIST.exists() else []


def missing(lines: Iterable[str]) -> list[str]:
    """Those whose file is no more what it was."""
    found = there()
    return [line for line in lines if line.split()[1] not in found]


def main(release: str) -> None:
    lines = listed()
    known = {line.split()[1] for line in lines}
    new = [f"{release} {digest} {path}" for digest, path in there().items() if digest not in known]
    LIST.write_text("\n".join([*lines, *new]) + "\n", "ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
