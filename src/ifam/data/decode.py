"""From a file to pixels, in bounded time and memory; whatever goes wrong in a decoder, one line says it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile as OpenedImage

from ifam.data.bounded import PER_PIXEL, BoundedFile
from ifam.data.dicom import DICOM_SUFFIX, dicom_size, read_dicom
from ifam.data.jpeg import check_scans
from ifam.data.tar import ImageFile
from ifam.errors import DataError, UnavailableError, first_line, is_passing
from ifam.files import MIB

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", *(["AVIF"] if features.check("avif") else []))
"""whose decoders may see a file, whatever its name; of Pillow's others, EPS would start Ghostscript"""
QUARTER_TURNS = (5, 6, 7, 8)
"""of a camera's rotation flag: with them width and height change places"""
DEEP = "ifam: 16 bits"
"""in the ``info`` of an image of 16 bits per channel; of colours, Pillow keeps the upper eight"""
LOSSY = "ifam: lossy"
"""in the ``info`` of an image of a format that may change every value a little, so that they stand for no numbers"""
BESIDE_PIXELS = 64 * MIB
"""of a file that may have to be read for its tags and profiles; with further pages it may be larger"""
PROBED = 256
"""MiB that are read of a file to see whether its disk or its decoder failed"""


def decode(path: ImageFile) -> Image.Image:
    """The first frame, upright, in the mode of the file.

    Raises:
        DataError: it cannot be decoded, or costs more than an image does.
        UnavailableError: the system does not give the file just now.
    """
    with _one_line(path):
        if path.suffix.lower() == DICOM_SUFFIX:
            return read_dicom(path)
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            pixels = image.width * image.height
            file.allow(PER_PIXEL * pixels)
            if image.format in ("JPEG", "MPO"):
                here = file.tell()
                file.seek(0)
                check_scans(file.read(), pixels, path)
                file.seek(here)
            image.info[LOSSY] = image.format in ("JPEG", "MPO", "WEBP", "AVIF")
            image.info[DEEP] = _is_deep(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # else it copies what need not be turned
            return image


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) as `decode` would give, from the header alone."""
    with _one_line(path):
        if path.suffix.lower() == DICOM_SUFFIX:
            return dicom_size(path)
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            turn = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # a PNG's own would decode the pixels
            turned = turn in QUARTER_TURNS and image.format != "TIFF"  # whose size Pillow has turned already
            return image.size[::-1] if turned else image.size


def is_deep(path: Path) -> bool:
    """Whether the image has 16 bits per channel, from the header alone; of a DICOM file, which has a window, no."""
    with _one_line(path):
        if path.suffix.lower() == DICOM_SUFFIX:
            return False
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            return _is_deep(image)


def _is_deep(image: OpenedImage) -> bool:
    return any(";16" in str(tile.args) for tile in image.tile)


def _opened(path: ImageFile) -> BoundedFile:
    # not by name: Pillow would map the file, and a page that the disk does not give ends the process
    raw = path.open("rb", buffering=0) if isinstance(path, Path) else path.open()
    return BoundedFile(raw, path, BESIDE_PIXELS)


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
        raise _refusal(path, error) from None


def _refusal(path: ImageFile, error: Exception) -> DataError:
    unknown = isinstance(error, UnidentifiedImageError)
    failure = error if is_passing(error) else None if unknown else _failure_to_read(path)
    if failure is not None:
        return UnavailableError(
            f"{path}: expected an image, got none that can be read now ({_said(failure)}); check its disk or try again"
        )
    came = "a file of unknown format" if unknown else f"one that cannot be read ({_said(error)})"
    return DataError(f"{path}: expected an image, got {came}; replace it or take it out")


def _failure_to_read(path: ImageFile) -> OSError | None:
    """Why the system does not give the bytes: a decoder that reads them itself (libtiff) only says that it failed."""
    try:
        with path.open("rb") as file:
            for _ in range(PROBED):
                file.read(MIB)
    except OSError as error:
        return error if is_passing(error) else None
    return None


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)
