"""Any photograph or DICOM file as eight-bit RGB."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ifam.data.decode import DEEP, decode, is_deep, upright_size
from ifam.data.tar import ImageFile
from ifam.errors import DataError

LONGEST = 100
"""sides of an image: a strip that is longer would grow to gigabytes where its short side is scaled to the model's"""
BITS = "ifam: bits of 16"
"""in the ``info`` of an image that came with 16 bits: how many its brightest value takes"""
FULL = 15
"""bits that a set of 16-bit images uses if it is exposed at all; cameras and scanners have 10, 12 or 14"""


def open_image(path: ImageFile) -> Image.Image:
    """The image (of several frames the first) upright, in RGB; 16 bits are scaled to 8, transparency becomes white."""
    image = decode(path)
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise DataError(
            f"{path}: expected sides of at most 1 : {LONGEST}, got {width} × {height} pixels; cut out what matters"
        )
    return to_rgb(image, path)


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """The same for an upright image in memory; errors begin with ``name``."""
    bits = _bits_of_16(image)
    if image.mode.startswith("I"):
        image = _eight_bits(image, name)
    if image.mode == "F":
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got 32-bit floats; convert the image")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))  # as alpha_composite, in half the memory
        image = white
    image = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    if bits is not None:
        image.info[BITS] = bits
    return image


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright image, from the header alone."""
    return upright_size(path)


def has_16_bits(path: Path) -> bool:
    """Whether `open_image` would say under `BITS` how many of 16 bits the image uses, from the header alone."""
    return is_deep(path)


def too_dark(bits: Iterable[int | None]) -> Iterator[str]:
    """A warning where all 16-bit images of a set leave the upper bits empty; nothing else.

    They are read as they are: if each were stretched to its own brightest value, their brightness would no longer
    compare, and it may be what tells the classes apart.

    Args:
        bits: of each image, what `open_image` says in its ``info`` under `BITS`; None of one of 8 bits
    """
    known = [number for number in bits if number is not None]
    most = max(known, default=FULL)
    if most < FULL:
        yield (
            f"all {len(known)} images of 16 bits use at most {most} of them, which leaves {2**most // 257 + 1} of 256 "
            f"grey levels: very dark; multiply every value by {2 ** (16 - most)}, the same for all images"
        )


def _bits_of_16(image: Image.Image) -> int | None:
    """That the brightest value takes; None of an image of 8 bits."""
    if not image.info.get(DEEP):
        return None
    if image.mode.startswith("I"):
        return int(np.asarray(image).max()).bit_length()
    brightest = max(int(image.getchannel(band).getextrema()[1]) for band in image.getbands() if band != "A")  # type: ignore[arg-type]
    return 8 + brightest.bit_length()


def _eight_bits(image: Image.Image, name: object) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got 32; convert the image")
    # row by row, and without fractions: an image may have 89 million pixels
    return Image.fromarray(np.stack([((row.astype(np.int32) + 128) // 257).astype(np.uint8) for row in values]))
