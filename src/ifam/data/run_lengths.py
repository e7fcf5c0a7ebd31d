"""Masks that come as run lengths in a table instead of as pictures."""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ifam.errors import DataError


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A mask in the code of the SIIM-ACR pneumothorax competition.

    A code is pairs of numbers: pixels to skip since the end of the last run, and pixels of this run, counted down the
    columns from the top left. An image has a code for each annotation, and their union is its mask; none is empty.
    """

    name: str  # opens the errors
    codes: tuple[str, ...] = ()

    def decode(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(h, w), true on the foreground; ``size`` is the (width, height) of the image that it belongs to."""
        width, height = size
        mask = np.zeros(width * height, dtype=np.bool_)
        for code in self.codes:
            ends = list(accumulate(self._numbers(code)))
            if ends[-1] > mask.size:
                raise DataError(
                    f"{self.name}: expected runs within {width} × {height} pixels, got one that ends at "
                    f"{ends[-1]}; give the mask of this image"
                )
            for start, end in zip(ends[::2], ends[1::2], strict=True):
                mask[start:end] = True
        # the runs go down the columns: read along the rows the mask would come out mirrored at its diagonal
        return mask.reshape(width, height).T

    def _numbers(self, code: str) -> list[int]:
        words = code.split()
        if not words or len(words) % 2 or not all(word.isdecimal() and len(word) < 20 for word in words):
            raise DataError(
                f"{self.name}: expected pairs of numbers, pixels to skip and pixels to mark, got {code[:40]!r}"
            )
        return [int(word) for word in words]
