"""When a run is saved, and how."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from ifam.files import replacing
from ifam.training.module import TrainingModule
from ifam.training.stopping import StopRequest


class Checkpoints(Checkpoint):
    """Saves the run after every epoch, every ``minutes`` within one, and when it is asked to stop.

    Within an epoch only after an optimizer's step, since gradients are not saved. A clock that jumps moves the times
    of the savings, and changes nothing else: a run goes on the same from any of them.
    """

    def __init__(self, path: Path, *, minutes: float, stop: StopRequest) -> None:
        self.path, self.minutes, self.stop = path, minutes, stop
        self._saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """From now on a request to stop is answered here."""
        self.stop.listen()
        self.stop.awaited = True
        self._saved = time.monotonic()

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Nothing is left to save."""
        self.stop.awaited = False

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Not after an epoch's last batch: validation and the epoch's own checkpoint follow."""
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches or done == trainer.num_training_batches:
            return
        if self._any(trainer, self.stop.asked or time.monotonic() - self._saved >= 60 * self.minutes):
            self._save(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Every epoch."""
        self._save(trainer, module)

    def _save(self, trainer: Trainer, module: TrainingModule) -> None:
        module.require_finite()
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()
        if self._any(trainer, self.stop.asked):
            raise KeyboardInterrupt

    @staticmethod
    def _any(trainer: Trainer, decision: bool) -> bool:
        """What any of several processes says, all do."""
        return bool(trainer.strategy.reduce_boolean_decision(decision, all=False))


class WholeFiles(TorchCheckpointIO):
    """Checkpoints under a temporary name until all is on the disk: the one before stands until then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See `ifam.files.replacing`."""
        size = sum(tensor.nbytes for tensor in _tensors(checkpoint))
        with replacing(path, size=size) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch fails again as it closes a half-written file: what a signal raised before that says why
                if error.__context__ is not None:
                    raise error.__context__ from None
                raise


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)
