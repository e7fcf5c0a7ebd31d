"""DICOM files without a window: their own darkest and brightest pixel are black and white."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, examples
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, UID, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

from ifam.data.images import image_size, open_image
from ifam.errors import DataError

Write = Callable[..., Path]
RAMP = np.arange(900, dtype=np.uint16).reshape(30, 30)


def grey(path: Path) -> NDArray[Any]:
    return np.asarray(open_image(path))[..., 0]


def stretched(values: NDArray[Any]) -> NDArray[Any]:
    low, high = float(values.min()), float(values.max())
    return np.rint(255 * (values - low) / (high - low))


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (RAMP, {}),
        (RAMP + 30_000, {}),
        (RAMP.astype(np.int16) - 400, {}),
        (RAMP.astype(np.int16) - 32_000, {}),
        (RAMP, {"BitsStored": 12, "HighBit": 11}),
        ((RAMP // 9 + 40).astype(np.uint8), {}),
        (RAMP, {"RescaleSlope": "2.5", "RescaleIntercept": "-1024"}),
        (RAMP, {"WindowCenter": None, "WindowWidth": None}),
        (RAMP, {"WindowCenter": "40"}),  # half a window is none
    ],
)
def test_darkest_and_brightest(tmp_path: Path, write_dicom: Write, values: NDArray[Any], tags: dict[str, Any]) -> None:
    path = write_dicom(tmp_path / "x.dcm", values, **tags)
    assert (grey(path) == stretched(values.astype(float))).all()
    path = write_dicom(tmp_path / "y.dcm", values, PhotometricInterpretation="MONOCHROME1", **tags)
    assert (grey(path) == 255 - stretched(values.astype(float))).all()


def test_a_falling_slope_turns_the_greys_over(tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "x.dcm", RAMP, RescaleSlope="-1", RescaleIntercept="0")
    assert (grey(path) == stretched(-RAMP.astype(float))).all()


def test_modality_table(tmp_path: Path, write_dicom: Write) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "US", [500, 100, 300, 200])
    item.add_new("ModalityLUTType", "LO", "US")
    path = write_dicom(tmp_path / "x.dcm", np.array([[0, 1, 2, 3]], np.uint8), ModalityLUTSequence=[item])
    assert grey(path).tolist() == [[255, 0, 128, 64]]


@pytest.mark.parametrize(
    ("padding", "limit"), [(-2000, None), (-2000, -1900), (3000, None), (-1900, -2000), (65536 - 2000, None)]
)
def test_padding_does_not_count(tmp_path: Path, write_dicom: Write, padding: int, limit: int | None) -> None:
    values = RAMP.astype(np.int16) - 400
    values[:2] = np.int16(padding if padding < 2**15 else padding - 2**16)
    values[2:4] = values[0] if limit is None else (padding + limit) // 2
    signs = {"PixelPaddingValue": padding} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    path = write_dicom(tmp_path / "x.dcm", values, PixelRepresentation=1)
    dataset = dcmread(path)
    for name, value in signs.items():
        dataset.add_new(name, "SS" if value < 2**15 else "US", value)
    dataset.save_as(path)
    assert (grey(path)[4:] == stretched(values[4:].astype(float))).all()
    assert set(np.unique(grey(path)[:4])) <= {0, 255}


@pytest.mark.parametrize("padding", [None, 7])
def test_one_value_alone_has_no_contrast(tmp_path: Path, write_dicom: Write, padding: int | None) -> None:
    path = write_dicom(tmp_path / "x.dcm", np.full((4, 4), 7, np.uint16), PixelPaddingValue=padding)
    assert len(np.unique(grey(path))) == 1


def test_windows_of_a_file_that_tells_its_frames_apart(tmp_path: Path, write_dicom: Write) -> None:
    window, groups = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = "450", "101"
    groups.FrameVOILUTSequence = [window]
    frames = np.stack([RAMP, RAMP[::-1]])
    single = write_dicom(tmp_path / "x.dcm", RAMP, WindowCenter="450", WindowWidth="101")
    for where in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        path = write_dicom(tmp_path / "y.dcm", frames, NumberOfFrames=2, **{where: [groups]})
        assert (grey(path) == grey(single)).all()


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm"])
def test_files_of_pydicom(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    dataset = dcmread(path)
    if "WindowCenter" not in dataset:
        assert (grey(path) == stretched(dataset.pixel_array.astype(float))).all()
    assert image_size(path) == grey(path).shape[::-1]


def test_colour_is_as_pydicom_decodes_it() -> None:
    path = Path(examples.get_path("rgb_color"))
    assert (np.asarray(open_image(path)) == dcmread(path).pixel_array).all()


def test_a_jpeg_file_that_leaves_out_the_types_of_its_elements() -> None:
    path = Path(str(get_testdata_file("SC_rgb_jpeg.dcm", download=False)))
    assert open_image(path).size == (256, 256)


@pytest.mark.parametrize(
    ("syntax", "packages"),
    [
        (JPEGLosslessSV1, "pip install pylibjpeg pylibjpeg-libjpeg, or python-gdcm"),
        (JPEGLSLossless, "pyjpegls"),
    ],
)
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, write_dicom: Write, syntax: str, packages: str, refuses: Any
) -> None:
    path = _encapsulated(write_dicom(tmp_path / "x.dcm", RAMP), syntax)
    with refuses(path, "expected a package that decodes JPEG", packages):
        open_image(path)
    assert image_size(path) == (30, 30)


def test_what_the_packages_that_are_there_cannot_decode(tmp_path: Path, write_dicom: Write, refuses: Any) -> None:
    path = _encapsulated(write_dicom(tmp_path / "x.dcm", RAMP), JPEGExtended12Bit)
    with refuses(path, "JPEG Extended", "pillow", "pip install pylibjpeg pylibjpeg-libjpeg"):
        open_image(path)


def test_films_are_no_pictures(tmp_path: Path, write_dicom: Write, refuses: Any) -> None:
    path = _encapsulated(write_dicom(tmp_path / "x.dcm", RAMP), MPEG2MPML)
    with refuses(path, "a picture", "MPEG2"):
        open_image(path)


def _encapsulated(path: Path, syntax: str) -> Path:
    from pydicom.encaps import encapsulate

    dataset = dcmread(path)
    dataset.PixelData = encapsulate([b"no stream"])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.save_as(path)
    return path


def test_errors_are_one_line(tmp_path: Path, write_dicom: Write) -> None:
    path = _encapsulated(write_dicom(tmp_path / "x.dcm", RAMP), JPEGLosslessSV1)
    with pytest.raises(DataError) as raised:
        open_image(path)
    assert "\n" not in str(raised.value)
    assert not str(raised.value).rstrip().endswith((":", ":)"))
