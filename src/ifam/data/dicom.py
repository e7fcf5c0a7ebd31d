"""DICOM files as grey images of eight bits; needs the extra ``medical`` (pydicom)."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ifam.data.bounded import PER_PIXEL, BoundedFile
from ifam.data.jpeg import check_scans
from ifam.errors import DataError, first_line
from ifam.files import MIB

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder
    from pydicom.tag import BaseTag

    from ifam.data.tar import ImageFile

DICOM_SUFFIX = ".dcm"
HEADER = 32 * MIB
"""of a file that may be read before its pixels, and by which they may be more than its sizes say"""
_TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanarConfiguration",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
"""all that is read of a header: the rest is passed over, however large"""
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
"""where a file of several frames says what others say at the top"""
_PIXEL_DATA = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
"""by the number within its group"""
_PIP = {"gdcm": "python-gdcm"}
"""packages that pip knows by another name"""


def require_pydicom(name: object) -> None:
    """An error that begins with ``name`` where pydicom is not installed."""
    if find_spec("pydicom") is None:
        raise DataError(f"{name}: expected pydicom to read DICOM files, got none; run pip install 'ifam[medical]'")


def read_dicom(path: "ImageFile") -> Image.Image:
    """The first frame, as a radiologist would see it: what is bright is dense.

    Grey values go through the file's modality table and its window (or table of values) to 0–255; where it has
    neither, the darkest pixel becomes 0 and the brightest 255, padding left aside. MONOCHROME1 is turned over.
    pydicom's own errors pass.
    """
    require_pydicom(path)
    with _opened(path) as file:
        dataset = _read_header(path, file)
        pixels = int(dataset.Rows) * int(dataset.Columns)
        if pixels > (Image.MAX_IMAGE_PIXELS or np.inf):
            raise Image.DecompressionBombError
        file.allow(PER_PIXEL * pixels)
        values = _first_frame(path, file, dataset)
    if values.ndim == 3 and values.dtype == np.uint8:
        return Image.fromarray(values)
    interpretation = dataset.PhotometricInterpretation
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: expected grey values or RGB of 8 bits, got {interpretation}; convert the image")
    if values.itemsize > 2:  # a table of all that 32 bits can say would take 16 GiB
        bits = 8 * values.itemsize
        raise DataError(f"{path}: expected grey values of at most 16 bits, got {bits}; convert the image")
    stored = values.view(np.dtype(f"u{values.itemsize}"))
    table = _eight_bits(stored, values.dtype, dataset)
    if interpretation == "MONOCHROME1":
        table = 255 - table
    # row by row: indices are eight bytes each, and an image may have 89 million pixels
    return Image.fromarray(np.stack([table[row] for row in stored]))


def dicom_size(path: "ImageFile") -> tuple[int, int]:
    """(width, height) from the header alone."""
    require_pydicom(path)
    with _opened(path) as file:
        dataset = _read_header(path, file)
        return int(dataset.Columns), int(dataset.Rows)


def _opened(path: "ImageFile") -> BoundedFile:
    return BoundedFile(path.open("rb", buffering=0) if isinstance(path, Path) else path.open(), path, HEADER)


def _read_header(path: "ImageFile", file: BoundedFile) -> "Dataset":
    """What is known of the pixels, with ``file`` at their element.

    A file that is deflated is refused: it would be inflated whole, whatever its size, before anything could be asked.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    read_preamble(file, force=True)
    header = read_dataset(file, False, True, stop_when=lambda tag, *_: _is_behind_meta(path, tag))
    if header.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DataError(f"{path}: expected a DICOM file that is not deflated as a whole, got one that is; convert it")
    file.seek(0)
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
    for group in _GROUPS:
        for tables in _functional_groups(dataset, group):
            dataset.update({element.tag: element for element in tables if element.tag not in dataset})
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError(f"{path}: expected a DICOM file with a picture, got one without, as a plan is; take it out")
    for name in ("WindowCenter", "WindowWidth"):
        if name in dataset and not dataset[name].VM:
            del dataset[name]  # there but empty
    return dataset


def _is_behind_meta(path: "ImageFile", tag: "BaseTag") -> bool:
    if tag.group == 0:  # as in a hole of a file, which may have gigabytes of them
        raise DataError(f"{path}: expected a DICOM file, got zeros where its elements should be; replace the file")
    return tag.group != 2


def _functional_groups(dataset: "Dataset", name: str) -> list["Dataset"]:
    """Of the first frame and of all frames, in a file that tells them apart."""
    found = []
    for sequence in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for groups in (dataset.get(sequence) or [])[:1]:
            found += list((groups.get(name) or [])[:1])
    return found


