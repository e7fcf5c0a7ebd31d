"""Runs in processes of their own, which are stopped and killed; and what a run comes to."""

import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Literal

import torch
from generated import tiny_config
from torch import Tensor

from ifam.cli import main
from ifam.config import TrainingConfig
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.training.run import TrainingResult, train

# a server that has torch loaded and no thread, and forks
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ifam.training.run"])

Moment = Literal["half written", "written", "renamed"]


def run(config: TrainingConfig, table: ImageTable, folder: Path, **options: Any) -> TrainingResult:
    return train(config, table, folder, say=lambda line: None, **options)


def start(target: Any, *arguments: Any) -> BaseProcess:
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


def wait_until_begun(process: BaseProcess, folder: Path) -> None:
    lock = folder / "checkpoints/.lock"
    while process.is_alive() and not (lock.exists() and f"process {process.pid} " in lock.read_text()):
        time.sleep(0.01)


def as_started_alone() -> None:
    """Loaders start their workers as they do on this system, not through the server, which a killed run would leave."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)


def train_or_die(changes: dict[str, Any], data: Path, folder: Path, kill: tuple[Moment, int] | None = None) -> None:
    """Begin the run or go on with it, and die at the n-th writing of a file."""
    as_started_alone()
    if kill is not None:
        kill_at(*kill)
    run(tiny_config(**changes), read_table(data), folder, resume=(folder / "config.yaml").is_file())


def command(arguments: Sequence[str], err: Path) -> None:
    """The command line, as the leader of a group of processes: what a terminal or a batch system sends signals to."""
    as_started_alone()
    os.setsid()
    os.dup2(os.open(err, os.O_CREAT | os.O_WRONLY), 2)
    sys.exit(main(arguments))


def kill_at(moment: Moment, number: int) -> None:
    """Have this process kill itself with -9 at its n-th checkpoint, or at the n-th file that it renames."""
    calls = itertools.count(1)
    rename, save = Path.replace, torch.save

    def rename_or_die(path: Path, target: Path) -> Path:
        last = next(calls) == number
        if last and moment == "written":
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = rename(path, target)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    def save_or_die(state: object, file: IO[bytes]) -> None:
        save(state, file)
        if next(calls) == number:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    if moment == "half written":
        torch.save = save_or_die
    else:
        Path.replace = rename_or_die  # type: ignore[assignment,method-assign]


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def assert_same_run(one: Path, other: Path) -> None:
    """All that a run decides, to the bit: its best model, its raw and averaged weights, optimizer, numbers, files."""
    assert metrics(one) == metrics(other)
    assert leaves(checkpoint(one)) == leaves(checkpoint(other))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "model.json").read_text() == (other / "model.json").read_text()
    results = (json.loads((folder / "result.json").read_text()) | {"seconds": 0} for folder in (one, other))
    assert next(results) == next(results)
    assert files(one) == files(other)


def leaves(value: object, name: str = "") -> dict[str, object]:
    """Everything in a checkpoint that a run decides, tensors by their bits; not paths and Lightning's own counts."""
    if isinstance(value, Tensor):
        return {name: (value.dtype, value.shape, value.numpy().tobytes())}
    if isinstance(value, dict):
        items = [(key, each) for key, each in value.items() if key not in ("loops", "callbacks")]
        return {n: v for key, each in items for n, v in leaves(each, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return leaves(dict(enumerate(value)), name)
    return {name: value}
