"""How far a score would move with another sample of test images: percentile bootstrap intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics.groups import binary_auc, check_groups, group_accuracy, worst_group_accuracy
from ifam.metrics.robust_auc import worst_group_auc


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The statistic of the data, and the limits between which the middle ``level`` of the resamples fell.

    None where the data does not allow the number; ``left_out`` of the ``repeats`` resamples did not allow it either.
    """

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    repeats: int
    left_out: int


def bootstrap_interval(
    statistic: Callable[..., float | None],
    *per_sample: Tensor,
    seed: int,
    repeats: int = 1000,
    level: float = 0.95,
    within: Tensor | None = None,
) -> Interval:
    """Percentile bootstrap of ``statistic(*per_sample)`` over samples, drawn with replacement.

    ``per_sample``: one or more (N, ...). ``within`` (N,) int: draw within each of its values, so that each resample
    has as many samples of it as the data. The interval speaks of the choice of test images, not of seeds in training.
    It depends on the data and ``seed`` alone: torch's global generator is neither read nor advanced.

    >>> correct = torch.arange(100) < 80
    >>> bootstrap_interval(lambda correct: float(correct.double().mean()), correct, seed=0).estimate
    0.8
    """
    sizes = sorted({len(values) for values in (*per_sample, *([] if within is None else [within]))})
    if not per_sample or len(sizes) != 1:
        raise UsageError(f"bootstrap: expected one or more tensors of one length, got {len(per_sample)} of {sizes}")
    if repeats < 1 or not 0 < level < 1:
        raise UsageError(
            f"bootstrap: expected at least 1 repeat and a level between 0 and 1, got {repeats} and {level}"
        )
    found: list[float] = []
    if sizes[0]:
        drawn = (
            statistic(*(v[i.to(v.device)] for v in per_sample)) for i in _resamples(sizes[0], within, seed, repeats)
        )
        found = [value for value in drawn if value is not None]
    low = high = None
    if found:
        tail = (1 - level) / 2
        limits = torch.tensor([tail, 1 - tail], dtype=torch.float64)
        low, high = torch.tensor(found, dtype=torch.float64).quantile(limits).tolist()
    return Interval(
        estimate=statistic(*per_sample),
        low=low,
        high=high,
        level=level,
        repeats=repeats,
        left_out=repeats - len(found),
    )


def _resamples(num_samples: int, within: Tensor | None, seed: int, repeats: int) -> Iterator[Tensor]:
    """``repeats`` times N indices."""
    generator = torch.Generator().manual_seed(seed)
    strata = [torch.arange(num_samples)]
    if within is not None:
        within = within.cpu()
        strata = [(within == value).nonzero()[:, 0] for value in torch.unique(within)]
    for _ in range(repeats):
        yield torch.cat([rows[torch.randint(len(rows), (len(rows),), generator=generator)] for rows in strata])


def accuracy_interval(correct: Tensor, *, seed: int, repeats: int = 1000, level: float = 0.95) -> Interval:
    """Interval of the share of ``correct`` (N,) bool; that of Clopper and Pearson where all or none are.

    >>> accuracy_interval(torch.zeros(8, dtype=torch.bool), seed=0).high  # 0 of 8 is not 0 % for sure
    0.369...
    """
    found = bootstrap_interval(_mean, correct, seed=seed, repeats=repeats, level=level)
    return _where_resamples_agree(found, num_right=len(correct), num_wrong=len(correct))


def worst_group_accuracy_interval(
    correct: Tensor, groups: Tensor, num_groups: int, *, seed: int, repeats: int = 1000, level: float = 0.95
) -> Interval:
    """Interval of the worst group's accuracy: ``correct`` (N,) bool, ``groups`` (N,) int, −1 = unknown.

    Drawn within groups: how many images a group has was decided by those who made the test set, and a free draw would
    at times leave a small group, often the worst, nearly or entirely out. The worst may be another group in each
    resample; with close or small groups the lowest of several is low by chance, and the interval lies low. Where every
    group is right throughout, or one is wrong throughout: that of Clopper and Pearson of so many images. Of very many
    small groups one is wrong throughout in nearly every resample, though none is in the data: the interval then
    reaches from 0 to the estimate.
    """
    check_groups(groups, correct.shape, num_groups)
    found = bootstrap_interval(
        lambda correct, groups: worst_group_accuracy(group_accuracy(correct, groups, num_groups)),
        correct,
        groups,
        seed=seed,
        repeats=repeats,
        level=level,
        within=groups,
    )
    scores = [score for score in group_accuracy(correct, groups, num_groups) if score.count]
    return _where_resamples_agree(
        found,
        num_right=min((score.count for score in scores), default=0),
        num_wrong=max((score.count for score in scores if score.accuracy == 0), default=0),
    )


def _where_resamples_agree(interval: Interval, *, num_right: int, num_wrong: int) -> Interval:
    """Limits of a share that is 1, or 0, in all resamples, as of so many images that are all right, or all wrong.

    Clopper and Pearson (1934): the share at which that happens with the probability of one tail. Where no group is
    wrong throughout (``num_wrong`` = 0) the resampling alone made the 0: what the data gave is then the upper limit.
    """
    tail = (1 - interval.level) / 2
    if interval.low == interval.high == 1:
        return replace(interval, low=tail ** (1 / num_right))
    if interval.low == interval.high == 0:
        return replace(interval, high=1 - tail ** (1 / num_wrong) if num_wrong else interval.estimate)
    return interval


def auc_interval(scores: Tensor, labels: Tensor, *, seed: int, repeats: int = 1000, level: float = 0.95) -> Interval:
    """Interval of the AUC, see ``binary_auc``; drawn within classes, so that no resample lacks one."""
    return bootstrap_interval(binary_auc, scores, labels, seed=seed, repeats=repeats, level=level, within=labels)


