"""Which files are taken for images, by their names."""

import os

from PIL import features

from ifam.data.dicom import DICOM_SUFFIX

IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".bmp", ".gif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".pjp", ".pjpeg", ".png",
        ".pnm", ".ppm", ".tif", ".tiff", ".webp", DICOM_SUFFIX, *([".avif"] if features.check("avif") else []),
    }
)  # fmt: skip
"""of formats that are decoded, see `ifam.data.images.FORMATS`; AVIF where the installed Pillow can"""


def suffix_of(name: str) -> str:
    """The suffix with the dot, in small letters; "no suffix" where there is none."""
    return os.path.splitext(name)[1].lower() or "no suffix"
