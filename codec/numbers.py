"""Numbers and bytes one after the other, as files hold them."""

from __future__ import annotations

from pixelzip.codec.errors import FormatError, TruncatedError


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, low bits first, the top bit set on all but the last byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Takes bytes off the front of the data, never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.remaining:
            raise TruncatedError("the file is truncated or damaged: it is shorter than it says")
        self.position += count
        return self._data[self.position - count : self.position]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise FormatError("the file is damaged: it has an impossible number")
        if byte == 0 and shift:
            what = "a number that is not in its shortest form"
            raise FormatError(f"the file is damaged: it has {what}")
        return value
