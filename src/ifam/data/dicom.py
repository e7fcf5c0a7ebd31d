"""DICOM files as grey images of eight bits; needs the extra ``xray`` (pydicom)."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    dataset = dcmread(path if isinstance(path, Path) else path.open())
    if dataset.Rows * dataset.Columns > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Image.DecompressionBombError
    values: Any = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        values = values[0]
    interpretation = dataset.PhotometricInterpretation
    if values.ndim == 3 and values.dtype == np.uint8:
        return Image.fromarray(values)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: expected grey values or RGB of 8 bits, got {interpretation}; convert the image")
    for name in ("WindowCenter", "WindowWidth"):
        if name in dataset and not dataset[name].VM:
            del dataset[name]  # there but empty
    values = apply_voi_lut(apply_modality_lut(values, dataset), dataset)
    low, high = _range(dataset)
    shares = np.clip((values - low) / (high - low), 0, 1)
    if interpretation == "MONOCHROME1":
        shares = 1 - shares
    return Image.fromarray(np.rint(255 * shares).astype(np.uint8))


def dicom_size(path: Path) -> tuple[int, int]:
    """(width, height) from the header alone."""
    require_pydicom(path)
    from pydicom import dcmread

    dataset = dcmread(path, stop_before_pixels=True)
    return int(dataset.Columns), int(dataset.Rows)


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
