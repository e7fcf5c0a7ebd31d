from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_scenes

from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.explanations.part_gallery import gallery_figure, part_gallery
from ifam.model.two_stage import IFAM


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "data"))


@pytest.fixture
def model(make_model: Any, table: ImageTable) -> IFAM:
    built: IFAM = make_model(num_classes=2, num_parts=3, class_names=list(table.class_names))
    return built


@torch.inference_mode()
def test_the_images_with_most_of_each_part(model: IFAM, table: ImageTable) -> None:
    gallery = part_gallery(model, table, split="train", per_part=4, batch_size=5)
    data = ImageDataModule(table, model.preprocessing, augmentation="none", batch_size=12, workers=0, seed=0)
    parts = model(next(iter(data.loader("train"))).images).parts
    for part in range(3):
        shares = (parts == part).flatten(1).double().mean(1)
        assert gallery.mean_shares[part] == pytest.approx(float(shares.mean()))
        expected = sorted((value for value in shares.tolist() if value > 0), reverse=True)[:4]
        assert [example.share for example in gallery.examples[part]] == pytest.approx(expected)
        for example in gallery.examples[part]:
            assert np.mean(example.parts == part) == pytest.approx(example.share)
    assert gallery.num_images == 12


def test_the_figure_has_a_row_for_each_part(model: IFAM, table: ImageTable) -> None:
    figure = gallery_figure(part_gallery(model, table, split="test", per_part=2), 3, {1: "worst group 0.5 without it"})
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [text.splitlines()[0] for text in texts] == ["part 0", "part 1", "part 2"]
    assert texts[1].endswith("worst group 0.5 without it")


def test_images_that_cannot_be_read_are_left_out_if_asked(model: IFAM, table: ImageTable, refuses_line: Any) -> None:
    path = table.select("test").samples[0].path
    whole = part_gallery(model, table, split="test", per_part=99)
    path.write_bytes(b"")
    with refuses_line(path, "--skip-unreadable", error=DataError):
        part_gallery(model, table, split="test")
    seen: list[tuple[int, int]] = []
    gallery = part_gallery(
        model,
        table,
        split="test",
        per_part=99,
        batch_size=1,
        skip_unreadable=True,
        progress=lambda *at: seen.append(at),
    )
    assert gallery.num_images == 7
    assert seen[-1] == (8, 8)
    for part in range(3):
        names = {example.name for example in whole.examples[part]} - {f"images/{path.name}"}
        assert {example.name for example in gallery.examples[part]} == names
