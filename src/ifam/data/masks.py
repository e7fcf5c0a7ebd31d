"""Masks of foreground as booleans, in whatever coding they come."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from ifam.data.decode import LOSSY, decode
from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.errors import DataError

TRIMAP = frozenset({1, 2, 3})
VOID = 255
"""what leaves a pixel out in masks of class numbers, such as the outlines of Pascal VOC"""
MOST_CLASSES, MOST_BESIDE_VOID = 128, 64
"""numbers up to here are of classes; beyond, or with a brighter one beside, they are shades of grey"""
COLOURS, VOID_COLOUR = 64, (224, 224, 192)
EDGE = 0.5
"""share of a picture's outermost pixels: with more of them in the foreground, a mask may be inverted"""


class Coding(StrEnum):
    """How a file says what is foreground; the values are what people read."""

    TWO = "two values: the darker one is background, the brighter one foreground"
    ONE = "one value alone: all background if it is 0, else all foreground"
    SHADES = "shades of grey: foreground is what is brighter than half of the brightest"
    NUMBERS = f"class numbers: 0 is background, and {VOID} beside them, the others foreground"
    TRIMAP = "trimap: 1 is foreground, 2 background, 3 the border between, taken for background"
    PALETTE = "palette: index 0 is background, the others foreground"
    COLOURS = "colours: black is background, the others foreground"
    ALPHA = "transparency: what is transparent is background"


DOUBTFUL = (Coding.SHADES, Coding.TRIMAP, Coding.NUMBERS, Coding.COLOURS, Coding.ALPHA)
"""which a file of the usual kind would not need"""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A mask file as it was understood."""

    foreground: NDArray[np.bool_]  # (h, w)
    coding: Coding

    @property
    def at_edge(self) -> bool:
        """Whether most of the picture's outermost pixels are foreground, and others are not."""
        rows = self.foreground
        edge = np.concatenate([rows[0], rows[-1], rows[:, 0], rows[:, -1]])
        return bool(edge.mean() > EDGE) and not bool(rows.all())


def open_mask(mask: Path | RunLengths | Box, *, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w), true on the foreground; of a file as `read_mask` says, of a box the pixels whose centre it holds.

    ``size`` is the (width, height) of the image that it belongs to.
    """
    if isinstance(mask, RunLengths):
        return mask.decode(size)
    if isinstance(mask, tuple):
        left, top, width, height = mask
        columns, rows = (np.arange(length) + 0.5 for length in size)
        return ((rows >= top) & (rows < top + height))[:, None] & ((columns >= left) & (columns < left + width))
    return read_mask(mask, size=size).foreground


def read_mask(path: Path, *, size: tuple[int, int] | None = None) -> Mask:
    """A mask file with the coding that its values say; ``size`` is the (width, height) that it must have.

    Two values are background and foreground, the brighter one. Other files are read as their values, or the kind of
    the file, leave one meaning: see `Coding`.
    """
    image = decode(path)
    if size is not None and image.size != size:
        width, height = image.size
        raise DataError(
            f"{path}: expected a mask of its image's {size[0]} × {size[1]} pixels, got {width} × {height}; resize it"
        )
    return _understood(image)


def has_foreground(path: Path) -> bool:
    """Whether a mask has any foreground at all."""
    return bool(read_mask(path).foreground.any())


def shows_shape(path: Path) -> bool:
    """Whether a mask has foreground and background: one that is empty, or the whole image, has one of them."""
    foreground = read_mask(path).foreground
    return bool(foreground.any() and not foreground.all())


def mask_warnings(masks: Sequence[tuple[Coding, bool]]) -> Iterator[str]:
    """What is doubtful about the masks of a data set, of each its coding and whether it is `Mask.at_edge`."""
    counts = Counter(coding for coding, _ in masks)
    for coding in DOUBTFUL:
        if counts[coding]:
            yield f"{counts[coding]} of {len(masks)} masks are read as {coding}; if that is wrong, save 0 and 255"
    at_edge = sum(edge for _, edge in masks)
    if at_edge > len(masks) / 2:
        yield (
            f"in {at_edge} of {len(masks)} masks most of the picture's edge is foreground: if they are inverted (the "
            "object black), save them with the object white"
        )


def _understood(image: Image.Image) -> Mask:
    if image.mode == "P":
        return _of_palette(np.asarray(image))
    if "A" in image.getbands():
        alpha, image = image.getchannel("A"), image.convert("L" if image.mode == "LA" else "RGB")
        low, high = alpha.getextrema()
        if low != high or (high == 0 and _is_even(image)):
            return Mask(foreground=np.asarray(alpha) > 127, coding=Coding.ALPHA)
    lossy = bool(image.info.get(LOSSY))
    if len(image.getbands()) > 1:
        image = image.convert("RGB")
        red, green, blue = image.split()
        if ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox():
            return _of_colours(image, lossy=lossy)
        image = red
    return _of_grey(np.asarray(image), lossy=lossy)


def _of_palette(indices: NDArray[Any]) -> Mask:
    found = _values(indices)
    if _is_trimap(found):
        return Mask(foreground=indices == 1, coding=Coding.TRIMAP)
    if _has_void(found):
        return Mask(foreground=(indices != 0) & (indices != VOID), coding=Coding.NUMBERS)
    return Mask(foreground=indices > 0, coding=Coding.PALETTE)


def _of_colours(image: Image.Image, *, lossy: bool) -> Mask:
    colours = None if lossy else image.getcolors(COLOURS)
    names = [colour for _, colour in colours or ()]
    if (0, 0, 0) not in names:
        return _of_grey(np.asarray(image.convert("L")), lossy=True)
    pixels = np.asarray(image)
    foreground = np.asarray(pixels.any(-1))
    if len(names) > 2:
        foreground &= np.asarray((pixels != VOID_COLOUR).any(-1))
    return Mask(foreground=foreground, coding=Coding.COLOURS)


def _of_grey(values: NDArray[Any], *, lossy: bool) -> Mask:
    found = frozenset() if lossy else _values(values)
    if _is_trimap(found):
        return Mask(foreground=values == 1, coding=Coding.TRIMAP)
    if 2 < len(found) <= COLOURS and 0 in found and (_has_void(found) or max(found) < MOST_CLASSES):
        return Mask(foreground=(values != 0) & (values != VOID), coding=Coding.NUMBERS)
    # half of what is there, not of 255: masks of zeros and ones are common
    coding = Coding.ONE if len(found) == 1 else Coding.TWO if len(found) == 2 else Coding.SHADES
    return Mask(foreground=values > values.max() / 2, coding=coding)


def _is_trimap(found: frozenset[int]) -> bool:
    return len(found) > 1 and found <= TRIMAP


def _has_void(found: frozenset[int]) -> bool:
    """Whether 255 stands among the numbers of classes, at least one beside 0."""
    return len(found) > 2 and {0, VOID} <= found and max(found - {VOID}) < MOST_BESIDE_VOID


def _values(values: NDArray[Any]) -> frozenset[int]:
    """Those that whole numbers of up to 16 bits take; none of others."""
    if values.dtype.kind not in "bui" or values.min() < 0 or values.max() > 0xFFFF:
        return frozenset()
    seen = np.zeros(2**16, dtype=np.bool_)
    for row in values:  # row by row: an index takes eight bytes
        seen[row.astype(np.intp)] = True
    return frozenset(np.flatnonzero(seen).tolist())


def _is_even(image: Image.Image) -> bool:
    return all(low == high for low, high in (image.getchannel(band).getextrema() for band in image.getbands()))
