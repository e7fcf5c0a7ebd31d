"""What a run writes down and shows while it goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ifam.data.module import batches_done
from ifam.errors import CheckpointError
from ifam.files import append_line, parse_json, to_json, write_text
from ifam.storage import save
from ifam.training.module import TrainingModule


class MetricsFile(Callback):
    """One line of JSON per epoch in ``metrics.jsonl``; a resumed run goes on after the last checkpoint's epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier = 0.0
        """seconds of the sessions before this one, up to the checkpoint that it went on from"""
        self._started = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Drop lines of epochs that will be run again: before this hook a resumed run says epoch 0."""
        self._started = time.monotonic()
        if self.path.exists():
            write_text(self.path, "".join(f"{line}\n" for line in whole_lines(self.path, trainer.current_epoch)))

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Lightning would go on reporting terms that are no longer computed."""
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """After validation: every number of the epoch."""
        numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
        line: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "seconds": round(self._seconds, 1),
            **numbers,
        }
        if isinstance(module, TrainingModule) and module.score is not None:
            line["val/groups"] = {name: group.accuracy for name, group in module.score.groups.items()}
        append_line(self.path, to_json(line))  # on the disk: the checkpoint that follows counts on it

    @property
    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """The time that the run took until now."""
        return {"seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.earlier = state_dict["seconds"]


def whole_lines(metrics: Path, before: int) -> list[str]:
    """Lines of the epochs before one; not a last line that a killed run left half written."""
    text = metrics.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [line for line in lines if _epoch(line, metrics) < before]


def _epoch(line: str, metrics: Path) -> int:
    epoch = parse_json(line, metrics, CheckpointError).get("epoch")
    if not isinstance(epoch, int):
        raise CheckpointError(f"{metrics}: expected an epoch's number in each line, got {epoch!r}; delete the line")
    return epoch


class BestModel(Callback):
    """Keeps the model of the best validation epoch in the run folder, from the first epoch that trains every stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best: float | None = None
        self.epoch: int | None = None

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Save if better. Stands before the averaging callback, which takes the averaged weights out again."""
        module.score_epoch()
        if not module.fully_trained:
            return
        if self.best is None or module.selection_score > self.best:
            self.best, self.epoch = module.selection_score, trainer.current_epoch
            weights = module.weights()
            if trainer.is_global_zero:
                save(module.model, self.folder, weights)

    def state_dict(self) -> dict[str, Any]:
        """For exact resumption."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]


class ProgressBar(Callback):
    """One line per epoch and, on a terminal, images per second and the time left for the whole run."""

    def __init__(self, images_per_epoch: int, say: Callable[[str], None] = print) -> None:
        self.images = images_per_epoch
        self.say = say
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Open the bar at the epoch that a resumed run starts from."""
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s, left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        epochs = trainer.max_epochs or 1
        self._bar.start()
        share = batches_done(trainer) / trainer.num_training_batches
        done = round((trainer.current_epoch + share) * self.images)
        self._task = self._bar.add_task("", total=epochs * self.images, completed=done, epoch=f"1/{epochs}", rate=0.0)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance."""
        assert self._bar is not None
        images = len(batch) * trainer.world_size
        self._bar.update(self._task, advance=images, epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}")
        self._bar.update(self._task, rate=self._bar.tasks[0].speed or 0.0)

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """One line that stays."""
        score = getattr(module, "score", None)
        text = "" if score is None else describe_score(score.numbers())
        loss = trainer.callback_metrics.get("train/loss")
        alone = "" if module.fully_trained else " (stage 1 alone)"
        self.say(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{alone}: loss {float(loss or 0):.3f}{text}")

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        self.on_train_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()


def describe_score(numbers: dict[str, float]) -> str:
    """The numbers that a line of progress has room for."""
    shown = {
        "accuracy": "validation accuracy",
        "worst_group_accuracy": "worst group",
        "foreground_iou": "foreground IoU",
        "mean_kept": "kept",
    }
    return "".join(f", {label} {numbers[name]:.3f}" for name, label in shown.items() if name in numbers)
