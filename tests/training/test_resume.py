"""Runs that are stopped, killed and ruined, and go on to the same bits."""

import io
import json
import os
import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import tiny_config, write_scenes
from runs import (
    PROCESSES,
    assert_same_run,
    checkpoint,
    command,
    files,
    metrics,
    run,
    start,
    train_or_die,
    wait_until_begun,
)
from torch import Tensor

import ifam
from ifam import signals
from ifam.data.dataset import ImageDataset
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError, OutputError, TrainingError, WorkerError
from ifam.losses import functional
from ifam.training import checkpoints
from ifam.training.lock import locked
from ifam.training.module import TrainingModule

STAGED = {
    "model__prototype_init": "centre",
    "optimizer__cosine": "step",
    "optimizer__stage1_epochs": 1,
    "optimizer__freeze_stage1": True,
}
AVERAGED = {"ema": 0.9, "workers": 2, "optimizer__accumulate": 2}
EVERY_STEP = 1e-9  # minutes
LAST = "checkpoints/last.ckpt"


def raise_at(epoch: int, step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both counted from 0."""
    original = TrainingModule.training_step

    def step_or_raise(module: TrainingModule, batch: Any, index: int) -> Tensor | None:
        if (module.current_epoch, index) == (epoch, step):
            raise error
        return original(module, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", step_or_raise)


def signal_at(epoch: int, step: int, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]) -> None:
    original = TrainingModule.training_step

    def step_after_signal(module: TrainingModule, batch: Any, index: int) -> Tensor | None:
        if (module.current_epoch, index) == (epoch, step):
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(module, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", step_after_signal)


# Killed with -9. Of the processes that a run needs, the first ones are killed at a forced moment or at any.


KILLED = {"ema": 0.9, "workers": 2, "optimizer__epochs": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", {"train": 6, "val": 2, "test": 1})


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An undisturbed run, and the seconds that it takes."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    process = start(train_or_die, KILLED, data, folder)
    wait_until_begun(process, folder)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return folder, time.monotonic() - began


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 27))])
def test_a_run_that_is_killed_at_any_moment_ends_the_same(
    seed: int, data: Path, straight: tuple[Path, float], tmp_path: Path
) -> None:
    folder, (expected, seconds), draw = tmp_path / "run", straight, random.Random(seed)
    changes = KILLED | {"checkpoint_minutes": EVERY_STEP if seed % 4 < 2 else 10.0}
    for attempt in range(2):
        forced = (seed + attempt) % 2 == 0
        moment = draw.choice(("half written", "written", "renamed"))
        number = draw.randint(1, 6) if moment == "half written" else draw.randint(1, 16)
        process = start(train_or_die, changes, data, folder, (moment, number) if forced else None)
        if not forced:
            wait_until_begun(process, folder)
        process.join(None if forced else draw.uniform(0, seconds))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        print(f"seed {seed}: killed {f'with file {number} {moment}' if forced else 'at any moment'}, {files(folder)}")
    process = start(train_or_die, changes, data, folder)
    process.join()
    assert process.exitcode == 0
    assert_same_run(folder, expected)


# Stopped


@pytest.mark.parametrize("changes", [STAGED, AVERAGED], ids=["staged", "averaged, two workers"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_within_an_epoch_goes_on_from_that_step(
    number: int,
    changes: dict[str, Any],
    scenes: ImageTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config(optimizer__epochs=3, optimizer__batch_size=2, **changes)
    run(config, scenes, tmp_path / "straight")
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(1, 2, patch, (number,))
        with pytest.raises(KeyboardInterrupt, match=r"with --resume goes on from .*last.ckpt"):
            run(config, scenes, tmp_path / "stopped")
    assert signal.getsignal(number) == before
    assert "stopping after this step" in capsys.readouterr().err
    assert [line["epoch"] for line in metrics(tmp_path / "stopped")] == [0]
    # the third batch of the epoch, or the next that ends a step of the optimizer
    progress = checkpoint(tmp_path / "stopped")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert progress["processed"] == 3 if config.optimizer.accumulate == 1 else 4
    run(config, scenes, tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")


def test_the_second_signal_stops_at_once(scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = tiny_config(), tmp_path / "run"
    run(config, scenes, tmp_path / "straight")
    with monkeypatch.context() as patch:
        signal_at(0, 1, patch, (signal.SIGTERM, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match=r"nothing was saved .* --resume begins again"):
            run(config, scenes, folder)
    assert not (folder / LAST).exists()
    run(config, scenes, folder, resume=True)
    assert_same_run(folder, tmp_path / "straight")


@pytest.mark.skipif(os.name == "nt", reason="needs groups of processes")
@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_to_every_process_of_a_run_stops_it_in_good_order(number: int, data: Path, tmp_path: Path) -> None:
    folder, err = tmp_path / "run", tmp_path / "err"
    settings = ["model.pretrained=false", f"checkpoint_minutes={EVERY_STEP}"]
    given = ["--backbone", "test_vit", "--workers", "2", "--epochs", "99", "--batch-size", "4", "--device", "cpu"]
    arguments = ["train", str(data), "--out", str(folder), *given, *(f"--set={setting}" for setting in settings)]
    process = start(command, arguments, err)
    while not (folder / LAST).exists():
        assert process.is_alive(), err.read_text()
        time.sleep(0.01)
    assert process.pid is not None
    os.killpg(process.pid, number)
    process.join(30)
    assert process.exitcode == 130
    assert err.read_text().splitlines() == [
        "stopping after this step, to save; once more stops at once",
        f"interrupted; the same command with --resume goes on from {folder / LAST}",
    ]


# Two runs in one folder


def hold(path: Path, held: Any) -> None:
    with locked(path):
        held.set()
        time.sleep(60)


def test_a_folder_with_a_run_going_on_is_refused_until_it_ends_however_it_ends(
    scenes: ImageTable, tmp_path: Path, refuses_line: Any
) -> None:
    folder, held = tmp_path / "run", PROCESSES.Event()
    process = start(hold, folder / "checkpoints/.lock", held)
    assert held.wait(60)
    with refuses_line(folder, f"process {process.pid} on ", "choose another"):
        run(tiny_config(), scenes, folder)
    assert files(folder) == {"checkpoints/.lock"}
    process.kill()
    process.join()
    run(tiny_config(optimizer__epochs=1), scenes, folder)


# Faults


@pytest.fixture
def limit() -> Iterator[Any]:
    """Limits the size of any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full", [LAST, "model.safetensors"])
def test_a_full_disk_leaves_what_was_saved(
    full: str, scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Any
) -> None:
    config, folder = tiny_config(optimizer__epochs=3, select_by="last"), tmp_path / "run"
    run(config, scenes, tmp_path / "straight")
    sizes = {name: (tmp_path / "straight" / name).stat().st_size for name in (LAST, "model.safetensors")}
    begin = TrainingModule.on_train_epoch_start

    def begin_with_limit(module: TrainingModule) -> None:
        begin(module)
        if module.current_epoch == 1:
            limit(sizes[full] * 3 // 4)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_epoch_start", begin_with_limit)
        with pytest.raises(OutputError, match=r"got: file too large .* --resume goes on from") as caught:
            run(config, scenes, folder)
    said = re.match(r"(.+): expected room for ([\d.]+) MiB", str(caught.value))
    assert said is not None
    assert said[1] == str(folder / full)
    assert float(said[2]) == pytest.approx(sizes[full] / 2**20, rel=0.05)
    limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert checkpoint(folder)["epoch"] == 0
    assert all(value.isfinite().all() for value in ifam.load(folder).state_dict().values())
    run(config, scenes, folder, resume=True)
    assert_same_run(folder, tmp_path / "straight")


def test_an_image_that_becomes_unreadable_within_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    table, folder = read_table(write_scenes(tmp_path / "scenes")), tmp_path / "run"
    damaged, begin = table.select("train").samples[0].path, TrainingModule.on_train_epoch_start

    def damage(module: TrainingModule) -> None:
        begin(module)
        if module.current_epoch == 1:
            damaged.write_bytes(b"")

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", damage)
    with refuses_line(damaged, "--skip-unreadable", f"--resume goes on from {folder / LAST}", error=DataError):
        run(tiny_config(), table, folder)
    run(tiny_config(skip_unreadable=True), table, folder, resume=True)
    assert [line["epoch"] for line in metrics(folder)] == [0, 1]


def test_a_worker_that_dies(
    scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    main, get = os.getpid(), ImageDataset.__getitem__

    def get_or_die(dataset: ImageDataset, draw: Any) -> Any:
        if os.getpid() != main and draw.index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(dataset, draw)

    monkeypatch.setattr(ImageDataset, "__getitem__", get_or_die)
    with refuses_line("workers: expected", "DataLoader worker", "fewer --workers", "--resume", error=TrainingError):
        run(tiny_config(workers=2), scenes, tmp_path / "run")


@pytest.mark.parametrize("error", [KeyboardInterrupt("asked"), WorkerError("a worker died")])
def test_what_a_signal_raises_within_a_checkpoint_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Torch would say that it cannot close the file, of which half is written."""
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the one before")

    class Stopped(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 2000:
                raise error
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda self, mode: Stopped(self, mode))
    with pytest.raises(type(error), match=str(error)):
        checkpoints.WholeFiles().save_checkpoint({"weights": [torch.zeros(1000) for _ in range(9)]}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == b"the one before"


def test_a_loss_that_is_not_finite_stops_the_run(
    scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    calls = []

    def entropy(maps: Tensor) -> Tensor:
        calls.append(maps)
        return maps.mean() if len(calls) <= 4 else maps.mean() * torch.nan

    monkeypatch.setattr(functional, "entropy", entropy)
    with refuses_line("epoch 2, step 2: loss term entropy", "nan", "lower learning rates", error=TrainingError):
        run(tiny_config(), scenes, tmp_path / "run")
    assert checkpoint(tmp_path / "run")["epoch"] == 0
    assert len(metrics(tmp_path / "run")) == 1
    assert all(value.isfinite().all() for value in ifam.load(tmp_path / "run").state_dict().values())


@pytest.mark.parametrize(("step", "minutes"), [(3, 10.0), (2, EVERY_STEP)], ids=["last step", "within the epoch"])
def test_weights_that_a_step_ruined_are_neither_scored_nor_saved(
    step: int,
    minutes: float,
    scenes: ImageTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refuses_line: Any,
) -> None:
    calls = []

    def entropy(maps: Tensor) -> Tensor:
        calls.append(maps)
        return maps.mean() + ((maps.mean() * 0).sqrt() if len(calls) == 3 + step else 0)  # its gradient is NaN

    monkeypatch.setattr(functional, "entropy", entropy)
    with refuses_line(f"epoch 2, step {step}: ", "finite weights", error=TrainingError):
        run(tiny_config(checkpoint_minutes=minutes), scenes, tmp_path / "run")
    saved = checkpoint(tmp_path / "run")["state_dict"].values()
    assert all(value.isfinite().all() for value in saved)
    assert all(value.isfinite().all() for value in ifam.load(tmp_path / "run").state_dict().values())


def test_a_clock_that_jumps(scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny_config(), scenes, tmp_path / "straight")
    draw = random.Random(0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.time, "monotonic", lambda: draw.uniform(-1e6, 1e6))
        raise_at(1, 2, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config(), scenes, tmp_path / "run")
    run(tiny_config(), scenes, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


# What is refused


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    scenes: ImageTable, tmp_path: Path, refuses_line: Any
) -> None:
    config, folder = tiny_config(optimizer__epochs=1), tmp_path / "run"
    run(config, scenes, folder)
    (folder / LAST).unlink()
    with refuses_line(folder, "found none; delete the folder"):  # it is complete
        run(config, scenes, folder, resume=True)
    (folder / "result.json").unlink()
    with refuses_line(folder, "a model without a checkpoint", "--resume begins again"):
        run(config, scenes, folder)
    with refuses_line(folder, "settings of the run"):
        run(tiny_config(optimizer__epochs=2), scenes, folder, resume=True)
    run(config, scenes, folder, resume=True)


def test_the_time_of_every_session_counts(scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        raise_at(1, 0, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config(), scenes, folder)
    state = torch.load(folder / LAST, weights_only=True)
    state["callbacks"]["MetricsFile"]["seconds"] = 1000.0
    torch.save(state, folder / LAST)
    result = run(tiny_config(), scenes, folder, resume=True)
    assert result.seconds > 1000
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["seconds"] > 1000
