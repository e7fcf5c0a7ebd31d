"""Several processes do what one does: the same losses, scores, files and errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from generated import write_scenes
from runs import checkpoint, files, metrics
from safetensors.torch import load_file
from together import by_srun, by_torchrun, losses_of, torchrun, train_and_write_losses

import ifam

# 22 training images: batches of 8, 8 and 6; 5 validation images for 2 processes
COUNTS = {"train": 6, "val": 2, "test": 2}
LEFT_OUT = ("images/3.png", "images/17.png", "images/25.png")
TWENTY_STEPS = {"optimizer__batch_size": 8, "optimizer__epochs": 7, "optimizer__cosine": "step"}
METHODS: dict[str, dict[str, Any]] = {
    "ifam": {"losses__concentration": 1.0, "ema": 0.9},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_scenes(tmp_path_factory.mktemp("data") / "scenes", COUNTS)
    table = root / "metadata.csv"
    rows = [line for line in table.read_text().splitlines() if not any(f",{name}," in line for name in LEFT_OUT)]
    table.write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_compute_the_losses_of_one(name: str, data: Path, tmp_path: Path) -> None:
    changes = TWENTY_STEPS | METHODS[name]
    one, two = tmp_path / "one", tmp_path / "two"
    assert torchrun(1, train_and_write_losses, changes, data, one, environment=lambda *_: {}) == [0]
    assert torchrun(2, train_and_write_losses, changes, data, two) == [0, 0]
    expected, got = torch.tensor(losses_of(one, "alone")[:20]), torch.tensor(losses_of(two, 0)[:20])
    assert losses_of(two, 0) == losses_of(two, 1)
    print((got / expected - 1).abs().max())
    assert len(expected) == 20
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)
    assert files(two) - {"1.losses.json", "0.losses.json"} == files(one) - {"alone.losses.json"}
