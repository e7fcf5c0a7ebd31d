from pathlib import Path

import pytest

from ifam.data.folders import read_folders
from ifam.training.splits import prepare_splits


def test_classes_without_splits(tmp_path, draw):
    for name in ("b/1.png", "a/2.JPG", "a/deep/er/3.png"):
        draw(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "._2.jpg").write_bytes(b"left by a file manager")
    table = read_folders(tmp_path)
    assert table.class_names == ("a", "b")
    assert table.splits == ()
    assert [sample.name for sample in table.samples] == ["a/2.JPG", "a/deep/er/3.png", "b/1.png"]
    assert [sample.label for sample in table.samples] == [0, 0, 1]


def test_without_subfolders_there_are_no_groups(tmp_path, draw):
    draw(tmp_path / "a/1.png")
    draw(tmp_path / "b/1.png")
    table = read_folders(tmp_path)
    assert table.group_names == ()
    assert {sample.group for sample in table.samples} == {None}


def test_groups_are_subfolders_of_the_class(tmp_path, draw):
    for name in ("cat/cat(sofa)/1.jpg", "cat/cat(bed)/x/2.jpg", "cat/3.jpg", "dog/4.jpg"):
        draw(tmp_path / name)
    table = read_folders(tmp_path)
    assert table.group_counts() == {"cat": 1, "cat/cat(bed)": 1, "cat/cat(sofa)": 1, "dog": 1}


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_splits_above_classes(tmp_path, draw, validation):
    for name in ("train/a/1.png", "train/b/1.png", f"{validation}/b/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    table = read_folders(tmp_path)
    assert table.class_names == ("a", "b")
    assert {sample.name.split("/")[0]: sample.split for sample in table.samples} == {
        "train": "train",
        validation: "val",
        "test": "test",
    }


def test_a_class_may_be_called_train(tmp_path, draw):
    for name in ("bus", "car", "train"):
        draw(tmp_path / name / "1.png")
    assert read_folders(tmp_path).class_names == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("train/a/1.png", "test/b/1.png", "masks/a/1.png"), "masks"),
        (("val/a/1.png", "valid/b/1.png"), "val, valid"),
    ],
)
def test_refused(tmp_path: Path, draw, refuses, files, said):
    for name in files:
        draw(tmp_path / name)
    with refuses(tmp_path, said):
        read_folders(tmp_path)


def test_one_class_is_enough_to_evaluate_on_and_not_to_train(tmp_path, draw, refuses):
    for i in range(5):
        draw(tmp_path / f"a/{i}.png")
    table = read_folders(tmp_path)
    assert table.align(("b", "a")).class_counts() == {"b": 0, "a": 5}
    with refuses(tmp_path, "at least two classes, got a; add images of another"):
        prepare_splits(table, seed=0)


def test_split_folders_without_classes(tmp_path, refuses):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with refuses(tmp_path, "class folders with images, got none"):
        read_folders(tmp_path)


def test_empty_class_folder_is_named(tmp_path, draw, refuses):
    draw(tmp_path / "train/a/1.png")
    (tmp_path / "train" / "b").mkdir()
    with refuses(tmp_path / "train" / "b"):
        read_folders(tmp_path)
