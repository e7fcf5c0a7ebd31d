"""What ``ifam train --logger`` writes, beside metrics.jsonl: the same numbers, into the run folder."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from generated import write_scenes
from runs import metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ifam.cli import main

OPTIONS = ["--epochs", "3", "--batch-size", "4", "--num-parts", "2", "--workers", "0", "--device", "cpu"]
TINY = ["--image-size", "48", "--backbone", "test_vit", "--set", "model.pretrained=false"]
LAST_STEPS = [2, 5, 8]  # of three epochs of three batches


def train(folder: Path, logger: str) -> None:
    photographs = write_scenes(folder.parent / "scenes")
    assert main(["train", str(photographs), "--out", str(folder), "--logger", logger, *OPTIONS, *TINY]) == 0


def written(folder: Path) -> list[dict[str, float]]:
    """A line for each epoch, of numbers alone."""
    lines = [{name: value for name, value in line.items() if name != "val/groups"} for line in metrics(folder)]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all({"train/loss", "val/worst_group_accuracy"} <= line.keys() for line in lines)
    return lines


def test_tensorboard_shows_the_numbers_of_every_epoch(tmp_path: Path) -> None:
    train(tmp_path / "run", "tensorboard")
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    shown: list[dict[str, float]] = [{}, {}, {}]
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            shown[LAST_STEPS.index(event.step)][name] = event.value
    assert shown == written(tmp_path / "run")


class Recorded:
    """A run of W&B that keeps what it is given."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.lines: list[dict[str, float]] = []
        self.finished = False
        self.config: dict[str, Any] = {}

    def log(self, line: dict[str, float]) -> None:
        self.lines.append(line)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The runs that Lightning's logger, the real one, begins with a package that only records: wandb takes 73 MB."""
    runs: list[Recorded] = []
    package: Any = ModuleType("wandb")
    package.run, package.init = None, lambda **options: runs.append(Recorded(**options)) or runs[-1]
    stubs = {
        "wandb": package,
        "wandb.sdk": ModuleType("wandb.sdk"),
        "wandb.sdk.lib": SimpleNamespace(RunDisabled=type(None)),
        "wandb.wandb_run": SimpleNamespace(Run=Recorded),
    }
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    monkeypatch.setattr("ifam.training.trainer.version", lambda name: "1")
    return runs


def test_wandb_gets_the_run_folder_and_the_numbers_of_every_epoch(wandb: list[Recorded], tmp_path: Path) -> None:
    train(tmp_path / "run", "wandb")
    (begun,) = wandb
    assert begun.finished  # or a second training of this process would go on in it
    assert (begun.options["dir"], begun.options["project"]) == (str(tmp_path / "run"), "ifam")
    steps = zip(LAST_STEPS, written(tmp_path / "run"), strict=True)
    assert begun.lines == [line | {"trainer/global_step": step} for step, line in steps]
