"""The folder of a run: what lies in it, and whether a run may start or go on there."""

from pathlib import Path

import torch

from ifam import config as configuration
from ifam.config import TrainingConfig
from ifam.errors import CheckpointError, UsageError
from ifam.files import make_folder
from ifam.storage import WEIGHTS

CONFIG, METRICS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
RESUMABLE = ("precision", "workers", "device", "skip_unreadable")
"""what may change when a run is resumed: how it is run, not what is run"""


def check_folder(folder: Path, config: TrainingConfig, resume: bool) -> None:
    """Refuse to overwrite a run, and to resume what is not one or not the same.

    Raises:
        UsageError, CheckpointError: see above.
    """
    if resume:
        return _check_resumable(folder, config)
    if (folder / LAST).exists() or (folder / WEIGHTS).exists():
        raise UsageError(f"{folder}: expected a new folder, got one that holds a run; add --resume or choose another")
    return make_folder(folder)


def _check_resumable(folder: Path, config: TrainingConfig) -> None:
    if not (folder / LAST).is_file():
        raise UsageError(f"{folder}: expected a run with {LAST} to resume, found none; start it without --resume")
    before = configuration.read(folder / CONFIG)
    changed = [name for name in vars(config) if getattr(config, name) != getattr(before, name)]
    refused = [name for name in changed if name not in RESUMABLE]
    if refused:
        raise UsageError(
            f"{folder}: expected the settings of the run to resume, got another {refused[0]}; only "
            f"{', '.join(RESUMABLE)} may change: choose another folder for a new run"
        )
    try:
        torch.load(folder / LAST, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # damaged bytes make torch's unpickler raise anything
        raise CheckpointError(f"{folder / LAST}: expected a whole checkpoint, got a damaged one") from error


def how_to_go_on(folder: Path) -> str:
    """What to tell the user of a run that was stopped."""
    if (folder / LAST).is_file():
        return f"interrupted; the same command with --resume goes on from {folder / LAST}"
    return f"interrupted before the first epoch was complete; nothing to resume in {folder}"
