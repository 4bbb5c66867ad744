"""Makes Pillow open and save ``.pxz`` files.

``import pixelzip`` registers it; the codec itself is imported when the first such file is met.

::

    import pixelzip
    from PIL import Image

    Image.open("photo.png").save("photo.pxz")
    image = Image.open("photo.pxz")

``save`` takes what `pixelzip.compress` takes (``network``, ``origin``, ``effort``, ``label``,
``tile_size``, ``threads``, ``strip``), and metadata to add, named as in ``Image.info`` (``exif``,
``icc_profile``, ``dpi``...).

``crop`` before the image is loaded decodes only the tiles that it needs. ``draft``, and so
``thumbnail``, helps with files that hold a JPEG, whose pixels libjpeg makes in a half, a quarter or
an eighth of the size; there is nothing smaller in files of pictures, which are decoded in full.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from pixelzip.codec.errors import FormatError, PixelzipError

if TYPE_CHECKING:
    from pixelzip.codec.decode import Partial

MAGIC = b"\xf5z"
"""As in `pixelzip.codec.container`, which would make each `Image.open` of anything import numpy."""

_HOLDS_JPEG = MAGIC + b"\x1f"
"""As in `pixelzip.codec.jpeg.file`."""

_HOLDS_DOCUMENT = MAGIC + b"\x1e"
"""As in `pixelzip.codec.document`."""

_OPTIONS = ("network", "origin", "effort", "label", "tile_size", "threads")


def accept(prefix: bytes) -> bool:
    """Whether a file starts as a .pxz file does."""
    return prefix.startswith(MAGIC)


class PxzImageFile(ImageFile.ImageFile):
    """A ``.pxz`` file. Size, mode and metadata are read when it is opened, pixels when needed."""

    format = "PXZ"
    format_description = "pixelzip lossless image"

    def _open(self) -> None:
        from pixelzip import metadata, pictures
        from pixelzip.codec.container import header_of

        assert self.fp is not None
        start = self.fp.read(3)
        if start == _HOLDS_JPEG:
            self._open_jpeg()
            return
        self._is_jpeg = False
        self._pages: list[tuple[str, tuple[int, int], dict[Any, Any]]] = []
        self._draft: tuple[str | None, tuple[int, int] | None] | None = None
        self.fp.seek(0)
        if start == _HOLDS_DOCUMENT:
            self._open_document()
            return
        try:
            header = header_of(self.fp)
            mode = header.mode
            chunks = metadata.parse(header.metadata, mode)
            self._size = (header.width, metadata.frame_height(chunks, header.height))
        except FormatError as error:
            raise SyntaxError(str(error)) from error  # so Pillow tries other formats, and then says
        except PixelzipError as error:
            raise _for_pillow(error) from error
        if mode.endswith(";16") and mode != "I;16":
            raise _for_pillow(pictures.deep_error(mode))
        self._mode = mode
        self.n_frames = metadata.frames(chunks)
        self.is_animated = self.n_frames > 1
        self.has_pages = metadata.find(chunks, b"pages") is not None
        self.info = metadata.to_pillow(chunks, mode)
        self._frame = 0
        self._film: Image.Image | None = None
        self._partial: Partial | None = None

    def _open_document(self) -> None:
        """Its pages have sizes and modes of their own, and come back as those of a TIFF file."""
        from pixelzip import metadata, pictures
        from pixelzip.codec import container, document

        assert self.fp is not None
        try:
            pages = [container.read_header(page) for page in document.unpack(self.fp.read())]
            chunks = [metadata.parse(page.metadata, page.mode) for page in pages]
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        except PixelzipError as error:
            raise _for_pillow(error) from error
        for page in pages:
            if page.mode.endswith(";16") and page.mode != "I;16":
                raise _for_pillow(pictures.deep_error(page.mode))
        self._pages = [
            (page.mode, (page.width, page.height), metadata.to_pillow(own, page.mode))
            for page, own in zip(pages, chunks, strict=True)
        ]
        self.n_frames, self.is_animated, self.has_pages = len(pages), True, True
        self._film = self._partial = None
        self.seek(0)

    def _open_jpeg(self) -> None:
        """Of a JPEG file all but the pixels stands before these."""
        from pixelzip.codec.jpeg import file

        assert self.fp is not None
        self.fp.seek(0)
        try:
            beginning = file.beginning(self.fp.read())
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        except PixelzipError as error:
            raise _for_pillow(error) from error
        self._beginning = beginning
        with Image.open(io.BytesIO(beginning), formats=["JPEG"]) as image:
            self._mode, self._size, self.info = image.mode, image.size, image.info
        self._is_jpeg, self._draft = True, None
        self.n_frames, self.is_animated, self._frame = 1, False, 0
        self._film = self._partial = None

    def verify(self) -> None:
        """Decode the pixels and check their checksum; as always in Pillow, open it again after."""
        self._decode()
        super().verify()

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """As of any image; before the image is loaded, only the tiles that it needs are decoded."""
        left, top, right, bottom = map(round, box or (0, 0, *self.size))
        first, end = max(left, 0), min(right, self.width)
        upper, lower = max(top, 0), min(bottom, self.height)
        overlaps = first < end and upper < lower
        if self.fp is None or not overlaps or self.is_animated or self._is_jpeg:
            return super().crop(box)
        from pixelzip import coding, pictures

        try:
            if self._partial is None:
                self.fp.seek(0)
                self._partial = coding.open_partly(self.fp.read())
            inside = self._partial.region((upper, first, lower - upper, end - first))
            part = pictures.to_pillow(inside)
            return part.crop((left - first, top - upper, right - first, bottom - upper))
        except PixelzipError as error:
            raise _for_pillow(error) from error

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """As of a JPEG file, of a file that holds one; None of any other."""
        if not self._is_jpeg or self.fp is None or self._draft is not None:
            return None
        with Image.open(io.BytesIO(self._beginning), formats=["JPEG"]) as image:
            found = image.draft(mode, size)
            self._mode, self._size = image.mode, image.size
        self._draft = mode, size
        return found

    def load(self) -> Any:
        if self.fp is not None:
            image = self._decode()
            image.load()
            if self._exclusive_fp:
                self.fp.close()
            self.fp = self._partial = None
            if self.is_animated:
                self._film = image
                self.seek(self._frame)
            else:
                self.im = image.im
                self.palette = image.palette
        return super().load()

    def tell(self) -> int:
        """The number of the frame."""
        return self._frame

    def seek(self, frame: int) -> None:
        """Go to a frame of an animation, or to a page. EOFError if there is none."""
        if not 0 <= frame < self.n_frames:
            raise EOFError("no more images in this file")
        self._frame = frame
        if self._pages:
            self._mode, self._size, self.info = self._pages[frame]
        if self._film is not None:
            self._film.seek(frame)
            shown = self._film.convert(self.mode)
            self.im, self.palette = shown.im, shown.palette
            self.info |= {
                name: self._film.info[name]
                for name in ("duration", "loop")
                if name in self._film.info
            }

    def _decode(self) -> Image.Image:
        from pixelzip import api

        assert self.fp is not None
        self.fp.seek(0)
        try:
            data = self.fp.read()
            if api.holds_jpeg(data):
                image = Image.open(io.BytesIO(api.original(data)), formats=["JPEG"])
                if self._draft is not None:
                    image.draft(*self._draft)
                return image
            return api.decompress(data)
        except PixelzipError as error:
            raise _for_pillow(error) from error


def _for_pillow(error: PixelzipError) -> OSError:
    """The same error, and also an OSError: that is what callers of Pillow catch."""
    kind = type(error)
    both: type[OSError] = type(kind.__name__, (kind, OSError), {})
    return both(str(error))


def save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write a Pillow image as a .pxz file; see the module for the options."""
    from pixelzip import coding, pictures

    given: dict[str, Any] = getattr(image, "encoderinfo", {})
    options = {name: given[name] for name in _OPTIONS if name in given}
    extra = {name: value for name, value in given.items() if name not in (*_OPTIONS, "strip")}
    picture = pictures.from_pillow(image, strip=given.get("strip", False), extra=extra)
    fp.write(coding.encode(picture, **options))


def register() -> None:
    """Tell Pillow."""
    Image.register_open(PxzImageFile.format, PxzImageFile, accept)
    Image.register_save(PxzImageFile.format, save)
    Image.register_extension(PxzImageFile.format, ".pxz")
    Image.register_mime(PxzImageFile.format, "image/x-pixelzip")
