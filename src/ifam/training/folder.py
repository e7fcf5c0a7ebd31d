"""The folder of a run: what lies in it, and whether a run may start or go on there."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ifam import config as configuration
from ifam.config import TrainingConfig
from ifam.data.table import ImageTable
from ifam.errors import (
    CheckpointError,
    DataError,
    IfamError,
    MovedError,
    OutputError,
    TrainingError,
    UsageError,
    WorkerError,
    first_line,
)
from ifam.files import check_name, make_room
from ifam.model.pickles import read_pickle
from ifam.model_card import CARD
from ifam.storage import CONFIG, CONTENTS, DATA, DESCRIPTION, SPLIT_BY, SPLITS, TRAINED, WEIGHTS, remembered
from ifam.training.splits import Prepared
from ifam.training.stopping import StopRequest

METRICS, RESULT, CHECKPOINTS = "metrics.jsonl", "result.json", "checkpoints"
LAST, LOCK = f"{CHECKPOINTS}/last.ckpt", f"{CHECKPOINTS}/.lock"
FIRST = "first"
"""the run that comes before, of methods that train twice"""
RESUMING = "the same command with --resume"
"""what to run again, of ``ifam train``"""
RESUMABLE = (
    "precision", "activation_checkpointing", "compile", "workers", "device", "skip_unreadable", "checkpoint_minutes"
)  # fmt: skip
"""what may change when a run is resumed: how it is run, not what is run"""


def check_folder(folder: Path, config: TrainingConfig, table: ImageTable, resume: bool) -> None:
    """Refuse to overwrite a run, and to resume what is not one or not the same.

    Raises:
        UsageError, CheckpointError: see above.
    """
    check_name(folder / LAST)
    if resume:
        return _check_resumable(folder, config, table)
    if (folder / LAST).exists() or (folder / FIRST / LAST).exists():
        raise UsageError(f"{folder}: expected a new folder, got one that holds a run; add --resume or choose another")
    if (folder / WEIGHTS).exists() or (folder / FIRST / WEIGHTS).exists():
        raise UsageError(
            f"{folder}: expected a new folder, got one that holds a model without a checkpoint to go on from; choose "
            "another, or delete it; of a run that was killed in its first epoch, --resume begins again"
        )
    _check_foreign(folder)
    return make_room(folder / LAST)


def _check_foreign(folder: Path) -> None:
    """Refuse a folder with files of other origin that a run would write over; one that has just begun may be there."""
    names = (CONFIG, DATA, SPLITS, DESCRIPTION, CARD, METRICS, RESULT)
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not _has_begun(folder):
        raise UsageError(
            f"{folder}: expected a new folder, got one with a {there[0]} of something else; choose another"
        )


def _has_begun(folder: Path) -> bool:
    try:
        return remembered(folder).keys() >= {"classes", "digest"}
    except CheckpointError:
        return False


def describe_data(table: ImageTable) -> dict[str, Any]:
    """What tells one data set from another without its pixels, for ``data.json``."""
    rows = [(sample.name, sample.label, sample.group, sample.split) for sample in table.samples]
    return {
        "classes": list(table.class_names),
        "groups": list(table.group_names),
        "images": len(rows),
        "digest": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def describe_training(prepared: Prepared) -> dict[str, Any]:
    """What ``data.json`` remembers besides: the images of each class that were trained on, and the contents of all."""
    return {
        TRAINED: prepared.table.select("train").class_counts(),
        SPLIT_BY: prepared.table.split_by,
        CONTENTS: {name: f"{size} {digest}" for name, (size, digest) in prepared.contents.items()},
    }


def _check_resumable(folder: Path, config: TrainingConfig, table: ImageTable) -> None:
    last = _last_checkpoint(folder)
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder}: expected a run to resume, found none; start it without --resume")
    if last is None and (folder / RESULT).is_file():
        raise UsageError(f"{folder}: expected a run with {LAST} to resume, found none; delete the folder")
    check_same_settings(folder, config)
    check_same_data(folder, table)
    if last is None:  # stopped before anything was saved: it begins again
        return
    content = read_pickle(last, mmap=True)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{last}: expected a checkpoint of a run, got something else; delete the folder")


def check_same_settings(folder: Path, config: TrainingConfig) -> None:
    """Refuse a run with other settings than these, but for how it is run."""
    before, now = (_flat(configuration.to_dict(each)) for each in (configuration.read(folder / CONFIG), config))
    for name in now:
        if name not in RESUMABLE and now[name] != before[name]:
            raise UsageError(
                f"{folder}: expected the settings of the run to resume, {name} {before[name]}, got {now[name]}; only "
                f"{', '.join(RESUMABLE)} may change: choose another folder for a new run"
            )


def check_same_data(folder: Path, table: ImageTable) -> None:
    """Refuse a run on other data."""
    before = remembered(folder)
    now = describe_data(table)
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        got = {
            "classes": f"other classes ({', '.join(table.class_names[:10])})",
            "groups": f"other groups ({', '.join(table.group_names[:10]) or 'none'})",
            "images": f"{len(table)} images instead of {before.get('images')}",
            "digest": "other names, labels, groups or splits of its images",
        }[changed[0]]
        raise UsageError(f"{folder}: expected the data of the run to resume, got {got}; choose another folder")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names and their values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _last_checkpoint(folder: Path) -> Path | None:
    """Of the run, or of the first of two in which it was stopped."""
    return next((path for path in (folder / LAST, folder / FIRST / LAST) if path.is_file()), None)


def how_to_go_on(folder: Path) -> str:
    """What to tell the user of a run that was stopped."""
    last = _last_checkpoint(folder)
    if last is None:
        return f"nothing was saved in {folder} yet: {RESUMING} begins again"
    return f"{RESUMING} goes on from {last}"


@contextmanager
def naming_checkpoint(last: Path | None, stop: StopRequest) -> Iterator[None]:
    """What goes wrong before the training starts, where it goes on from a checkpoint, is the fault of that file."""
    try:
        yield
    except IfamError:
        raise
    except Exception as error:  # Lightning passes on what is missing or odd in the file as it meets it
        if last is None or stop.awaited:
            raise
        raise CheckpointError(
            f"{last}: expected the checkpoint of this run, got one that cannot be gone on from: {first_line(error)}; "
            "delete the folder and begin again"
        ) from error


@contextmanager
def saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Whatever stops the run, its one line says how to go on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:  # the latter is what Lightning makes of the former
        raise KeyboardInterrupt(f"interrupted; {how_to_go_on(folder)}") from stop
    except MovedError:  # what can be gone on from there is another run
        raise
    except (DataError, OutputError) as error:
        if _last_checkpoint(folder) is None:
            raise
        raise type(error)(f"{error}; {how_to_go_on(folder)}") from error
    except WorkerError as error:
        raise TrainingError(f"{error}; {how_to_go_on(folder)}") from error