def worst_group_auc_interval(
    scores: Tensor,
    labels: Tensor,
    groups: Tensor,
    num_groups: int,
    *,
    seed: int,
    repeats: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Interval of the worst-group AUC, see ``worst_group_auc``; drawn within the classes of each group.

    As for the worst group's accuracy, the lowest of several lies low by chance.
    """
    check_groups(groups, labels.shape, num_groups)
    return bootstrap_interval(
        lambda scores, labels, groups: worst_group_auc(scores, labels, groups, num_groups).auc,
        scores,
        labels,
        groups,
        seed=seed,
        repeats=repeats,
        level=level,
        within=2 * groups + labels,
    )


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def paired_win_shares(
    correct: Tensor, baseline: Tensor, groups: Tensor, *, seed: int, repeats: int = 1000, chunk: int = 100
) -> Tensor:
    """How surely each of T predictors beats another on its worst group: (T,) float64 shares of resamples, ties half.

    Each resample draws images within groups, the same ones for all predictors: what images have in common cancels out.
    ``correct`` (N, T) bool; ``baseline`` (N,) bool, the other's; ``groups`` (N,) int from 0, all 0 for plain accuracy.

    >>> better, worse = torch.arange(50) < 40, torch.arange(50) < 25
    >>> paired_win_shares(torch.stack([better, worse], 1), worse, torch.zeros(50, dtype=torch.int64), seed=0)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    check_groups(groups, baseline.shape, int(groups.max()) + 1 if len(groups) else 0)
    hits = torch.cat([baseline[:, None], correct], dim=1).double().cpu()
    strata = [(groups.cpu() == value).nonzero()[:, 0] for value in torch.unique(groups)]
    generator = torch.Generator().manual_seed(seed)
    wins = torch.zeros(correct.shape[1], dtype=torch.float64)
    for start in range(0, repeats, chunk):
        count = min(chunk, repeats - start)
        worst = torch.full((count, hits.shape[1]), torch.inf, dtype=torch.float64)
        for rows in strata:
            worst = torch.minimum(worst, _times_drawn(len(rows), count, generator) @ hits[rows] / len(rows))
        wins += _wins_over_first(worst)
    return wins / repeats


def paired_auc_win_shares(
    scores: Tensor, baseline: Tensor, labels: Tensor, groups: Tensor, *, seed: int, repeats: int = 1000
) -> Tensor:
    """The same by the worst-group AUC of two classes, see ``worst_group_auc``; by the AUC where all groups are 0.

    ``scores`` (N, T) and ``baseline`` (N,), higher for class 1; ``labels`` (N,) of 0 and 1. Each resample draws images
    within the classes of each group.

    >>> labels = torch.arange(40) % 2
    >>> better, worse = labels + torch.arange(40) / 40, torch.arange(40) % 7
    >>> groups = torch.zeros(40, dtype=torch.int64)
    >>> paired_auc_win_shares(torch.stack([better, worse], 1), worse, labels, groups, seed=0)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    check_groups(groups, labels.shape, int(groups.max()) + 1 if len(groups) else 0)
    for column in (baseline, *scores.T):
        binary_auc(column, labels)  # refuses what is no score and no label
    every = torch.cat([baseline[:, None], scores], dim=1).double().cpu()
    labels, groups = labels.cpu(), groups.cpu()
    generator = torch.Generator().manual_seed(seed)

    def draw(label: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each group the images (n, T + 1) of a class, and how often (repeats, n) each is drawn."""
        for value in torch.unique(groups[labels == label]):
            rows = ((groups == value) & (labels == label)).nonzero()[:, 0]
            yield every[rows], _times_drawn(len(rows), repeats, generator)

    worst = torch.full((repeats, every.shape[1]), torch.inf, dtype=torch.float64)
    negatives = list(draw(0))
    for positive, times_positive in draw(1):
        for negative, times_negative in negatives:
            for predictor in range(every.shape[1]):
                auc = _drawn_auc(positive[:, predictor], negative[:, predictor], times_positive, times_negative)
                worst[:, predictor] = torch.minimum(worst[:, predictor], auc)
    return _wins_over_first(worst) / repeats


def _drawn_auc(positive: Tensor, negative: Tensor, times_positive: Tensor, times_negative: Tensor) -> Tensor:
    """(R,) AUCs of the scores (P,) against (Q,), each drawn so many times (R, P) and (R, Q)."""
    rivals, order = negative.sort()
    below, up_to = (torch.searchsorted(rivals, positive.contiguous(), right=right) for right in (False, True))
    # each positive wins against the rivals below it, as often as they are drawn, and half where they tie
    drawn_below = F.pad(times_negative.T[order].cumsum(0), (0, 0, 1, 0))
    wins = (drawn_below[below] + drawn_below[up_to]) / 2
    return (times_positive.T * wins).sum(0) / (len(positive) * len(negative))


def _times_drawn(number: int, repeats: int, generator: torch.Generator) -> Tensor:
    """(R, n) float64: how often each of n samples is among n draws with replacement, R times."""
    drawn = torch.randint(number, (repeats, number), generator=generator)
    times = torch.zeros(repeats, number, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times))


def _wins_over_first(values: Tensor) -> Tensor:
    """(R, 1 + T) values of R resamples to (T,): in how many the others are higher than the first, ties half."""
    # shares of at most millions of comparisons, so that anything smaller is rounding
    lead = values[:, 1:] - values[:, :1]
    return (lead > 1e-9).double().sum(0) + 0.5 * (lead.abs() <= 1e-9).double().sum(0)
