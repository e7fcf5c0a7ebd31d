import io

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit

from ifam.data import dicom
from ifam.data.images import image_size, open_image
from ifam.data.read import read_table


def grey(path):
    image = open_image(path)
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


def test_eight_bits_are_taken_as_they_are(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[0, 7, 255], [1, 2, 3]]))
    assert grey(path) == [[0, 7, 255], [1, 2, 3]]
    assert image_size(path) == (3, 2)


def test_a_file_without_a_picture_is_called_one(tmp_path, write_dicom, refuses):
    path = write_dicom(tmp_path / "plan.dcm", np.uint8([[0, 7, 255]]))
    dataset = dcmread(path)
    for name in ("Rows", "Columns", "PixelData"):
        del dataset[name]
    dataset.save_as(path)
    for read in (open_image, image_size):
        with refuses("plan.dcm", "expected a DICOM file with a picture, got one without"):
            read(path)


def test_stored_bits_give_the_range(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "x.dcm", np.uint16([[0, 819, 4095]]), BitsStored=12, HighBit=11)
    assert grey(path) == [[0, 51, 255]]
    path = write_dicom(tmp_path / "y.DCM", np.int16([[-2048, 0, 2047]]), BitsStored=12, HighBit=11)
    assert grey(path) == [[0, 128, 255]]


def test_monochrome1_is_turned_over(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[0, 100, 255]]), PhotometricInterpretation="MONOCHROME1")
    assert grey(path) == [[255, 155, 0]]


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_window(tmp_path, write_dicom, interpretation):
    """By DICOM PS3.3 C.11.2.1.2.1: (x − (c − 0.5)) / (w − 1) + 0.5 of the range, cut at its ends."""
    values, center, width = np.array([0, 999, 1000, 1500, 1777, 2000, 2001, 4095]), 1500, 1001
    path = write_dicom(
        tmp_path / "x.dcm",
        np.uint16([values]),
        BitsStored=12,
        HighBit=11,
        WindowCenter=[center, 7],  # of several the first
        WindowWidth=[width, 9],
        PhotometricInterpretation=interpretation,
    )
    shares = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    shares = 1 - shares if interpretation == "MONOCHROME1" else shares
    np.testing.assert_allclose(grey(path)[0], 255 * shares, atol=0.5)


def test_rescaled_values_meet_the_window(tmp_path, write_dicom):
    path = write_dicom(
        tmp_path / "x.dcm",
        np.uint16([[0, 1000, 2000]]),
        BitsStored=12,
        HighBit=11,
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=1000.5,
        WindowWidth=4001,
    )
    assert grey(path) == [[0, 128, 255]]


def test_table_of_values(tmp_path, write_dicom):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "US", [65535, 0, 257, 25700])
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[0, 1, 2, 3]]), VOILUTSequence=[item])
    assert grey(path) == [[255, 0, 1, 100]]


def test_an_empty_window_is_none(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[0, 100, 255]]), WindowCenter=None, WindowWidth=None)
    assert grey(path) == [[0, 100, 255]]


def test_first_frame_and_colour(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[[1, 2]], [[0, 4]]]), NumberOfFrames=2)
    assert grey(path) == [[0, 255]]
    path = write_dicom(
        tmp_path / "y.dcm",
        np.uint8([[[1, 2, 3], [4, 5, 6]]]),
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
    )
    assert np.asarray(open_image(path)).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_jpeg_inside_as_the_competition_has_it(tmp_path, write_dicom):
    values = np.add.outer(np.arange(0, 96, 3), np.arange(0, 160, 5)).astype(np.uint8)  # 0 to 248
    values[-1, -1] = 255
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG", quality=95)
    path = write_dicom(tmp_path / "x.dcm", values)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path)
    assert np.abs(np.array(grey(path)) - values).max() <= 4


def test_refused(tmp_path, write_dicom, refuses, monkeypatch):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[1]]), PhotometricInterpretation="PALETTE COLOR")
    with refuses(path, "PALETTE COLOR", "convert"):
        open_image(path)
    (tmp_path / "y.dcm").write_bytes(b"not DICOM")
    for read in (open_image, image_size):
        with refuses(tmp_path / "y.dcm", "cannot be read"):
            read(tmp_path / "y.dcm")
    path = write_dicom(tmp_path / "z.dcm", np.zeros((9, 9), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)
    with refuses(path, "at most 80 pixels"):
        open_image(path)


def test_without_pydicom_the_extra_is_named(tmp_path, write_dicom, refuses, monkeypatch):
    path = write_dicom(tmp_path / "x.dcm", np.uint8([[1]]))
    monkeypatch.setattr(dicom, "find_spec", lambda name: None)
    for read in (open_image, image_size):
        with refuses(path, "pydicom", "pip install 'ifam[medical]'"):
            read(path)


def test_class_folders_may_hold_dicom_files(tmp_path, write_dicom):
    for name in ("a", "b"):
        write_dicom(tmp_path / name / "1.dcm", np.uint8([[1]]))
    assert read_table(tmp_path).class_counts() == {"a": 1, "b": 1}


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path, write_dicom, refuses):
    path = write_dicom(tmp_path / "x.dcm", np.zeros((4, 4), np.uint8))
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    for read in (open_image, image_size):
        with refuses(path, "deflated"):
            read(path)


def test_every_stored_value_goes_through_tables_and_window(tmp_path, write_dicom):
    """A table of all values, looked up, against the values themselves."""
    values = np.arange(-(2**15), 2**15, dtype=np.int16).reshape(256, 256)
    options = {"RescaleSlope": "2", "RescaleIntercept": "-7", "WindowCenter": "900", "WindowWidth": "30000"}
    path = write_dicom(tmp_path / "x.dcm", values, **options)
    dataset = dcmread(path)
    low, high = -(2**16) - 7, 2 * (2**15 - 1) - 7
    shares = (apply_voi_lut(apply_modality_lut(values, dataset), dataset) - low) / (high - low)
    expected = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    assert (np.asarray(open_image(path))[..., 0] == expected).all()


@pytest.mark.parametrize("kind", [np.uint32, np.int32])
def test_more_than_16_bits_are_refused_before_a_table_of_all_values(tmp_path, write_dicom, refuses, kind):
    with refuses("x.dcm", "at most 16 bits, got 32; convert"):
        open_image(write_dicom(tmp_path / "x.dcm", kind([[1, 2]])))


def test_grey_values_without_a_range(tmp_path, write_dicom, refuses):
    path = write_dicom(tmp_path / "x.dcm", np.zeros((4, 4), np.uint8), BitsStored=0)
    with refuses(path, "expected an image"):
        open_image(path)
