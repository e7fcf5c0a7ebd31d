"""Which parts and tokens to switch off, chosen on a validation split; stage 1 runs once for all of the choices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import get_args

import torch

from ifam.config import NO_SCORES, Precision, SelectBy
from ifam.data.batch import require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import DataError, UsageError
from ifam.metrics.accumulate import Accumulator
from ifam.metrics.bootstrap import Interval, paired_auc_win_shares, paired_win_shares
from ifam.model.two_stage import IFAM
from ifam.output import require_numbers
from ifam.score import GroupResult, accuracy_intervals, auc_intervals, record_classes, summarise

CRITERIA = tuple(name for name in get_args(SelectBy) if name not in NO_SCORES)
"""what interventions can be ranked by; auto: worst-group accuracy where groups are known, accuracy otherwise"""
_AUCS = ("auc", "worst_group_auc")
CONFIDENCE = 0.95
"""share of resamples in which an intervention has to beat none to be chosen"""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """Arguments of the model's call."""

    remove_parts: tuple[int, ...] = ()
    token_quantile: float | None = None

    def __str__(self) -> str:
        parts = f"part{'s' if len(self.remove_parts) > 1 else ''} {' '.join(map(str, self.remove_parts))}"
        tokens = "" if self.token_quantile is None else f"tokens beyond q = {self.token_quantile:g}"
        removed = " and ".join(filter(None, (parts if self.remove_parts else "", tokens)))
        return f"without {removed}" if removed else "none"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an intervention gave on the split; None where the data does not allow the number."""

    intervention: Intervention
    num_samples: int
    accuracy: float
    worst_group_accuracy: float | None
    mean_kept: float
    groups: Mapping[str, GroupResult] = field(default_factory=dict)
    auc: float | None = None
    """of two classes"""
    worst_group_auc: float | None = None
    """of two classes: the lowest AUC of the positives of one group against the negatives of one group"""
    accuracy_interval: Interval | None = None
    """95 %, over another sample of images of this split"""
    worst_group_accuracy_interval: Interval | None = None
    beats_none: float | None = None
    """share of resamples of the images in which it scores higher than no intervention on the same ones, ties half; None
    where that was not tried beside it, or where the data does not allow the number"""
    auc_interval: Interval | None = None
    worst_group_auc_interval: Interval | None = None

    def score(self, select_by: SelectBy = "auto") -> tuple[float, float]:
        """What is compared: the criterion, then accuracy.

        Raises:
            DataError: the data does not allow the criterion.
        """
        criterion = self.criterion(select_by)
        value: float | None = getattr(self, criterion)
        if value is None:
            raise DataError(_unknown(criterion, "the images that were tried"))
        return value, self.accuracy

    def criterion(self, select_by: SelectBy) -> str:
        """The number that ``select_by`` means here."""
        if select_by != "auto":
            return select_by
        return "accuracy" if self.worst_group_accuracy is None else "worst_group_accuracy"


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
    select_by: SelectBy = "auto",
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    intervals: bool = False,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """One trial for each of the ``interventions`` (all that are `possible` if None), best first, ties in their order.

    ``select_by``: what they are ranked by, one of `CRITERIA`. ``intervals`` adds bootstrap intervals, those of the AUCs
    where they are ranked by one; ``progress`` is called with (images done, images in all).

    Raises:
        UsageError: no such criterion.
        DataError: no such split, one that does not allow the criterion, or an unreadable image.
    """
    chosen = possible(model) if interventions is None else list(interventions)
    table = table.align(model.class_names).align_groups(tuple(model.training_group_sizes))
    require_criterion(select_by, table, split, num_classes=model.num_classes)
    data = ImageDataModule.at_test_time(table, model.preprocessing, batch_size=batch_size, workers=workers)
    model = model.to(device).eval()
    records = [Accumulator() for _ in chosen]
    done, total = 0, len(table.select(split))
    for batch in data.loader(split):
        require_readable(batch, skip_unreadable=skip_unreadable)
        if len(batch):
            batch = batch.to(torch.device(device))
            with arithmetic(precision, torch.device(device)):
                discovery = model.discover(batch.images)
                for intervention, seen in zip(chosen, records, strict=True):
                    output = model.answer(batch.images, discovery, **asdict(intervention))
                    require_numbers(output)
                    seen.update(**record_classes(output.logits, batch), kept=output.kept)
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done, total)
    if not records[0].num_samples:
        raise DataError(f"{table.root}: expected images in the {split} split, got none")
    trials = [
        trial_of(intervention, seen, table.group_names, model.num_classes)
        for intervention, seen in zip(chosen, records, strict=True)
    ]
    trials = _compared(trials, records, select_by)
    if intervals:
        trials = [with_intervals(trial, seen, select_by) for trial, seen in zip(trials, records, strict=True)]
    return sorted(trials, key=lambda trial: trial.score(select_by), reverse=True)


def choose(trials: Sequence[Trial]) -> Trial:
    """The best of the trials, best first, that surely beats no intervention; no intervention itself if none does.

    The best of many trials is high by chance. So one is taken only if it scores higher in `CONFIDENCE` of the
    resamples of its images, or where that is not known.
    """
    return next(trial for trial in trials if is_sure(trial.intervention, trial.beats_none))


def is_sure(intervention: Intervention, beats_none: float | None) -> bool:
    """Whether it may be chosen: no intervention always, another by the share of resamples in which it is better."""
    return intervention == Intervention() or beats_none is None or beats_none >= CONFIDENCE


def _compared(trials: Sequence[Trial], records: Sequence[Accumulator], select_by: SelectBy) -> list[Trial]:
    """With ``beats_none``."""
    by_intervention = {trial.intervention: seen for trial, seen in zip(trials, records, strict=True)}
    none = by_intervention.get(Intervention())
    criterion = trials[0].criterion(select_by)
    if none is None or getattr(trials[0], criterion) is None:
        return list(trials)
    groups = none["group"] if criterion.startswith("worst_group") else torch.zeros_like(none["group"])
    known = groups >= 0
    if criterion in _AUCS:
        margins = torch.stack([seen["margin"] for seen in records], dim=1)
        shares = paired_auc_win_shares(
            margins[known], none["margin"][known], none["label"][known], groups[known], seed=0
        )
    else:
        correct = torch.stack([seen["prediction"] == seen["label"] for seen in records], dim=1)
        baseline = none["prediction"] == none["label"]
        shares = paired_win_shares(correct[known], baseline[known], groups[known], seed=0)
    return [replace(trial, beats_none=share) for trial, share in zip(trials, shares.tolist(), strict=True)]


def require_criterion(select_by: SelectBy, table: ImageTable, split: str, *, num_classes: int) -> None:
    """Refuse, before any work, a criterion that a split does not allow.

    Raises:
        UsageError: no such criterion.
        DataError: see above.
    """
    if select_by not in CRITERIA:
        raise UsageError(f"select_by: expected one of {', '.join(CRITERIA)}, got {select_by!r}")
    samples = table.select(split).samples
    if select_by in ("worst_group_auc", "worst_group_accuracy"):
        samples = tuple(sample for sample in samples if sample.group is not None)
    labels = {sample.label for sample in samples}
    allowed = num_classes == 2 and len(labels) == 2 if select_by in _AUCS else bool(labels)
    if not allowed and select_by != "auto":
        raise DataError(_unknown(select_by, f"the {split} split of {table.root}"))


_NEEDED = {
    "auc": "images of two classes, the only ones of the model",
    "worst_group_auc": "images of two classes, the only ones of the model, with known groups",
    "worst_group_accuracy": "images with known groups",
}


def _unknown(criterion: str, where: str) -> str:
    needed = _NEEDED.get(criterion, "images")
    return f"select_by: expected {needed} for {criterion}, got none in {where}; choose by another number"


def trial_of(intervention: Intervention, records: Accumulator, group_names: Sequence[str], num_classes: int) -> Trial:
    """What was recorded of an intervention (`record_classes`, and the share kept), as a trial without intervals."""
    score = summarise(records, group_names, {}, num_classes=num_classes)
    assert score.mean_kept is not None
    return Trial(
        intervention=intervention,
        num_samples=score.num_samples,
        accuracy=score.accuracy,
        worst_group_accuracy=score.worst_group_accuracy,
        mean_kept=score.mean_kept,
        groups=score.groups,
        auc=score.auc,
        worst_group_auc=score.worst_group_auc,
    )


def with_intervals(trial: Trial, records: Accumulator, select_by: SelectBy) -> Trial:
    """The trial with 95 % intervals; those of the AUCs only where they are what counts: they take a second."""
    intervals = accuracy_intervals(records, len(trial.groups))
    if select_by in _AUCS:
        intervals |= auc_intervals(records, len(trial.groups))
    return replace(trial, **intervals)
