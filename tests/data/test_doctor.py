import shutil

import numpy as np
import pytest
from PIL import Image

from ifam.data.folders import read_folders
from ifam.data.metadata import read_metadata
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.tables import read_table_file
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
    small = "4 groups have fewer than 20 training images: finch/land 1, finch/sea 1, gull/land 1, gull/sea 1"
    assert small in diagnosis.warnings
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
    assert "2 classes have fewer than 10 training images: dog 1, cat 7" in diagnosis.warnings


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


def test_one_small_class_has_a_line_of_its_own(tmp_path, draw):
    warnings = diagnose_data(folders(tmp_path, draw, cat=20, dog=1)).warnings
    assert "class dog has 1 training image" in warnings


def test_many_small_classes_have_one_line(tmp_path, draw):
    warnings = diagnose_data(folders(tmp_path, draw, **{f"species{number}": 3 for number in range(12)})).warnings
    (line,) = [line for line in warnings if "training images:" in line]
    assert line.startswith("12 classes have fewer than 10 training images: species0 ")
    assert line.endswith(" and 4 more")


def test_training_images_are_those_that_training_would_take(tmp_path, draw):
    for shade, (name, count) in enumerate((("a/sea", 30), ("a/wood", 22), ("b/sea", 30))):
        for number in range(count):
            draw(tmp_path / name / f"{number}.png", color=(number, shade, 0))
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


def test_copies_are_counted_and_kept_together(tmp_path, draw):
    folders(tmp_path, draw, a=10, b=10)
    for number in range(10):
        shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"a/{number} (1).png")
    shutil.copy(tmp_path / "a/3.png", tmp_path / "b/other.png")
    diagnosis = diagnose_data(read_folders(tmp_path))
    assert (diagnosis.num_copies, diagnosis.leaks) == (11, ())
    assert "copies: 11 of other images" in diagnosis.lines()
    assert "3 images are in two classes: a/3 (1).png and a/3.png and b/other.png" in diagnosis.warnings


def test_two_labels_for_an_image_are_named_with_their_rows(tmp_path, draw):
    for number in range(3):
        draw(tmp_path / f"{number}.png", color=(number, 0, 0))
    (tmp_path / "t.csv").write_text("path,label\n0.png,a\n1.png,b\n2.png,a\n0.png,b\n")
    warnings = diagnose_data(read_table_file(tmp_path / "t.csv")).warnings
    assert "training would be refused: two labels for 1 image: 0.png in rows 1 (a), 4 (b)" in warnings


def test_groups_that_look_like_patients(tmp_path, draw):
    images = {f"{kind}_{kind}{number}": 3 for kind in ("sick", "well") for number in range(6)}
    (warning,) = [line for line in diagnose_data(folders(tmp_path, draw, **images)).warnings if "--split-by" in line]
    assert warning.startswith("12 groups of about 3 images each look like patients")


def test_classes_that_are_named_as_a_missing_value(tmp_path, draw):
    warnings = diagnose_data(folders(tmp_path, draw, **{"nan": 4, "None": 4})).warnings
    assert [line.partition(":")[0] for line in warnings if "missing value" in line] == ["class nan"]


def test_dark_images_of_16_bits(tmp_path):
    for label in "ab":
        for number in range(3):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((9, 9), 4000 + number, np.uint16)).save(path)
    (line,) = [line for line in diagnose_data(read_table(tmp_path)).warnings if "16 bits" in line]
    assert line.startswith("all 6 images of 16 bits use at most 12")
    Image.fromarray(np.full((9, 9), 60_000, np.uint16)).save(tmp_path / "a/0.png")
    assert not [line for line in diagnose_data(read_table(tmp_path)).warnings if "16 bits" in line]
