"""Many cases in a process of their own, which is replaced where it dies, hangs or takes too much memory."""

import gc
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hostile.case import SEED, Case, Material
from hostile.corpus import corpus
from hostile.judge import BYTES, SCRATCH, SECONDS, Outcome

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
CACHES = ("HOME", "XDG_CACHE_HOME", "TMPDIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")
"""where libraries keep what they want: torch and onnxruntime write there"""
COMMAND = "cd tests && python -m hostile --json ../benchmarks/results/hostile.json"


def survey(only: str = "", every: int = 1, say: Callable[[str], None] = print) -> list[Outcome]:
    """What came of each case, in order; defects are said at once."""
    chosen, found = corpus(only, every), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="hostile") as folder:
        for outcome in _outcomes(chosen, Path(folder)):
            found.append(outcome)
            if len(found) % 100 == 0:
                say(f"{len(found)} of {len(chosen)}")
            if outcome.result == "defect":
                say(f"{outcome.name}: {outcome.said}")
    return found


def _outcomes(cases: Sequence[Case], folder: Path) -> Iterator[Outcome]:
    worker: _Worker | None = None
    try:
        for case in cases:
            if worker is not None and _resident(worker.process.pid) > KEPT:
                worker.stop()
                worker = None
            worker = worker or _Worker(folder)
            outcome = worker.ask(case)
            if outcome is None:
                outcome, worker = worker.obituary(case), None
            yield outcome
    finally:
        if worker is not None:
            worker.stop()


KEPT = 1.1 * 2**30
"""bytes that a process may keep of earlier cases: a command that a person starts keeps nothing"""


class _Worker:
    def __init__(self, folder: Path) -> None:
        self.mine, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        (folder / SCRATCH).mkdir(exist_ok=True)
        environment = ENVIRONMENT | dict.fromkeys(CACHES, str(folder / SCRATCH))
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, str(folder)))
        self.process.start()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        self.why = "ended"
        self.mine.recv()  # it is ready

    def ask(self, case: Case) -> Outcome | None:
        """None where the process did not live to answer."""
        self.mine.send(case.name)
        self.began = time.monotonic()
        while not self.mine.poll(0.05):
            if not self.process.is_alive():
                self.why = f"ended with {self.process.exitcode}"
                return None
            if time.monotonic() - self.began > 6 * SECONDS:  # the input is made in that time as well
                self.why = "hung where no signal reached it"
                return None
            if _resident(self.process.pid) > 1.5 * BYTES:
                self.why = f"took more than {1.5 * BYTES / 2**30:.0f} GiB"
                return None
        try:
            outcome: Outcome = self.mine.recv()
        except EOFError:
            self.process.join()
            self.why = f"ended with {self.process.exitcode}"
            return None
        return outcome

    def obituary(self, case: Case) -> Outcome:
        self.process.kill()
        self.process.join()
        seconds = time.monotonic() - self.began
        return Outcome(name=case.name, result="defect", said=f"the process {self.why}", seconds=seconds, rss=0)

    def stop(self) -> None:
        self.mine.close()
        self.process.join(5)
        self.process.kill()


def _serve(pipe: Connection, folder: str) -> None:
    import sys

    import torch

    from hostile.judge import audit, judge

    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    place, material = Path(folder), Material(Path(folder) / "material")
    material.root.mkdir(exist_ok=True)
    material.build()
    gc.freeze()  # or every collection would go through all of torch
    audit()
    by_name = {case.name: case for case in corpus()}
    pipe.send("ready")
    for number in itertools.count():
        try:
            name = pipe.recv()
        except EOFError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # some libraries count their leaks when they go
            return
        pipe.send(judge(by_name[name], place / f"{os.getpid()}-{number}", material))


def _resident(pid: int | None) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def report(found: Sequence[Outcome], path: Path | None) -> int:
    """Counts on the screen and in a file; 1 where there is a defect."""
    values = summary(found)
    if path is not None:
        path.write_text(json.dumps(values, indent=1) + "\n")
    print(json.dumps(values["kinds"], indent=1))
    return int(any(outcome.result == "defect" for outcome in found))


def summary(found: Sequence[Outcome]) -> dict[str, Any]:
    """What is kept of a survey."""
    kinds = sorted({outcome.name.partition("/")[0] for outcome in found})
    slowest, largest = max(found, key=lambda each: each.seconds), max(found, key=lambda each: each.rss)
    return {
        "description": "Malformed inputs to the command line and the page: what came of each.",
        "command": COMMAND,
        "seed": SEED,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            name: version(name) for name in ("ifam", "torch", "pillow", "pyarrow", "pyyaml", "safetensors", "pydicom")
        },
        "limits": {"seconds": SECONDS, "gibibytes": BYTES / 2**30},
        "inputs": len(found),
        "kinds": {kind: _tally([each for each in found if each.name.startswith(f"{kind}/")]) for kind in kinds},
        "slowest": {"name": slowest.name, "seconds": slowest.seconds},
        "largest": {"name": largest.name, "gibibytes": round(largest.rss / 2**30, 3)},
        "defects": {each.name: each.said for each in found if each.result == "defect"},
    }


def _tally(found: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "inputs": len(found),
        **dict(sorted(Counter(outcome.result for outcome in found).items())),
        "seconds": round(sum(outcome.seconds for outcome in found), 1),
        "largest_gibibytes": round(max(outcome.rss for outcome in found) / 2**30, 3),
    }
