"""Which parts and tokens to switch off, chosen on a validation split; stage 1 runs once for all of the choices."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ifam.config import Precision
from ifam.data.batch import require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import DataError, UsageError
from ifam.metrics.bootstrap import Interval, accuracy_interval, worst_group_accuracy_interval
from ifam.metrics.groups import group_accuracy, worst_group_accuracy
from ifam.model.two_stage import IFAM


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """Arguments of the model's call."""

    remove_parts: tuple[int, ...] = ()
    token_quantile: float | None = None

    def __str__(self) -> str:
        parts = f"without parts {' '.join(map(str, self.remove_parts))}" if self.remove_parts else ""
        tokens = "" if self.token_quantile is None else f"tokens up to q = {self.token_quantile:g}"
        return ", ".join(filter(None, (parts, tokens))) or "none"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an intervention gave on the split."""

    intervention: Intervention
    num_samples: int
    accuracy: float
    worst_group_accuracy: float | None
    mean_kept: float
    accuracy_interval: Interval | None = None
    """95 %, over another sample of images of this split"""
    worst_group_interval: Interval | None = None

    @property
    def score(self) -> tuple[float, float]:
        """What is compared: worst-group accuracy where groups are known, then accuracy."""
        return (self.accuracy if self.worst_group_accuracy is None else self.worst_group_accuracy), self.accuracy


def possible(model: IFAM) -> list[Intervention]:
    """Nothing; each part alone, unless there is one; each calibrated quantile; every pair of the two."""
    parts = [(), *((part,) for part in range(model.num_parts) if model.num_parts > 1)]
    return [
        Intervention(remove_parts=removed, token_quantile=quantile)
        for removed in parts
        for quantile in (None, *sorted(model.token_thresholds, reverse=True))
    ]


@torch.inference_mode()
def try_interventions(
    model: IFAM,
    table: ImageTable,
    interventions: Sequence[Intervention] | None = None,
    *,
    split: str = "val",
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    intervals: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """One trial for each of the ``interventions`` (all that are `possible` if None), best first, ties in their order.

    ``intervals`` adds bootstrap intervals; ``progress`` is called with (images done, images in all).

    Raises:
        UsageError: a model without a second stage.
        DataError: no such split, or an unreadable image.
    """
    if model.stage2 is None:
        raise UsageError("interventions: expected a model with a second stage, got one whose prediction ignores masks")
    chosen = possible(model) if interventions is None else list(interventions)
    table = table.align(model.class_names).align_groups(tuple(model.training_group_sizes))
    data = ImageDataModule(
        table, model.preprocessing, augmentation="none", batch_size=batch_size, workers=workers, seed=0
    )
    model = model.to(device).eval()
    correct: list[list[Tensor]] = [[] for _ in chosen]
    kept: list[list[Tensor]] = [[] for _ in chosen]
    groups: list[Tensor] = []
    done, total = 0, len(table.select(split))
    for batch in data.loader(split):
        require_readable(batch, skip_unreadable=False)
        batch = batch.to(torch.device(device))
        groups.append(batch.groups.cpu())
        with arithmetic(precision, torch.device(device)):
            discovery = model.discover(batch.images)
            for number, intervention in enumerate(chosen):
                selection = model.select(discovery, **asdict(intervention))
                logits = model.second_stage(batch.images, selection)
                correct[number].append((logits.argmax(1) == batch.labels).cpu())
                kept[number].append(selection.mask.flatten(1).float().mean(1).cpu())
        done += len(batch)
        if progress is not None:
            progress(done, total)
    if not groups:
        raise DataError(f"{table.root}: expected images in the {split} split, got none")
    of_groups, num_groups = torch.cat(groups), len(table.group_names)
    trials = [
        _trial(intervention, torch.cat(hits), of_groups, num_groups, torch.cat(shares), intervals)
        for intervention, hits, shares in zip(chosen, correct, kept, strict=True)
    ]
    return sorted(trials, key=lambda trial: trial.score, reverse=True)


def _trial(
    intervention: Intervention, correct: Tensor, groups: Tensor, num_groups: int, kept: Tensor, intervals: bool
) -> Trial:
    by_group = intervals and num_groups > 0
    return Trial(
        intervention=intervention,
        num_samples=len(correct),
        accuracy=float(correct.double().mean()),
        worst_group_accuracy=worst_group_accuracy(group_accuracy(correct, groups, num_groups)),
        mean_kept=float(kept.mean()),
        accuracy_interval=accuracy_interval(correct, seed=0) if intervals else None,
        worst_group_interval=worst_group_accuracy_interval(correct, groups, num_groups, seed=0) if by_group else None,
    )
