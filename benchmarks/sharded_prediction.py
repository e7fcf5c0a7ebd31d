"""Sharded prediction killed with -9 and resumed, against the same without interruption.

    python benchmarks/sharded_prediction.py --json FILE

Generated images, and the smallest backbone that ifam brings along, untrained from there on; every call is the command
line in a process of its own. Counted are the seconds and the processor seconds of all calls, with each start and what
the killed ones did in vain; the seconds of both sides are comparable on a machine that does nothing else.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import protocol
import pyarrow.parquet as pq
from PIL import Image

from ifam.model.two_stage import IFAM
from ifam.storage import save

SIDE, PER_FOLDER = 112, 1000


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the command, until it ended or was killed."""

    seconds: float
    cpu_seconds: float
    shards: int
    """that were there afterwards"""
    killed: bool


def write_images(folder: Path, number: int) -> None:
    """Blocks of random colours, each other than all others."""
    colours = np.random.default_rng(0)
    for start in range(0, number, PER_FOLDER):
        below = folder / f"{start // PER_FOLDER:03d}"
        below.mkdir(parents=True)
        for index in range(start, min(start + PER_FOLDER, number)):
            blocks = colours.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            pixels = blocks.repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)
            Image.fromarray(pixels).save(below / f"{index:06d}.jpg", quality=90)


def write_model(folder: Path) -> None:
    save(IFAM("ifam-nano", num_parts=4, num_classes=10), folder)


def call(place: Path, out: str, options: argparse.Namespace, kill_at: float | None = None) -> Call:
    """Predict, or go on; ``kill_at``: a number of shards, its fraction that of a second after the last of them."""
    arguments = ["predict", "model", "images", "--out", out, "--shard-size", str(options.shard_size), "--device", "cpu"]
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ifam.cli", *arguments], cwd=place, start_new_session=True)
    if kill_at is not None:
        while shards(place / out) < int(kill_at) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(kill_at % 1)
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    seconds, after = time.perf_counter() - start, os.times()
    if status != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"{out}: expected the command to end well or by the kill, got status {status}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Call(
        seconds=round(seconds, 2), cpu_seconds=round(cpu, 2), shards=shards(place / out), killed=kill_at is not None
    )


def shards(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def moments(options: argparse.Namespace) -> list[float]:
    """Increasing numbers of shards at which to kill, each drawn at random from a stretch of its own."""
    stretch = options.images / options.shard_size / (options.kills + 1)
    draw = random.Random(options.seed)
    return [(number + draw.uniform(0.2, 1)) * stretch for number in range(options.kills)]


def checked(place: Path) -> dict[str, Any]:
    """Of the Parquet output itself: each image once, and the rows those of the undisturbed run."""
    straight, killed = (pq.read_table(place / name) for name in ("straight", "killed"))
    paths = killed["path"].to_pylist()
    expected = {path.relative_to(place).as_posix() for path in (place / "images").rglob("*.jpg")}
    return {
        "rows": len(paths),
        "every image once": len(paths) == len(set(paths)) and set(paths) == expected,
        "bits as without interruption": bool(straight.equals(killed)),
    }


def total(calls: list[Call], name: str) -> float:
    return round(sum(getattr(each, name) for each in calls), 2)


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The undisturbed call in the middle of two halves would need twice the time; it goes first."""
    write_images(place / "images", options.images)
    write_model(place / "model")
    straight = [call(place, "straight", options)]
    killed = [call(place, "killed", options, moment) for moment in moments(options)]
    killed.append(call(place, "killed", options))
    print(straight, killed, flush=True)
    sides = {"undisturbed": straight, "killed": killed}
    rates = {
        side: {
            "images/s": round(options.images / total(calls, "seconds"), 2),
            "images per processor second": round(options.images / total(calls, "cpu_seconds"), 2),
            "seconds": total(calls, "seconds"),
            "processor seconds": total(calls, "cpu_seconds"),
            "calls": [asdict(each) for each in calls],
        }
        for side, calls in sides.items()
    }
    return {
        **checked(place),
        "rate of the killed against the undisturbed, by seconds": ratio(sides, "seconds"),
        "rate of the killed against the undisturbed, by processor seconds": ratio(sides, "cpu_seconds"),
        **rates,
    }


def ratio(sides: dict[str, list[Call]], name: str) -> float:
    return round(total(sides["undisturbed"], name) / total(sides["killed"], name), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="default 20000")
    parser.add_argument("--shard-size", type=int, default=500, help="default 500")
    parser.add_argument("--kills", type=int, default=2, help="default 2")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default 0)")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options)
    settings = {name: getattr(options, name) for name in ("images", "shard_size", "kills", "seed")}
    protocol.write_report(
        options.json,
        (__doc__ or "").splitlines()[0],
        "python benchmarks/sharded_prediction.py --json FILE",
        {"settings": settings, "measured": found},
        precision="32-true",
    )


if __name__ == "__main__":
    main()
