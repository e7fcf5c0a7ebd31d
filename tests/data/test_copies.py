import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifam.data.account import Fate
from ifam.data.copies import contents_of, copies_of, duplicated, in_two_classes, in_two_splits, keep_together
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

ENDS, LENGTH = 4096, 20_000


def table_of(root: Path, contents: dict[str, bytes], **splits: str) -> ImageTable:
    """Files ``class/name`` with these bytes."""
    samples = []
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        label = ("a", "b").index(name[0])
        samples.append(Sample(path=path, name=name, label=label, split=splits.get(name.replace("/", "_"))))
    return ImageTable(root=root, layout="folders", class_names=("a", "b"), samples=tuple(samples))


def names(copies: object) -> list[list[str]]:
    return [[sample.name for sample in found] for found in copies]  # type: ignore[attr-defined]


def changed(at: int) -> bytes:
    content = bytearray(LENGTH)
    content[at] = 1
    return bytes(content)


def test_copies_go_by_the_whole_content_and_not_by_the_name(tmp_path: Path) -> None:
    contents = {
        "a/1": bytes(LENGTH),
        "a/2": changed(LENGTH // 2),  # of the same size, with the same ends
        "b/1": bytes(LENGTH),
        "a/3": bytes(LENGTH + 1),
        "a/4": changed(0),
        "b/5": changed(LENGTH - 1),
        "a/6": b"",
        "b/7": b"x",
        "a/8": b"x",
        "b/2": changed(LENGTH // 2),
        "a/0": bytes(LENGTH),
    }
    table = table_of(tmp_path, contents)
    expected = [["a/1", "b/1", "a/0"], ["a/2", "b/2"], ["b/7", "a/8"]]
    assert sorted(names(copies_of(table.samples))) == sorted(expected)
    assert sorted(names(copies_of(table.samples, contents_of(table.samples)))) == sorted(expected)


def test_rows_that_repeat_an_image_are_no_copies(tmp_path: Path) -> None:
    (sample,) = table_of(tmp_path, {"a/1": b"x"}).samples
    assert copies_of([sample, sample]) == []


def test_a_file_that_cannot_be_read_is_no_copy(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a/1": b"x", "a/2": b"x", "a/3": b"x"})
    (tmp_path / "a/1").unlink()
    assert names(copies_of(table.samples)) == [["a/2", "a/3"]]
    assert set(contents_of(table.samples)) == {"a/2", "a/3"}


def test_files_of_one_size_are_not_all_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr("ifam.data.copies._content", lambda path: read.append(path.name))
    table = table_of(tmp_path, {f"a/{number}": bytes([number]) * LENGTH for number in range(9)} | {"b/x": b"1" * 9})
    copies_of(table.samples)
    assert read == []


def test_what_is_said_of_copies(tmp_path: Path) -> None:
    contents = {"a/1": b"1", "a/2": b"1", "b/3": b"3", "b/4": b"3", "a/5": b"3", "a/6": b"6"}
    table = table_of(tmp_path, contents, a_1="train", a_2="test", b_3="val", b_4="val", a_5="val")
    copies = copies_of(table.samples)
    (entry,) = duplicated(copies, table.class_names).entries
    assert (entry.fate, entry.counts) == (Fate.DUPLICATED, {"a": 2, "b": 1})
    assert in_two_classes(copies) == "3 images are in two classes: b/3 and b/4 and a/5"
    assert in_two_splits(copies) == "2 images are in two splits: a/1 and a/2"
    assert in_two_classes([]) == in_two_splits([]) == ""
    assert not duplicated([], table.class_names)


@given(
    contents=st.lists(st.integers(0, 12), min_size=30, max_size=60),
    units=st.lists(st.sampled_from(["", *"pqrstuvwxyz"]), min_size=60, max_size=60),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_no_copy_and_no_unit_is_on_two_sides(contents: list[int], units: list[str], seed: int) -> None:
    """Whatever is copied, and into whatever unit: also where a copy links two units."""
    samples = tuple(
        Sample(path=Path(f"{number}"), name=f"{number}", label=number % 2, unit=units[number] or None)
        for number in range(len(contents))
    )
    # every other image is one of its own
    content = {f"{i}": (1, f"own {i}" if i % 2 else f"{each}") for i, each in enumerate(contents)}
    table = ImageTable(root=Path(), layout="", class_names=("a", "b"), samples=samples, split_by="patient")
    together = keep_together(table, copies_of(samples, content))
    split = together
    with suppress(DataError):  # all of a class are linked
        split = together.with_splits(seed=seed)
    sides: dict[object, set[str | None]] = {}
    for sample, before in zip(split.samples, samples, strict=True):
        sides.setdefault(content[sample.name], set()).add(sample.split)
        if before.unit:
            sides.setdefault(before.unit, set()).add(sample.split)
    assert all(len(found) == 1 for found in sides.values())


def test_without_copies_the_splits_are_what_they_were(tmp_path: Path) -> None:
    table = table_of(tmp_path, {f"{'ab'[number % 2]}/{number}": bytes([number]) for number in range(40)})
    together = keep_together(table, copies_of(table.samples))
    assert together.with_splits(seed=3) == table.with_splits(seed=3)


def test_copies_made_on_disk_stay_together_whatever_their_names(tmp_path: Path, draw: Callable[..., Path]) -> None:
    from ifam.data.read import read_table

    for number in range(20):
        first = draw(tmp_path / f"{'ab'[number % 2]}/{number}.png", color=(number, 0, 0))
        shutil.copy(first, first.with_name(f"copy of {number}.png"))
    table = read_table(tmp_path)
    split = keep_together(table, copies_of(table.samples)).with_splits(seed=0)
    sides = {sample.name: sample.split for sample in split.samples}
    assert all(sides[name] == sides[name.replace("copy of ", "")] for name in sides)
    assert set(sides.values()) == {"train", "val", "test"}
