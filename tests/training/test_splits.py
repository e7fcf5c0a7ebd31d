import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import tiny_config, write_image, write_scenes
from runs import run

from ifam.data.account import Fate
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.storage import known_contents, known_splits, trained_counts
from ifam.training.splits import prepare_splits


def write(root: Path, count: int = 12) -> Path:
    """Two classes of images that differ."""
    for blue, name in enumerate(("a", "b")):
        for number in range(count):
            write_image(root / f"{name}/{number}.png", np.full((48, 48, 3), (9 * number, 0, 99 * blue)))
    return root


def splits_of(table: ImageTable) -> dict[str, str | None]:
    return {sample.name: sample.split for sample in table.samples}


def test_copies_are_kept_together_and_counted(tmp_path: Path) -> None:
    for path in [*write(tmp_path).rglob("*.png")]:
        shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    shutil.copy(tmp_path / "a/0.png", tmp_path / "b/also.png")
    prepared = prepare_splits(read_table(tmp_path), seed=0)
    found = splits_of(prepared.table)
    assert all(found[name] == found[name.replace(" (1)", "")] for name in found)
    assert found["b/also.png"] == found["a/0.png"]
    assert prepared.table.account.count(Fate.DUPLICATED) == 25
    assert list(prepared.oddities) == [
        "duplicated 25: 25 copies of other images (b 13, a 12)",
        "warning: 3 images are in two classes: a/0 (1).png and a/0.png and b/also.png",
    ]


def test_given_splits_stay_whatever_they_share(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write(tmp_path / split)  # all three the same
    table = read_table(tmp_path)
    prepared = prepare_splits(table, seed=0)
    assert splits_of(prepared.table) == splits_of(table)
    assert prepared.contents == {}
    assert prepared.oddities[1].startswith("warning: 72 images are in two splits: ")


def test_two_labels_for_an_image_are_refused_with_their_rows(tmp_path: Path, refuses_line: Any) -> None:
    write(tmp_path)
    rows = [*(f"{name}/{number}.png,{name}" for name in "ab" for number in range(12)), "a/3.png,b"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    with refuses_line("t.csv", "one label", "1 image: a/3.png in rows 4 (a), 25 (b)", error=DataError):
        prepare_splits(read_table(tmp_path / "t.csv"), seed=0)


def test_a_run_remembers_what_its_images_hold(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "data"))
    run(tiny_config(optimizer__epochs=1), table, tmp_path / "run")
    contents, splits = known_contents(tmp_path / "run"), known_splits(tmp_path / "run")
    assert contents.keys() == splits.keys() == {sample.name for sample in table.samples}
    assert len(set(contents.values())) == len(table)
    assert all((tmp_path / "data" / name).stat().st_size == size for name, (size, _) in contents.items())
    assert trained_counts(tmp_path / "run") == {"a": 8, "b": 8}


def test_a_run_that_is_resumed_keeps_the_splits_that_it_made(tmp_path: Path) -> None:
    """Also where another version of the program, or of the images, would make others."""
    table = read_table(write(tmp_path / "data"))
    config = tiny_config(optimizer__epochs=1)
    run(config, table, tmp_path / "run")
    before = known_splits(tmp_path / "run")
    for sample in table.samples[:5]:
        shutil.copy(table.samples[-1].path, sample.path)
    run(config, table, tmp_path / "run", resume=True)
    assert known_splits(tmp_path / "run") == before


@pytest.mark.parametrize("method", ["ifam", "jtt"])
def test_oddities_are_said_once(tmp_path: Path, method: str) -> None:
    from ifam.training.run import train

    scenes = read_table(write_scenes(tmp_path / "scenes", {"train": 3, "val": 1, "test": 1}))
    renamed = replace(scenes, class_names=(*scenes.class_names, "nan"))
    said: list[str] = []
    train(tiny_config(method=method, optimizer__epochs=1), renamed, tmp_path / "run", say=said.append)
    assert sum("read as a name" in line for line in said) == 1
