from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import write_image, write_scenes
from layouts import write_siim

from ifam.data.given_masks import give_masks
from ifam.data.masks import open_mask
from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "data"))


def test_annotated_masks_move_with_the_images(table: ImageTable) -> None:
    given = give_masks(table, "annotated", ("train", "val"))
    assert all(sample.given_mask == sample.mask for sample in given.samples)
    preprocessing = Preprocessing(image_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    data = ImageDataModule(
        given, preprocessing, augmentation="birds", batch_size=12, workers=0, seed=0, annotations=True
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.given_masks is not None
    assert batch.given_masks.shape == (12, 32, 32)
    assert batch.given_masks.equal(batch.masks)


def test_files_of_a_folder_take_the_place_of_what_is_annotated(table: ImageTable, tmp_path: Path) -> None:
    for sample in table.samples:
        write_image((tmp_path / "found" / sample.name).with_suffix(".png"), np.full((48, 48), 255))
    given = give_masks(table, str(tmp_path / "found"), ("train", "val", "test"))
    assert {sample.given_mask for sample in given.samples}.isdisjoint(sample.mask for sample in given.samples)


def test_of_a_box_the_pixels_whose_centre_it_holds() -> None:
    mask = open_mask((2.0, 1.0, 3.4, 2.6), size=(8, 5))
    expected = np.zeros((5, 8), dtype=bool)
    expected[1:4, 2:5] = True  # x from 2 to 5.4, y from 1 to 3.6
    np.testing.assert_array_equal(mask, expected)


EMPTY, FULL, SHAPE = np.zeros((48, 48)), np.full((48, 48), 255), np.pad(np.full((9, 9), 255), (0, 39))
Masks = Callable[[int, int], Any]


def masked_by(table: ImageTable, masks: Masks, folder: Path) -> ImageTable:
    """Masks by label and number within the class."""
    seen = [0, 0]
    for sample in table.samples:
        write_image((folder / sample.name).with_suffix(".png"), masks(sample.label, seen[sample.label]))
        seen[sample.label] += 1
    return give_masks(table, str(folder), ("train", "val", "test"))


@pytest.mark.parametrize(
    "masks",
    {
        "empty for the healthy": lambda label, number: SHAPE if label else EMPTY,
        "and the other way round": lambda label, number: EMPTY if label else SHAPE,
        "the whole image": lambda label, number: SHAPE if label else FULL,
        "nearly always": lambda label, number: SHAPE if label or number == 3 else EMPTY,
    }.values(),
    ids=lambda masks: "",
)
def test_masks_that_tell_the_class_are_refused(table: ImageTable, masks: Masks, refuses: Any, tmp_path: Path) -> None:
    with refuses("do not tell the class", "% of finch", "% of gull", "tokencut"):
        masked_by(table, masks, tmp_path / "found")


@pytest.mark.parametrize(
    "masks",
    {
        "half of either": lambda label, number: SHAPE if number % 2 else EMPTY,
        "one of a class": lambda label, number: EMPTY if label and not number else SHAPE,
        "all empty": lambda label, number: EMPTY,
        "all whole": lambda label, number: FULL,
    }.values(),
    ids=lambda masks: "",
)
def test_empty_masks_that_tell_nothing_are_taken(table: ImageTable, masks: Masks, tmp_path: Path) -> None:
    assert masked_by(table, masks, tmp_path / "found").samples[0].given_mask is not None


def test_the_annotated_masks_of_healthy_chests_are_refused(tmp_path: Path, refuses: Any) -> None:
    codes = "".join(f"1.{number}, {'0 2' if number % 2 else -1}\n" for number in range(1, 9))
    chests = read_table(write_siim(tmp_path / "siim", f"ImageId, EncodedPixels\n{codes}", count=8))
    with refuses("annotated", "100% of no pneumothorax and 0% of pneumothorax"):
        give_masks(chests, "annotated", ("train",))


def test_a_mask_that_cannot_be_read_is_left_to_who_reads_it(table: ImageTable) -> None:
    assert isinstance(table.samples[0].mask, Path)
    table.samples[0].mask.write_bytes(b"no picture")
    assert give_masks(table, "annotated", ("train",)).samples[0].given_mask == table.samples[0].mask


def test_an_image_without_a_mask_is_named(table: ImageTable, refuses: Any, tmp_path: Path) -> None:
    with refuses("boxes", "got none for 16 of 16", table.select("train").samples[0].name, "tokencut"):
        give_masks(table, "boxes", ("train", "val"))
    with pytest.raises(UsageError, match="a folder of masks, got 'nowhere'"):
        give_masks(table, "nowhere", ("train",))
    assert give_masks(table, "tokencut", ("train",)) is table
