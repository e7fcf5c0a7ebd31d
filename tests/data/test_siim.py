import numpy as np
import pytest
from layouts import CHESTS, write_siim
from PIL import Image

from ifam.data import dicom
from ifam.data.images import open_image
from ifam.data.masks import open_mask
from ifam.data.read import read_table
from ifam.doctor import diagnose_data


@pytest.fixture
def chests(tmp_path):
    return write_siim(tmp_path)


def images(table):
    return [sample.path.stem for sample in table.samples]


def test_labels_and_masks_come_from_the_table(chests):
    table = read_table(chests)
    assert table.layout == "SIIM-ACR pneumothorax"
    assert table.class_names == ("no pneumothorax", "pneumothorax")
    assert images(table) == ["1.1", "1.2", "1.3", "1.4"]
    assert [sample.label for sample in table.samples] == [1, 0, 0, 1]
    assert table.splits == table.group_names == ()
    assert table.has_masks
    first = table.samples[0]
    assert first.name == "dicom-images-train/study1/series/1.1.dcm"
    assert np.asarray(open_image(first.path))[0, 0].tolist() == [10, 10, 10]
    mask = open_mask(first.mask, size=(3, 4))
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [1, 0]]  # down the columns: pixels 0, 1 and 4
    assert np.argwhere(open_mask(table.samples[3].mask, size=(3, 4))).tolist() == [[3, 2]]
    assert not open_mask(table.samples[1].mask, size=(3, 4)).any()


def test_tubes_make_groups(chests):
    (chests / "tubes.csv").write_text("image_id,tube\n1.1,1\n1.2,0\n1.3,True\nother,1\n")
    table = read_table(chests)
    assert table.group_counts() == {
        "no pneumothorax/no tube": 1,
        "no pneumothorax/tube": 1,
        "pneumothorax/no tube": 0,
        "pneumothorax/tube": 1,
    }
    assert table.samples[3].group is None
    # the published split: what has a tube label is for test
    assert [sample.split for sample in table.samples] == ["test", "test", "test", "train"]


def test_lists_make_splits(chests):
    for split, found in {"train": ["1.1"], "val": ["1.2"], "test": ["1.3"]}.items():
        (chests / f"{split}.csv").write_text("\n".join(["image_id", *found]))
    table = read_table(chests)
    assert [(image, sample.split) for image, sample in zip(images(table), table.samples, strict=True)] == [
        ("1.1", "train"),
        ("1.2", "val"),
        ("1.3", "test"),
    ]


def test_without_lists_the_splits_are_made_as_elsewhere(chests):
    assert set(read_table(chests).with_splits(seed=0).splits) <= {"train", "val", "test"}


def test_masks_as_pictures_with_and_without_the_table(chests):
    (chests / "masks").mkdir()
    for image, value in {"1.1": 0, "1.2": 255}.items():
        Image.fromarray(np.full((4, 3), value, np.uint8)).save(chests / f"masks/{image}.png")
    assert [sample.label for sample in read_table(chests).samples] == [0, 1, 0, 1]
    (chests / "train-rle.csv").unlink()
    table = read_table(chests)
    assert images(table) == ["1.1", "1.2"]
    assert [sample.label for sample in table.samples] == [0, 1]


def test_copies_in_other_folders_are_one_image(chests, write_dicom):
    write_dicom(chests / "full_test_set/1/1.1.dcm", np.uint8([[9]]))
    table = read_table(chests)
    assert len(table) == 4
    assert table.samples[0].name.startswith("dicom-images-train")


def test_a_test_set_of_one_class(chests):
    (chests / "train-rle.csv").write_text("ImageId,EncodedPixels\n1.1,-1\n")
    assert read_table(chests).class_counts() == {"no pneumothorax": 1, "pneumothorax": 0}


def test_diagnosis(chests):
    (chests / "tubes.csv").write_text("image_id,tube\n1.1,1\n1.2,0\n1.3,1\n1.4,0\n")
    diagnosis = diagnose_data(read_table(chests))
    assert diagnosis.unreadable == ()
    assert (diagnosis.num_checked, diagnosis.num_masks) == (4, 4)
    assert "SIIM-ACR pneumothorax" in diagnosis.lines()[0]
    assert diagnosis.groups["all"]["pneumothorax/tube"] == 1


def test_a_code_that_does_not_fit_is_reported(chests):
    (chests / "train-rle.csv").write_text(CHESTS.replace("11 1", "11 2"))
    (message,) = diagnose_data(read_table(chests)).unreadable
    assert "train-rle.csv, 1.4" in message
    assert "3 × 4" in message


def test_incomplete_folders_show_the_tree(chests, refuses, tmp_path_factory):
    (chests / "train-rle.csv").unlink()
    with refuses(chests, "neither train-rle.csv nor masks", "<ImageId>.dcm", "tubes.csv"):
        read_table(chests)
    other = tmp_path_factory.mktemp("other")
    (other / "train-rle.csv").write_text(CHESTS)
    with refuses(other, "no DICOM file", "masks/<ImageId>.png"):
        read_table(other)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train-rle.csv", CHESTS + "1.9, -1\n", ["1 of 5", "1.9"]),
        ("train-rle.csv", "ImageId\n1.1\n", ["add EncodedPixels"]),
        ("tubes.csv", "image_id,tube\n1.1,2\n", ["tubes.csv, row 1", "'2'"]),
        ("val.csv", "image_id\n1.5\n", ["val.csv, row 1", "'1.5'"]),
        ("val.csv", "image_id\n1.1\n", ["val.csv, row 1", "'1.1' in two"]),
        ("cxr_tube_dict.pkl", "", ["tubes.csv", "pickle"]),
    ],
)
def test_refused(chests, refuses, name, text, said):
    (chests / "train.csv").write_text("image_id\n1.1\n")
    (chests / name).write_text(text)
    with refuses(chests, *said):
        read_table(chests)


def test_without_pydicom_one_line_names_the_extra(chests, refuses, monkeypatch):
    monkeypatch.setattr(dicom, "find_spec", lambda name: None)
    with refuses(chests, "pip install 'ifam[medical]'"):
        read_table(chests)
