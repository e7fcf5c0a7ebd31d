from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ifam.data.backgrounds_challenge import Foreground, open_foreground_mask, read_backgrounds, read_foregrounds


def write_mask(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def test_foregrounds_are_those_with_a_mask(tmp_path: Path, draw: Any) -> None:
    for name in ("fish_1", "fish_0"):
        write_mask(tmp_path / f"fg_mask/val/08_fish/{name}.npy", np.zeros((6, 8), dtype=bool))
    write_mask(tmp_path / "fg_mask/val/01_bird/a.b.npy", np.zeros((6, 8), dtype=bool))
    draw(tmp_path / "original/val/08_fish/without.JPEG")
    assert read_foregrounds(tmp_path) == [
        Foreground(image=tmp_path / f"original/val/{name}.JPEG", mask=tmp_path / f"fg_mask/val/{name}.npy", label=label)
        for name, label in (("01_bird/a.b", 1), ("08_fish/fish_0", 8), ("08_fish/fish_1", 8))
    ]


def test_backgrounds_of_every_class(tmp_path: Path, draw: Any) -> None:
    paths = [draw(tmp_path / f"only_bg_t/val/{name}.JPEG") for name in ("00_dog/1", "00_dog/2", "08_fish/0")]
    assert read_backgrounds(tmp_path) == paths


def test_a_folder_without_the_challenge(tmp_path: Path, refuses: Any) -> None:
    with refuses(tmp_path, "fg_mask/val/00_dog", "no such masks"):
        read_foregrounds(tmp_path)
    for only in (tmp_path / "original", tmp_path / "only_bg_t/val"):  # the latter is there, and empty
        only.mkdir(parents=True, exist_ok=True)
        with refuses(tmp_path, "only_bg_t/val/00_dog", "got none"):
            read_backgrounds(tmp_path)
    write_mask(tmp_path / "fg_mask/val/cat/0.npy", np.zeros((6, 8), dtype=bool))
    with refuses(tmp_path, "got cat"):
        read_foregrounds(tmp_path)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_of_zeros_and_ones(kind: Any, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4) % 2 == 1
    mask = open_foreground_mask(write_mask(tmp_path / "0.npy", values.astype(kind)))
    assert mask.dtype == bool
    assert np.array_equal(mask, values)


@pytest.mark.parametrize("values", [np.full((3, 4), 255), np.zeros((3, 4, 3)), np.full((3, 4), np.nan)])
def test_masks_of_other_values(values: Any, tmp_path: Path, refuses: Any) -> None:
    path = write_mask(tmp_path / "0.npy", values)
    with refuses(path, "true and false"):
        open_foreground_mask(path)


def test_masks_that_cannot_be_read(tmp_path: Path, refuses: Any) -> None:
    pickled = write_mask(tmp_path / "pickled.npy", np.array([object()]))
    damaged, empty, archive = (tmp_path / name for name in ("damaged.npy", "empty.npy", "archive.npy"))
    damaged.write_bytes(write_mask(tmp_path / "whole.npy", np.zeros((30, 40))).read_bytes()[:-100])
    empty.write_bytes(b"")
    with archive.open("wb") as file:
        np.savez(file, mask=np.zeros((3, 4)))
    for path in (pickled, damaged, empty, archive, tmp_path / "none.npy"):
        with refuses(path, "expected a mask"):
            open_foreground_mask(path)
