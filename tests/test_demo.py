from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifam import demo
from ifam.cli import main
from ifam.data.read import read_table


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "COUNTS", {"train": 40, "val": 8, "test": 8})


def test_scenes_follow_the_seed_and_hold_the_shortcut(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        demo.write_scenes(tmp_path / name, seed)
    first, again, other = ((tmp_path / name / "images/0000.png").read_bytes() for name in ("first", "again", "other"))
    assert first == again != other
    table = read_table(tmp_path / "first")
    assert table.has_masks
    train = table.select("train").group_counts()
    assert train["striped/grass"] + train["spotted/water"] > 0.8 * sum(train.values())


def test_masks_cover_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    image, mask = demo.draw_scene(rng, label=0, place=1)
    assert 0.03 < mask.mean() < 0.4
    assert image[mask][:, 0].mean() > 1.5 * image[~mask][:, 0].mean()  # a brown thing on blue water


def test_the_demo_compares_both_methods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = demo.demo_config(seed=0)
    short = replace(config, optimizer=replace(config.optimizer, epochs=2, stage1_epochs=1))
    monkeypatch.setattr(demo, "demo_config", lambda seed: short)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("worst-group accuracy") == 2
    with Image.open(tmp_path / "out/explanation.png") as picture:
        assert picture.width > 1000
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2  # nothing is overwritten
