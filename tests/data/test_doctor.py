import shutil

import pytest

from ifam.data.folders import read_folders
from ifam.data.metadata import read_metadata
from ifam.data.table import ImageTable
from ifam.doctor import diagnose_data, diagnose_machine


def folders(root, draw, **images) -> ImageTable:
    """Class or split folders with so many images of different colours."""
    shade = 0
    for folder, count in images.items():
        for i in range(count):
            shade += 1
            draw(root / folder.replace("_", "/") / f"{i}.png", size=(10 + i, 20), color=(shade, 0, 0))
    return read_folders(root)


def test_what_is_understood(scenes):
    told = []
    diagnosis = diagnose_data(read_metadata(scenes), progress=lambda done, total: told.append((done, total)))
    assert diagnosis.layout == "metadata.csv"
    assert diagnosis.classes["val"] == {"finch": 2, "gull": 2}
    assert diagnosis.groups["test"] == {"finch/land": 1, "finch/sea": 1, "gull/land": 1, "gull/sea": 1}
    assert (diagnosis.num_images, diagnosis.num_checked, diagnosis.num_masks) == (12, 12, 12)
    assert (diagnosis.num_keypoints, diagnosis.num_boxes) == (12, 1)
    assert diagnosis.unreadable == diagnosis.leaks == ()
    assert "group gull/sea has 1 training image" in diagnosis.warnings
    assert told == [(i, 12) for i in range(1, 13)]


def test_bad_files_are_named(scenes):
    (scenes / "images/3.jpg").write_bytes(b"not an image")
    (scenes / "masks/images/4.png").unlink()
    diagnosis = diagnose_data(read_metadata(scenes))
    (message,) = diagnosis.unreadable
    assert "images/3.jpg" in message
    assert any(line.startswith("val: 3 of 4 images have masks") for line in diagnosis.warnings)
    assert any("images/3.jpg" in line for line in diagnosis.lines())


def test_the_same_file_in_two_splits(tmp_path, draw):
    folders(tmp_path, draw, train_a=2, train_b=2, test_a=1, test_b=1)
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "test/b/copy.png")
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "train/a/copy.png")  # within one split nothing leaks
    diagnosis = diagnose_data(read_folders(tmp_path))
    (leak,) = diagnosis.leaks
    assert set(leak) == {"train/a/1.png", "test/b/copy.png"}
    assert any(line.startswith("no val split: training holds out") for line in diagnosis.warnings)


def test_sizes_imbalance_and_missing_information(tmp_path, draw):
    diagnosis = diagnose_data(folders(tmp_path, draw, cat=11, dog=1))
    assert diagnosis.sizes is not None
    assert (diagnosis.sizes.smallest, diagnosis.sizes.largest) == ((10, 20), (20, 20))
    assert diagnosis.sizes.median == (14, 20)  # of 10, 10, 11, ... 20: between 14 and 15, rounded to even
    assert diagnosis.classes == {"all": {"cat": 11, "dog": 1}}
    text = "\n".join(diagnosis.warnings)
    assert "no train, val and test splits" in text
    assert "worst-group accuracy cannot be computed" in text
    assert "class dog has 1 training image" in diagnosis.warnings
    assert "class cat has 7 training images" in text


def test_a_part_of_the_images(tmp_path, draw):
    diagnosis = diagnose_data(folders(tmp_path, draw, cat=10, dog=10), max_images=5)
    assert (diagnosis.num_checked, diagnosis.num_images) == (5, 20)


def test_many_classes_are_summed_up(tmp_path, draw):
    diagnosis = diagnose_data(folders(tmp_path, draw, **{f"c{i}": 1 + i % 2 for i in range(13)}))
    assert "classes (all): 13 with 1 to 2 images each" in diagnosis.lines()


def test_machine():
    diagnosis = diagnose_machine()
    assert diagnosis.cpus >= 1
    assert set(diagnosis.packages) == {"torch", "torchvision", "timm", "lightning"}
    assert len(diagnosis.lines()) == 4


def test_images_that_are_not_square(tmp_path, draw):
    diagnosis = diagnose_data(folders(tmp_path / "oblong", draw, cat=11, dog=1))  # one of them 20 × 20
    assert any(
        line.startswith("11 of 12 images are not square") and "centre crop" in line for line in diagnosis.warnings
    )
    draw(tmp_path / "square/cat/1.png", size=(8, 8))
    draw(tmp_path / "square/dog/1.png", size=(9, 9))
    assert not any("square" in line for line in diagnose_data(read_folders(tmp_path / "square")).warnings)


def test_class_imbalance(tmp_path, draw):
    warnings = diagnose_data(folders(tmp_path, draw, train_cat=11, train_dog=1, val_cat=1, val_dog=1)).warnings
    assert "class imbalance: 11 training images of cat, 1 of dog" in warnings


def test_training_images_are_those_that_training_would_take(tmp_path, draw):
    for name, count in (("a/sea", 30), ("a/wood", 22), ("b/sea", 30)):
        for number in range(count):
            draw(tmp_path / name / f"{number}.png")
    warnings = diagnose_data(read_folders(tmp_path)).warnings
    assert [line for line in warnings if line.startswith("group")] == ["group a/wood has 15 training images"]


def test_no_test_split(tmp_path, draw):
    assert any(
        line.startswith("no test split")
        for line in diagnose_data(folders(tmp_path, draw, train_a=9, train_b=9, val_a=3)).warnings
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"a": 1, "b": 1}, "training would be refused: expected two images of at least one class"),
        ({"train_a": 1, "train_b": 1, "test_a": 3}, "got 2 images, each of a class of its own; add images"),
        ({"a": 3, "b": 3}, "too few images for a test split, which takes four of one class"),
        ({"a": 4, "b": 1}, None),
        ({"train_a": 2, "train_b": 1}, None),
        ({"train_a": 1, "train_b": 1, "val_a": 1}, None),
        ({"test_a": 1, "test_b": 1}, None),
        ({"a": 5}, "one class alone, a: enough to evaluate a model on, not to train one"),
    ],
    ids=str,
)
def test_too_little_to_train_on(tmp_path, draw, images, said):
    warnings = diagnose_data(folders(tmp_path, draw, **images)).warnings
    found = [line for line in warnings if any(word in line for word in ("refused", "too few", "alone"))]
    assert len(found) == (said is not None)
    assert all(said in line for line in found)
