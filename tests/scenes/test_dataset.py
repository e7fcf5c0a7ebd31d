from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ifam.data.read import read_table
from ifam.errors import UsageError
from ifam.scenes import dataset
from ifam.scenes.dataset import ScenesConfig, cached_scenes, plan, variant_folder, write_scenes
from ifam.scenes.scene import VARIANTS, draw

SMALL = ScenesConfig(train=8, val=4, test=8, size=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", SMALL)


@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.95, 1.0])
def test_the_dial_of_the_shortcut(correlation: float) -> None:
    rows = plan(ScenesConfig(correlation=correlation))
    for split, (count, share) in enumerate([(1000, correlation), (400, 0.5), (800, 0.5)]):
        groups = Counter((row.recipe.label, row.recipe.place) for row in rows if row.split == split)
        usual, other = round(share * count / 2), count // 2 - round(share * count / 2)
        expected = {(0, 1): usual, (0, 0): other, (1, 0): usual, (1, 1): other}
        assert groups == Counter({group: n for group, n in expected.items() if n})


def test_no_animal_and_no_background_twice() -> None:
    rows = plan(ScenesConfig())
    assert len({row.recipe.animal for row in rows}) == len({row.recipe.background for row in rows}) == len(rows)
    places = {
        row.recipe.background for variant in ("mixed_same", "mixed_rand") for row in plan(ScenesConfig(), variant)
    }  # type: ignore[arg-type]
    assert len(places) == 1600
    assert not places & {row.recipe.background for row in rows}


def test_another_seed_is_another_data_set() -> None:
    first, second = ({row.recipe.animal for row in plan(ScenesConfig(seed=seed))} for seed in (0, 1))
    assert not first & second


def test_variants_keep_the_animals_of_the_test_split() -> None:
    original = [row.recipe for row in plan(ScenesConfig()) if row.split == 2]
    variants: dict[str, Any] = {
        variant: [row.recipe for row in plan(ScenesConfig(), variant)] for variant in VARIANTS[1:]
    }
    for recipes in variants.values():
        assert [(r.animal, r.label) for r in recipes] == [(r.animal, r.label) for r in original]
    assert all(r.place == 1 - r.label for r in variants["mixed_same"])
    assert set(Counter((r.label, r.place) for r in variants["mixed_rand"]).values()) == {200}
    assert variants["only_bg"] == [replace(r, shows="background") for r in original]
    assert variants["only_fg"] == [replace(r, shows="animal") for r in original]


def test_the_folder_is_read_as_any_other(folder: Path) -> None:
    table = read_table(folder)
    assert table.class_names == ("wader", "grazer")
    assert table.group_names == ("wader/woods", "wader/shore", "grazer/woods", "grazer/shore")
    assert {split: len(table.select(split)) for split in table.splits} == {"train": 8, "val": 4, "test": 8}
    assert {"body", "head", "legs"} <= set(table.keypoint_names)
    for sample, row in zip(table.samples, plan(SMALL), strict=True):
        assert sample.mask is not None
        scene = draw(row.recipe)
        assert (np.asarray(Image.open(sample.path)) == scene.image).all()
        assert (np.asarray(Image.open(sample.mask)) == scene.mask).all()
        assert sample.keypoints == {name: pytest.approx(point, abs=0.006) for name, point in scene.points.items()}
        assert (sample.label, sample.group) == (row.recipe.label, 2 * row.recipe.label + row.recipe.place)
    for variant in VARIANTS:
        assert len(read_table(variant_folder(folder, variant)).select("test")) == 8


def test_what_is_there_is_kept_and_the_same_seed_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_scenes(folder, SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    again = write_scenes(tmp_path / "again", SMALL)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / path).read_bytes() == (again / path).read_bytes() for path in files)


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="new folder"):
        write_scenes(folder, replace(SMALL, seed=1))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="new folder"):
        write_scenes(tmp_path / "own", SMALL)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["thesis.txt"]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", SMALL, stop)
    assert list(tmp_path.iterdir()) == []
    seen: list[tuple[int, int]] = []
    write_scenes(tmp_path / "scenes", SMALL, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8 + 4 + 8 * len(VARIANTS), 8 + 4 + 8 * len(VARIANTS))


def test_of_two_processes_that_draw_the_same_the_slower_takes_what_is_there(tmp_path: Path) -> None:
    quick = write_scenes(tmp_path / "quick", SMALL)

    def finish_elsewhere(done: int, total: int) -> None:
        if done == total:
            quick.rename(tmp_path / "scenes")

    assert write_scenes(tmp_path / "scenes", SMALL, finish_elsewhere) == tmp_path / "scenes"
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]
    other = write_scenes(tmp_path / "other", replace(SMALL, seed=1))
    with pytest.raises(OSError, match="not empty"):
        write_scenes(tmp_path / "mine", SMALL, lambda done, total: done == total and other.rename(tmp_path / "mine"))


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFAM_CACHE", str(tmp_path / "cache"))
    first = cached_scenes(SMALL)
    assert first.parent == tmp_path / "cache"
    assert cached_scenes(SMALL) == first
    assert cached_scenes(replace(SMALL, seed=1)) != first
    monkeypatch.delenv("IFAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert dataset.cache_folder() == tmp_path / "xdg" / "ifam"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset.cache_folder() == tmp_path / ".cache" / "ifam"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"train": 3}, "train"), ({"correlation": 1.2}, "correlation"), ({"test_correlation": -1}, "test_correlation"),
     ({"size": 8}, "size"), ({"seed": -1}, "a seed of at least 0, got -1")],
)  # fmt: skip
def test_impossible_data_sets(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ScenesConfig(**changes)
