"""DICOM files as grey images of eight bits; needs the extra ``medical`` (pydicom)."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ifam.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

    from ifam.data.tar import ImageFile

DICOM_SUFFIX = ".dcm"


def require_pydicom(name: object) -> None:
    """An error that begins with ``name`` where pydicom is not installed."""
    if find_spec("pydicom") is None:
        raise DataError(f"{name}: expected pydicom to read DICOM files, got none; run pip install 'ifam[medical]'")


def read_dicom(path: "ImageFile") -> Image.Image:
    """The first frame, as a radiologist would see it: what is bright is dense.

    Grey values go through the file's modality table and window, and then from the range of the stored bits to 0–255;
    MONOCHROME1 is turned over. pydicom's own errors pass.
    """
    require_pydicom(path)
    from pydicom.pixels.utils import pixel_array

    dataset = _read(path)
    if dataset.Rows * dataset.Columns > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Image.DecompressionBombError
    values: Any = pixel_array(dataset, index=0)
    interpretation = dataset.PhotometricInterpretation
    if values.ndim == 3 and values.dtype == np.uint8:
        return Image.fromarray(values)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: expected grey values or RGB of 8 bits, got {interpretation}; convert the image")
    if values.itemsize > 2:  # a table of all that 32 bits can say would take 16 GiB
        bits = 8 * values.itemsize
        raise DataError(f"{path}: expected grey values of at most 16 bits, got {bits}; convert the image")
    for name in ("WindowCenter", "WindowWidth"):
        if name in dataset and not dataset[name].VM:
            del dataset[name]  # there but empty
    stored = np.dtype(f"u{values.itemsize}")
    table = _eight_bits(np.arange(2 ** (8 * stored.itemsize), dtype=stored).view(values.dtype), dataset)
    if interpretation == "MONOCHROME1":
        table = 255 - table
    # row by row: indices are eight bytes each, and an image may have 89 million pixels
    return Image.fromarray(np.stack([table[row] for row in values.view(stored)]))


def _eight_bits(values: NDArray[Any], dataset: "Dataset") -> NDArray[np.uint8]:
    """Stored values as shares of the range that there can be, from 0 to 255."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    low, high = _range(dataset)
    if not low < high:
        raise ValueError(f"its grey values go from {low:g} to {high:g}")
    shares = (apply_voi_lut(apply_modality_lut(values, dataset), dataset) - low) / (high - low)
    eight: NDArray[np.uint8] = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return eight


def dicom_size(path: "ImageFile") -> tuple[int, int]:
    """(width, height) from the header alone."""
    require_pydicom(path)
    dataset = _read(path, stop_before_pixels=True)
    return int(dataset.Columns), int(dataset.Rows)


def _read(path: "ImageFile", **options: Any) -> "Dataset":
    """A file that is not deflated: that would be inflated whole, whatever its size, before anything could be asked."""
    from pydicom import dcmread
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") if isinstance(path, Path) else path.open() as file:
        read_preamble(file, force=True)
        header = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if header.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise DataError(f"{path}: expected a DICOM file that is not deflated as a whole; convert it")
        file.seek(0)
        return dcmread(file, **options)


def _range(dataset: "Dataset") -> tuple[float, float]:
    """The darkest and the brightest value that there can be after the tables and the window."""
    for table in ("VOILUTSequence", "ModalityLUTSequence"):
        if dataset.get(table):
            return 0, 2 ** int(dataset[table].value[0].LUTDescriptor[2]) - 1
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    first, last = sorted((low * slope + intercept, high * slope + intercept))
    return first, last
