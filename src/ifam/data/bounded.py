"""Files of which no more is read than an honest one holds, whatever sizes it claims."""

import io
from typing import Any

from ifam.errors import DataError
from ifam.files import MIB

PER_PIXEL = 16
"""bytes of a file for each pixel of an image, at most: four channels of 16 bits, twice"""
CHARGE = 256
"""bytes that a call costs at least: a decoder in Python that reads byte by byte is slow, not large"""
UNCHECKED = 2**16
"""bytes that are read without a look at how many there are"""


class BoundedFile(io.BufferedReader):
    """A file that raises a DataError before it reads more than ``allowed`` bytes; ``name`` begins the message."""

    def __init__(self, raw: Any, name: object, allowed: int) -> None:
        super().__init__(raw)
        self._name = name
        self._allowed = self._left = allowed

    def allow(self, size: int) -> None:
        """So many bytes more, from here on."""
        self._allowed += size
        self._left += size

    def allow_only(self, size: int) -> None:
        """So many bytes from here on, whatever was read before."""
        self._allowed = self._left = size

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's."""
        if size is None or not 0 <= size <= UNCHECKED:
            self._require(self._available(size))
        content = super().read(size)
        self._left -= max(len(content), CHARGE)
        self._require(0)
        return content

    def _available(self, size: int | None) -> int:
        here = self.tell()
        rest = max(0, self.seek(0, io.SEEK_END) - here)
        self.seek(here)
        return rest if size is None or size < 0 else min(size, rest)

    def _require(self, size: int) -> None:
        if size > self._left:
            raise DataError(
                f"{self._name}: expected at most {self._allowed / MIB:.0f} MiB that have to be read to understand it, "
                "got more (damaged, or much that is no picture); save it again without the rest"
            )
