import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ifam.data.account import Fate
from ifam.data.copies import contents_of
from ifam.data.known import recognise
from ifam.data.read import read_table
from ifam.data.table import ImageTable

Draw = Callable[..., Path]


def write(root: Path, draw: Draw, shade: int, count: int = 10) -> ImageTable:
    for name in ("a", "b"):
        for number in range(count):
            draw(root / name / f"{number}.png", color=(shade + number, int(name == "b"), 0))
    return read_table(root)


@pytest.fixture
def run(tmp_path: Path, draw: Draw) -> ImageTable:
    """The data of a run with the splits that it made."""
    return write(tmp_path / "data", draw, 0).with_splits(seed=0)


def recognised(run: ImageTable, table: ImageTable):  # type: ignore[no-untyped-def]
    splits = {sample.name: sample.split for sample in run.samples}
    return recognise(table, splits, contents_of(run.samples))  # type: ignore[arg-type]


def splits_of(table: ImageTable) -> dict[str, str | None]:
    return {sample.name: sample.split for sample in table.samples}


def test_the_same_data_has_the_splits_of_the_run(run: ImageTable) -> None:
    found = recognised(run, read_table(run.root))
    assert splits_of(found.table) == splits_of(run)
    assert found.table.account.count(Fate.RESPLIT) == len(run)
    assert found.lines("run", read_table(run.root)) == [
        "splits of run, by the contents of the images: 14 train, 2 val, 4 test"
    ]


def test_images_of_the_same_names_are_others(run: ImageTable, tmp_path: Path, draw: Draw) -> None:
    other = write(tmp_path / "other", draw, 100)
    found = recognised(run, other)
    assert found.table is other
    (line,) = found.lines("run", other)
    assert line.startswith("20 images are called as images that run knows")


def test_images_are_found_again_under_other_names(run: ImageTable, tmp_path: Path) -> None:
    for sample in run.samples:
        new = tmp_path / "moved" / sample.name.replace("/", "/x")
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, new)
    table = read_table(tmp_path / "moved")
    assert splits_of(recognised(run, table).table) == {
        name.replace("/", "/x"): split for name, split in splits_of(run).items()
    }


def test_what_is_new_and_what_is_gone(run: ImageTable, draw: Draw) -> None:
    trained = next(sample for sample in run.samples if sample.split == "train")
    draw(trained.path, color=(200, 200, 200))  # another image in its place
    draw(run.root / "b/new.png", color=(201, 0, 0))
    table = read_table(run.root)
    splits = {sample.name: str(sample.split) for sample in run.samples}
    before = contents_of(run.samples) | {trained.name: (1, "another")}
    found = recognise(table, splits, before)
    known = splits_of(found.table)
    assert known.pop("b/new.png") == known.pop(trained.name) == "test"
    assert known.items() <= splits.items()
    assert found.lines("run", table)[0].endswith(
        "13 train, 2 val, 6 test; new since the training, so among test: 2; gone: 1"
    )
    assert found.namesakes == 1


def test_a_copy_of_a_training_image_is_no_test_image(run: ImageTable, tmp_path: Path, draw: Draw) -> None:
    write(tmp_path / "other", draw, 100)
    trained = next(sample for sample in run.samples if sample.split == "train")
    shutil.copy(trained.path, tmp_path / "other/a/leak.png")
    known = recognised(run, read_table(tmp_path / "other")).table
    assert splits_of(known)["a/leak.png"] == "train"
    assert len(known.select("test")) == 20


def test_given_splits_stay(run: ImageTable, tmp_path: Path, draw: Draw) -> None:
    """Whatever the run made of the training folder alone, the test folder beside it remains what is tested on."""
    for split, shade in (("train", 0), ("test", 100)):
        write(tmp_path / "both" / split, draw, shade)
    trained = next(sample for sample in run.samples if sample.split == "train")
    shutil.copy(trained.path, tmp_path / "both/test/a/leak.png")
    given = read_table(tmp_path / "both")
    found = recognised(run, given)
    before, after = splits_of(given), splits_of(found.table)
    assert {name for name in before if before[name] == "test"} == {name for name in after if after[name] == "test"}
    held_out = {f"train/{sample.name}" for sample in run.samples if sample.split == "val"}
    assert {name for name in after if after[name] == "val"} == held_out
    assert found.lines("run", given)[-1] == (
        "warning: run was trained on 1 of the images that the data gives as val or test, the first is test/a/leak.png"
    )


def test_a_given_validation_split_stays(run: ImageTable, tmp_path: Path, draw: Draw) -> None:
    for split, shade in (("train", 0), ("val", 60), ("test", 100)):
        write(tmp_path / "all" / split, draw, shade)
    given = read_table(tmp_path / "all")
    assert splits_of(recognised(run, given).table) == splits_of(given)


def test_runs_that_remember_names_alone(run: ImageTable) -> None:
    splits = {sample.name: str(sample.split) for sample in run.samples}
    table = read_table(run.root)
    found = recognise(table, splits, {})
    assert splits_of(found.table) == splits
    assert found.lines("run", table) == ["splits of run, by the names of the images: 14 train, 2 val, 4 test"]


def test_test_images_alone_are_a_test_set_as_it_is(run: ImageTable, tmp_path: Path) -> None:
    for sample in run.select("test").samples:
        new = tmp_path / "alone" / sample.name
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, new)
    table = read_table(tmp_path / "alone")
    found = recognised(run, table)
    assert found.table is table
    assert found.lines("run", table) == []
