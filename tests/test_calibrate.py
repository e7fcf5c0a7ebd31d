from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ifam.calibrate import calibrate, token_thresholds
from ifam.config import QUANTILES
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.transforms import test_transform as view_of
from ifam.model.two_stage import IFAM
from ifam.storage import load, save


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=40), st.floats(0, 1))
def test_thresholds_are_torchs_quantiles(values: list[float], q: float) -> None:
    distances = torch.tensor(values)
    expected = torch.quantile(distances.double(), q).item()
    assert token_thresholds([distances], [q])[q][0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_threshold_for_each_part_and_quantile() -> None:
    thresholds = token_thresholds([torch.arange(11.0), torch.tensor([7.0]), torch.empty(0)], [0.5, 0.25])
    assert thresholds == {0.5: [5.0, 7.0, 0.0], 0.25: [2.5, 7.0, 0.0]}


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Noise in two classes; the test split is brighter than the training split."""
    random = np.random.default_rng(0)
    for split, low in (("train", 0), ("test", 128)):
        for number in range(8):
            path = tmp_path / f"data/{split}/class{number % 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)).save(path)
    return read_table(tmp_path / "data")


def training_images(model: IFAM, table: ImageTable) -> Tensor:
    view = view_of(model.preprocessing)
    images = [view({"image": Image.open(sample.path)})["image"] for sample in table.select("train").samples]
    return torch.stack(images)


@torch.inference_mode()
def test_the_quantile_of_the_training_tokens_is_kept(table: ImageTable, make_model: Any) -> None:
    model = make_model(num_classes=2).train()
    stored = calibrate(model, table, quantiles=[0.5, 0.9], batch_size=3)
    assert model.token_thresholds == stored
    assert not model.training
    images = training_images(model, table)
    plain = model(images)
    for part in range(model.num_parts):
        distances = -plain.part_logits[:, part][plain.parts == part]
        assert len(distances) > 5
        for q in (0.5, 0.9):
            expected = torch.quantile(distances, q).item()
            assert stored[q][part] == pytest.approx(expected, rel=1e-4)
            kept = (model(images, token_quantile=q).parts == part).sum() / len(distances)
            assert abs(kept.item() - q) <= 1 / len(distances) + 1e-6


@torch.inference_mode()
def test_calibration_does_not_depend_on_noise_or_batches(table: ImageTable, make_model: Any) -> None:
    model = make_model(num_classes=2)
    first = calibrate(model.train(), table, batch_size=8)
    torch.manual_seed(5)
    second = calibrate(model.train(), table, batch_size=3)
    assert list(first) == list(QUANTILES)
    for q in QUANTILES:
        assert second[q] == pytest.approx(first[q], rel=1e-4)


@torch.inference_mode()
def test_a_dead_part_keeps_nothing(table: ImageTable, make_model: Any) -> None:
    model = make_model(num_classes=2)
    model.prototypes[1] = 1e3
    calibrate(model, table, quantiles=[0.99])
    assert model.token_thresholds[0.99][1] == 0
    assert not (model(training_images(model, table), token_quantile=0.99).parts == 1).any()


@torch.inference_mode()
def test_unreadable_images_are_left_out(table: ImageTable, make_model: Any) -> None:
    model = make_model(num_classes=2)
    calibrate(model, table)
    whole = model.token_thresholds
    broken = table.select("train").samples[0].path
    broken.write_bytes(b"no image")
    calibrate(model, table, batch_size=1)
    without = model.token_thresholds
    assert without != whole
    broken.unlink()
    assert calibrate(model, read_table(table.root)) == {q: pytest.approx(t, rel=1e-4) for q, t in without.items()}


@torch.inference_mode()
def test_thresholds_are_saved_with_the_model(table: ImageTable, make_model: Any, tmp_path: Path) -> None:
    model = make_model(num_classes=2)
    calibrate(model, table, quantiles=[0.9, 0.975])
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert isinstance(loaded, IFAM)
    assert loaded.token_thresholds == model.token_thresholds
