from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.units import shared_units, unit_like_folders, unit_like_groups, with_units
from ifam.errors import DataError, UsageError

Draw = Callable[..., Path]


def folders(root: Path, draw: Draw, images: Mapping[str, int]) -> ImageTable:
    """So many images in each folder."""
    shade = 0
    for folder, count in images.items():
        for number in range(count):
            shade += 1
            draw(root / folder / f"{number}.png", color=(shade % 256, shade // 256, 0))
    return read_table(root)


PATIENTS = {f"{kind}/{kind[0]}{number}": 3 for kind in ("sick", "well") for number in range(8)}


def sides(table: ImageTable) -> dict[str | None, set[str | None]]:
    found: dict[str | None, set[str | None]] = {}
    for sample in table.samples:
        found.setdefault(sample.unit, set()).add(sample.split)
    return found


def test_folders_below_the_classes_are_units_and_no_groups(tmp_path: Path, draw: Draw) -> None:
    table = with_units(folders(tmp_path, draw, PATIENTS | {"sick/s0/deeper": 1, "well": 2}), "folder")
    assert table.group_names == ()
    assert {sample.unit for sample in table.samples} == {*(name[5:] for name in PATIENTS), None}
    split = table.with_splits(seed=0)
    assert all(len(found) == 1 for unit, found in sides(split).items() if unit)
    assert split.splits == ("train", "val", "test")
    for name in split.splits:
        assert min(split.select(name).class_counts().values()) > 0


def test_the_validation_images_are_whole_units(tmp_path: Path, draw: Draw) -> None:
    given = {f"train/{name}": count for name, count in PATIENTS.items()} | {"test/sick/t1": 4, "test/well/t2": 4}
    table = with_units(folders(tmp_path, draw, given), "folder").with_validation(seed=0)
    assert all(len(found) == 1 for found in sides(table).values())
    assert len(table.select("val")) == 6
    assert len(table.select("test")) == 8


def test_a_unit_of_two_classes_stays_whole(tmp_path: Path, draw: Draw) -> None:
    images = {f"{kind}/p{number}": 2 + number % 2 for kind in ("sick", "well") for number in range(12)}
    table = with_units(folders(tmp_path, draw, images), "folder").with_splits(seed=1)
    assert len(sides(table)) == 12
    assert all(len(found) == 1 for found in sides(table).values())
    assert table.splits == ("train", "val", "test")


def write_table(root: Path, draw: Draw, name: str) -> Path:
    rows = []
    for number in range(40):
        draw(root / f"images/{number}.png", color=(number, 0, 0))
        rows.append((f"images/{number}.png", ("well", "sick")[number // 4 % 2], number // 4))
    path = root / name
    if name.endswith(".csv"):
        path.write_text("\n".join(["path,label,Patient", *(",".join(map(str, row)) for row in rows)]))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(("path", "label", "Patient"), zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table({key: list(values) for key, values in columns.items()}), path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_column_of_a_table_names_the_units(tmp_path: Path, draw: Draw, name: str) -> None:
    table = with_units(read_table(write_table(tmp_path, draw, name)), "patient")
    assert [sample.unit for sample in table.samples] == [str(number // 4) for number in range(40)]
    assert all(len(found) == 1 for found in sides(table.with_splits(seed=0)).values())


def test_a_column_of_metadata_names_the_units(tmp_path: Path, draw: Draw) -> None:
    rows = []
    for number in range(40):
        draw(tmp_path / f"{number}.png", color=(number, 0, 0))
        rows.append(f"{number},{number}.png,{number % 2},0,{number % 4 // 2},{number // 4}.0")
    (tmp_path / "metadata.csv").write_text("\n".join(["img_id,img_filename,y,split,place,bird", *rows]))
    table = with_units(read_table(tmp_path), "bird").with_validation(seed=0)
    assert {sample.unit for sample in table.samples} == {str(bird) for bird in range(10)}
    assert all(len(found) == 1 for found in sides(table).values())
    assert len(table.group_names) == 4


def test_folders_of_a_table_are_those_that_the_images_lie_in(tmp_path: Path, draw: Draw) -> None:
    rows = []
    for number in range(24):
        draw(tmp_path / f"scans/p{number // 3}/{number}.png", color=(number, 0, 0))
        rows.append(f"scans/p{number // 3}/{number}.png,{'ab'[number // 3 % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    table = with_units(read_table(tmp_path / "t.csv"), "folder").with_splits(seed=0)
    assert len(sides(table)) == 8
    assert all(len(found) == 1 for found in sides(table).values())


def test_what_cannot_be_split_by(tmp_path: Path, draw: Draw, refuses_line: Any) -> None:
    plain = folders(tmp_path / "plain", draw, {"a": 4, "b": 4})
    with refuses_line("split_by", "folders below the classes", error=UsageError):
        with_units(plain, "folder")
    with refuses_line("split_by", "no table", "'patient'", error=UsageError):
        with_units(plain, "patient")
    with refuses_line("split_by", "got path, label, Patient", "add patiant", error=UsageError):
        with_units(read_table(write_table(tmp_path, draw, "t.csv")), "patiant")
    some = replace(table := read_table(tmp_path / "t.csv"), samples=table.samples[:3])
    with refuses_line("split_by", "all 40 rows", "got 3", error=UsageError):
        with_units(some, "patient")
    one = folders(tmp_path / "one", draw, {"a/p": 4, "b/q": 4})
    with refuses_line("two units (by folder)", "got 2 in 8 images", error=DataError):
        with_units(one, "folder").with_splits(seed=0)


def test_units_that_given_splits_share_are_named(tmp_path: Path, draw: Draw) -> None:
    images = {f"{split}/sick/{unit}": 2 for split, unit in [("train", "p"), ("val", "q"), ("test", "p"), ("test", "r")]}
    table = with_units(folders(tmp_path, draw, images | {"train/well/x": 2}), "folder")
    assert shared_units(table).startswith("1 of 4 units (by folder) are in several of the given splits")
    assert shared_units(table).endswith("as they are: p")
    assert shared_units(read_table(tmp_path)) == ""


SETTINGS = {f"{kind}/{place}": 3 for kind in ("cat", "dog") for place in ("sofa", "bed", "lawn", "street", "car")}


@pytest.mark.parametrize(
    ("images", "like_units"),
    [
        (PATIENTS, True),
        ({f"{name}/deeper": count for name, count in PATIENTS.items()}, True),
        ({f"train/{name}": count for name, count in PATIENTS.items()}, True),  # training holds out images of each
        ({f"{split}/{name}": 1 for split in ("train", "val", "test") for name in PATIENTS}, True),
        ({f"{split}/{name}{split}": 1 for split in ("train", "val", "test") for name in PATIENTS}, False),
        (SETTINGS, False),
        ({f"{kind}/{kind}({place})": 3 for kind in ("cat", "dog") for place in ("sofa", "bed")}, False),
        ({"a": 9, "b": 9}, False),
    ],
)
def test_groups_that_look_like_patients(tmp_path: Path, draw: Draw, images: dict[str, int], like_units: bool) -> None:
    table = folders(tmp_path, draw, images)
    assert ("--split-by folder" in unit_like_groups(table)) == like_units
    assert bool(unit_like_groups(table)) == like_units


def test_groups_of_a_table_that_look_like_patients(tmp_path: Path, draw: Draw) -> None:
    path = write_table(tmp_path, draw, "t.csv")
    path.write_text(path.read_text().replace("Patient", "group"))
    assert "--split-by group" in unit_like_groups(read_table(path))
    assert unit_like_groups(with_units(read_table(path), "group")) == ""


@pytest.mark.parametrize(
    ("deep", "warned"),
    [
        ({f"{kind}/{place}/p{number}": 2 for kind in ("sick", "well") for place in "ns" for number in range(6)}, True),
        ({f"{kind}/{place}": 12 for kind in ("sick", "well") for place in "ns"}, False),
        ({f"{kind}/{place}/x": 6 for kind in ("sick", "well") for place in "ns"}, False),  # few folders
    ],
)
def test_patients_below_hospitals(tmp_path: Path, draw: Draw, deep: dict[str, int], warned: bool) -> None:
    table = folders(tmp_path, draw, deep)
    line = unit_like_folders(table)
    assert ("24 folders of about 2 images each, such as sick/n/p0, look like patients" in line) == warned
    assert bool(line) == warned
    assert unit_like_folders(with_units(table, "folder")) == ""