def _first_frame(path: "ImageFile", file: BoundedFile, dataset: "Dataset") -> NDArray[Any]:
    """(rows, columns), or with three samples behind, of a ``file`` that is at its pixel data."""
    from pydicom.pixels.utils import as_pixel_options

    decoder = _decoder(path, dataset)
    options = as_pixel_options(dataset, **_enter_pixel_data(path, file, dataset))
    try:
        frame: NDArray[Any] = decoder.as_array(file, index=0, **options)[0]
    except RuntimeError as error:  # of every package that is installed, in lines
        reason = " ".join(str(error).partition("\n")[2].split()) or first_line(error)
        remedy = _to_install(decoder.missing_dependencies)
        hint = f", or run {remedy}, which may decode it" if remedy else ""
        raise DataError(
            f"{path}: expected {decoder.UID.name} that can be decoded, got an error ({reason}); replace the file{hint}"
        ) from None
    return frame


def _decoder(path: "ImageFile", dataset: "Dataset") -> "Decoder":
    """What decodes a file's pixels; an error says which package would, where none that is installed does."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # a film, for instance
        raise DataError(f"{path}: expected a picture that pydicom can decode, got {syntax.name}; convert it") from None
    if decoder.is_available:
        return decoder
    remedy = _to_install(decoder.missing_dependencies)
    raise DataError(f"{path}: expected a package that decodes {syntax.name}, got none; run {remedy}")


def _enter_pixel_data(path: "ImageFile", file: BoundedFile, dataset: "Dataset") -> dict[str, str]:
    """What pydicom has to know of the element of the pixels, with ``file`` behind its length.

    Pixel data that says it is much longer than the pixels is refused, and so is a JPEG frame of far too many scans.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

    syntax = dataset.file_meta.TransferSyntaxUID
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    head = file.read(8)
    vr = head[4:6].decode("latin-1") if head[4:6].isalpha() else "OW"  # some files lack it where their syntax has it
    if head[4:6].isalpha():
        head += file.read(4)
    length, frames = int.from_bytes(head[-4:], order), int(dataset.get("NumberOfFrames") or 1)
    pixels = int(dataset.Rows) * int(dataset.Columns)
    expected = pixels * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.BitsAllocated) // 8 * frames
    if not syntax.is_encapsulated and length > expected + HEADER:
        raise DataError(
            f"{path}: expected pixel data of {expected:,} bytes for its {dataset.Rows} × {dataset.Columns} pixels, "
            f"got an element of {length:,}; replace the file"
        )
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        here = file.tell()
        check_scans(get_frame(file, 0, number_of_frames=frames), pixels, path)
        file.seek(here)
    return {"pixel_keyword": _PIXEL_DATA[int.from_bytes(head[2:4], order)], "pixel_vr": vr}


def _to_install(missing: Sequence[str]) -> str:
    """What pip can do about decoders as pydicom lists them: "name - requires one>=1.0 and another>=2.0"."""
    packages = [[_PIP.get(name, name) for name in re.findall(r"([\w-]+)>=", line)] for line in missing]
    packages.sort(key=lambda names: "python-gdcm" in names)  # the largest comes last
    return "pip install " + ", or ".join(" ".join(names) for names in packages if names) if any(packages) else ""


def _eight_bits(stored: NDArray[Any], kind: np.dtype[Any], dataset: "Dataset") -> NDArray[np.uint8]:
    """What every value that can be stored becomes, 0 to 255; ``stored`` are those that are, ``kind`` their type."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = np.arange(2 ** (8 * stored.itemsize), dtype=stored.dtype).view(kind)
    grey = apply_modality_lut(values, dataset)
    shown = grey[_present(stored) & ~_padding(values, dataset)]
    if dataset.get("VOILUTSequence") or ("WindowCenter" in dataset and "WindowWidth" in dataset):
        low, high = _range(dataset)
        grey = apply_voi_lut(grey, dataset)
    elif shown.size and shown.min() < shown.max():
        low, high = float(shown.min()), float(shown.max())
    else:  # one value has no contrast to show
        low, high = _range(dataset)
    if not 0 < high - low < np.inf:
        raise ValueError(f"its grey values go from {low:g} to {high:g}")
    eight: NDArray[np.uint8] = np.rint(255 * np.clip((grey - low) / (high - low), 0, 1)).astype(np.uint8)
    return eight


def _present(stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Of every value that can be stored, whether it is."""
    present = np.zeros(2 ** (8 * stored.itemsize), dtype=np.bool_)
    for row in stored:
        present[row] = True
    return present


def _padding(values: NDArray[Any], dataset: "Dataset") -> NDArray[np.bool_]:
    """Which values stand for no part of the picture, as around the circle of a scanner."""
    ends = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    # read with or without a sign, they mean the same bits
    numbers = [values[int(end) % len(values)] for end in ends if isinstance(end, int)]
    if not numbers:
        return np.zeros(len(values), dtype=np.bool_)
    padding: NDArray[np.bool_] = (values >= min(numbers)) & (values <= max(numbers))
    return padding


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
