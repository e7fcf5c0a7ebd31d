"""Several processes with one job, as torchrun would start them: from the server that has torch loaded."""

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generated import tiny_config
from runs import as_started_alone, run, start
from torch import Tensor

from ifam.cli import main
from ifam.data.read import read_table
from ifam.training.means import Means

LOSSES = "losses.json"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(
    size: int, target: Any, *arguments: Any, environment: Any = None, seconds: float = 240
) -> list[int | None]:
    """Exit statuses of ``size`` processes; ``environment``: of a rank, instead of torchrun's."""
    port = free_port()
    variables = [(environment or by_torchrun)(rank, size, port) for rank in range(size)]
    processes = [start(_as, each, target, *arguments) for each in variables]
    for process in processes:
        process.join(seconds)
        process.kill()
    return [process.exitcode for process in processes]


def by_torchrun(rank: int, size: int, port: int) -> dict[str, str]:
    numbers = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def by_srun(rank: int, size: int, port: int) -> dict[str, str]:
    numbers = {"PROCID": rank, "STEP_NUM_TASKS": size, "LOCALID": rank, "STEP_NUM_NODES": 1, "JOB_ID": port - 15_000}
    named = {f"SLURM_{name}": str(number) for name, number in numbers.items()}
    return named | {"SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": str(port)}


def _as(environment: dict[str, str], target: Any, *arguments: Any) -> None:
    as_started_alone()
    os.environ.update(environment)
    target(*arguments)


def train_and_write_losses(changes: dict[str, Any], data: Path, folder: Path, resume: bool = False) -> None:
    """Each process writes the loss of every step, as it knows it."""
    losses: list[float] = []
    update = Means.update

    def watched(means: Means, terms: dict[str, Tensor], images: int) -> None:
        losses.append(float(terms["loss"].detach()))
        update(means, terms, images)

    Means.update = watched  # type: ignore[assignment,method-assign]
    run(tiny_config(**changes), read_table(data), folder, resume=resume)
    (folder / f"{os.environ.get('RANK', 'alone')}.{LOSSES}").write_text(json.dumps(losses))


def losses_of(folder: Path, rank: int | str) -> list[float]:
    found: list[float] = json.loads((folder / f"{rank}.{LOSSES}").read_text())
    return found


def command(arguments: Sequence[str], folder: Path) -> None:
    """The command line, what it says into a file for each process."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "alone"))
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_CREAT | os.O_WRONLY), number)
    sys.exit(main(arguments))
