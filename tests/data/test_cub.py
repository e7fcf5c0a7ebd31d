import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ifam.data.masks import open_mask
from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.doctor import diagnose_data
from ifam.preprocessing import Preprocessing


def test_everything_that_the_folder_holds(cub):
    table = read_table(cub)
    assert table.layout == "CUB-200-2011"
    assert table.class_names == ("001.Black_footed_Albatross", "002.Crow")
    assert table.group_names == ()
    assert table.keypoint_names == ("beak", "left eye")
    assert [sample.label for sample in table.samples] == [0, 0, 1, 1]
    assert [sample.split for sample in table.samples] == ["train", "test", "train", "test"]
    assert [len(sample.keypoints) for sample in table.samples] == [1, 2, 2, 2]
    first = table.samples[0]
    assert first.name == "images/001.Black_footed_Albatross/a.jpg"
    assert first.keypoints == {"left eye": (7.0, 4.5)}  # its beak is not visible
    assert first.box == (5, 1, 10, 5)
    assert first.mask == cub.parent / "segmentations/001.Black_footed_Albatross/a.png"


def test_masks_may_lie_inside_or_be_absent(cub):
    shutil.move(cub.parent / "segmentations", cub / "segmentations")
    assert all(cub in sample.mask.parents for sample in read_table(cub).samples)
    (cub / "segmentations/002.Crow/d.png").unlink()
    assert [sample.mask is None for sample in read_table(cub).samples] == [False, False, False, True]


def test_soft_masks_of_several_annotators_are_cut_at_half(cub):
    """The published masks hold sixth steps of 255, how many of the annotators marked the pixel."""
    path = read_table(cub).samples[0].mask
    Image.fromarray(np.uint8([[0, 51, 102, 153, 204, 255]])).save(path)
    assert open_mask(path, size=(6, 1)).tolist() == [[False, False, False, True, True, True]]


def test_the_unit_of_the_keypoint_error_is_the_box(cub):
    data = ImageDataModule(
        read_table(cub),
        Preprocessing(image_size=(30, 60), resize="squash"),
        augmentation="none",
        batch_size=4,
        workers=0,
        seed=0,
        annotations=True,
    )
    (batch,) = data.loader("train")
    torch.testing.assert_close(
        batch.boxes, torch.tensor([[15.0, 3.0, 30.0, 15.0], [15.0, 3.0, 30.0, 21.0]])
    )  # three times 10 × 5, 10 × 7
    assert batch.visible.tolist() == [[False, True], [True, True]]
    torch.testing.assert_close(batch.keypoints[0, 1], torch.tensor([21.0, 13.5]))
    assert batch.masks.all()


def test_diagnosis(cub):
    diagnosis = diagnose_data(read_table(cub))
    assert diagnosis.lines()[0].endswith("4 images (CUB-200-2011)")
    assert (diagnosis.num_masks, diagnosis.num_keypoints, diagnosis.num_boxes) == (4, 4, 4)
    assert diagnosis.unreadable == ()


@pytest.mark.parametrize("name", ["images.txt", "classes.txt", "train_test_split.txt", "parts/part_locs.txt"])
def test_a_missing_file_is_named_beside_the_tree(cub, refuses, name):
    (cub / name).unlink()
    with refuses(cub, f"got no {name}", "CUB-200-2011", "bounding_boxes.txt", "segmentations/<class>"):
        read_table(cub)


@pytest.mark.parametrize("left", ["images.txt", "train_test_split.txt", "parts/part_locs.txt"])
def test_one_of_its_files_tells_it_from_class_folders(cub, refuses, left):
    for path in [*cub.glob("*.txt"), *cub.glob("parts/*.txt")]:
        if path != cub / left:
            path.unlink()
    shutil.move(cub.parent / "segmentations", cub)  # images and segmentations would be two classes
    with refuses(cub, "CUB-200-2011", "classes.txt", "segmentations/<class>", "complete the folder"):
        read_table(cub)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("images.txt", "1\n", ["2 fields", "'1' in line 1"]),
        ("images.txt", "", ["an empty file"]),
        ("images.txt", "1 002.Crow/gone.jpg\n", ["row 1", "gone.jpg", "1 of 1 missing"]),
        ("images.txt", "1 ../../elsewhere.jpg\n", ["inside"]),
        ("image_class_labels.txt", "1 1\n", ["line for every image", "3 of 4", "image 2"]),
        ("image_class_labels.txt", "1 9\n2 1\n3 2\n4 2\n", ["image 1", "expected class", "'9'"]),
        ("train_test_split.txt", "1 x\n2 0\n3 1\n4 0\n", ["image 1", "0 or 1", "'x'"]),
        ("bounding_boxes.txt", "1 1 1 0 5\n2 1 1 1 1\n3 1 1 1 1\n4 1 1 1 1\n", ["image 1", "0 × 5"]),
        ("parts/part_locs.txt", "1 9 1 1 1\n", ["line 1", "expected part", "'9'"]),
        ("parts/part_locs.txt", "1 1 nan 1 1\n", ["line 1, x", "'nan'"]),
        ("classes.txt", "1 001.Black_footed_Albatross\n", ["image 3", "expected class", "'2'"]),
    ],
)
def test_refused(cub, refuses, name, text, said):
    (cub / name).write_text(text)
    with refuses(cub, name, *said):
        read_table(cub)
