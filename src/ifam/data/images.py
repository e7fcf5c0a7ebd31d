"""Any photograph or DICOM file as eight-bit RGB, any mask as booleans."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ifam.data.dicom import DICOM_SUFFIX, dicom_size, read_dicom
from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.data.tar import ImageFile
from ifam.errors import DataError, first_line

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""whose decoders may see a file, whatever its name; of Pillow's others, EPS would start Ghostscript"""
QUARTER_TURNS = (5, 6, 7, 8)
"""of a camera's rotation flag: with them width and height change places"""
LONGEST = 100
"""sides of an image: a strip that is longer would grow to gigabytes where its short side is scaled to the model's"""


def open_image(path: ImageFile) -> Image.Image:
    """The image (of several frames the first) upright, in RGB; 16 bits are scaled to 8, transparency becomes white."""
    image = _decode(path)
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise DataError(
            f"{path}: expected sides of at most 1 : {LONGEST}, got {width} × {height} pixels; cut out what matters"
        )
    return to_rgb(image, path)


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """The same for an upright image in memory; errors begin with ``name``."""
    if image.mode.startswith("I"):
        image = _eight_bits(image, name)
    if image.mode == "F":
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got 32-bit floats; convert the image")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))  # as alpha_composite, in half the memory
        return white
    return image.convert("RGB")


def open_mask(mask: Path | RunLengths | Box, *, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w), true on the foreground: brighter than half the brightest value; in a palette, every index but 0.

    ``size`` is the (width, height) of the image that it belongs to. Of a box, the pixels whose centre it holds.
    """
    if isinstance(mask, RunLengths):
        return mask.decode(size)
    if isinstance(mask, tuple):
        left, top, width, height = mask
        columns, rows = (np.arange(length) + 0.5 for length in size)
        return ((rows >= top) & (rows < top + height))[:, None] & ((columns >= left) & (columns < left + width))
    image = _decode(mask)
    if image.size != size:
        width, height = image.size
        raise DataError(
            f"{mask}: expected a mask of its image's {size[0]} × {size[1]} pixels, got {width} × {height}; resize it"
        )
    return _foreground(image)


def has_foreground(path: Path) -> bool:
    """Whether a mask has any foreground at all."""
    return bool(_foreground(_decode(path)).any())


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright image, from the header alone."""
    with _one_line(path):
        if path.suffix.lower() == DICOM_SUFFIX:
            return dicom_size(path)
        with Image.open(path, formats=FORMATS) as image:
            turn = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # a PNG's own would decode the pixels
            turned = turn in QUARTER_TURNS and image.format != "TIFF"  # whose size Pillow has turned already
            return image.size[::-1] if turned else image.size


def _foreground(image: Image.Image) -> NDArray[np.bool_]:
    if image.mode == "P":
        return np.asarray(image) > 0
    values: NDArray[Any] = np.asarray(image if image.mode.startswith(("I", "F")) else image.convert("L"))
    # half of what is there, not of 255: masks of zeros and ones are common
    foreground: NDArray[np.bool_] = values > values.max() / 2
    return foreground


def _decode(path: ImageFile) -> Image.Image:
    with _one_line(path):
        if path.suffix.lower() == DICOM_SUFFIX:
            return read_dicom(path)
        with Image.open(path if isinstance(path, Path) else path.open(), formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)


@contextmanager
def _one_line(path: ImageFile) -> Iterator[None]:
    """Whatever goes wrong in a decoder, one error says it; their warnings are not for the screen."""
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():  # to open a pipe is to wait for it
            raise DataError(f"{path}: expected an image, got a folder, a pipe or a device; take it out")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise DataError(f"{path}: expected at most {limit}, got an image larger than that; make it smaller") from None
    except Exception as error:  # decoders raise many kinds on damaged files
        raise DataError(f"{path}: expected an image, got {_reason(error)}; replace it or take it out") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "a file of unknown format"
    return f"one that cannot be read ({getattr(error, 'strerror', None) or first_line(error)})"


def _eight_bits(image: Image.Image, name: object) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{name}: expected 8 or 16 bits per channel, got 32; convert the image")
    # row by row, and without fractions: an image may have 89 million pixels
    return Image.fromarray(np.stack([((row.astype(np.int32) + 128) // 257).astype(np.uint8) for row in values]))
