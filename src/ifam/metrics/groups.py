"""Accuracy per group of a data set, and what is summed up from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ifam.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """How many images of one group were counted, and how many of them were classified correctly."""

    correct: int
    count: int

    @property
    def accuracy(self) -> float | None:
        """Share in 0–1; None for an empty group."""
        return self.correct / self.count if self.count else None


def group_accuracy(correct: Tensor, groups: Tensor, num_groups: int) -> list[GroupScore]:
    """One score per group.

    ``correct`` (N,) bool; ``groups`` (N,) int, −1 where the group is unknown: such images count for no group.
    """
    check_groups(groups, correct.shape, num_groups)
    known = groups >= 0
    counts = torch.bincount(groups[known], minlength=num_groups).tolist()
    hits = torch.bincount(groups[known & correct.bool()], minlength=num_groups).tolist()
    return [GroupScore(correct=hit, count=count) for hit, count in zip(hits, counts, strict=True)]


def check_groups(groups: Tensor, shape: torch.Size, num_groups: int) -> None:
    """Refuse groups that are not one per image, of ``shape`` (N,), or not from −1 to ``num_groups`` − 1."""
    if shape != groups.shape or groups.ndim != 1:
        raise UsageError(f"groups: expected one per image, {tuple(shape)}, got {tuple(groups.shape)}")
    if groups.numel() and not (int(groups.min()) >= -1 and int(groups.max()) < num_groups):
        raise UsageError(
            f"groups: expected −1 (unknown) to {num_groups - 1}, got {int(groups.min())} to {int(groups.max())};"
            " align the data's groups with the model's first"
        )


def worst_group_accuracy(scores: Sequence[GroupScore]) -> float | None:
    """Lowest accuracy of the groups that have images; None where no group has any."""
    return min((score.accuracy for score in scores if score.accuracy is not None), default=None)


def weighted_accuracy(scores: Sequence[GroupScore], weights: Sequence[float]) -> float | None:
    """Average accuracy as on Waterbirds: group accuracies weighted by ``weights``, the training group sizes.

    Groups without images are left out and the other weights renormalised; None where no weight remains.
    """
    if len(weights) != len(scores) or any(weight < 0 for weight in weights):
        raise UsageError(f"weights: expected {len(scores)} training group sizes of at least 0, got {list(weights)}")
    present = [(s.accuracy, w) for s, w in zip(scores, weights, strict=True) if s.accuracy is not None]
    total = sum(weight for _, weight in present)
    return sum(accuracy * weight for accuracy, weight in present) / total if total else None


def binary_auc(scores: Tensor, labels: Tensor) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    ``scores`` (N,), higher for class 1; ``labels`` (N,) of 0 and 1. None where one class is absent.
    """
    if scores.shape != labels.shape or scores.ndim != 1 or bool(scores.isnan().any()):
        raise UsageError(
            f"scores: expected one number per label, {tuple(labels.shape)}, none of them NaN, got {tuple(scores.shape)}"
        )
    if bool(((labels != 0) & (labels != 1)).any()):
        raise UsageError(f"labels: expected 0 and 1 only, got {labels.min().item()} to {labels.max().item()}")
    positive = labels == 1
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    if not num_positive or not num_negative:
        return None
    # Ranks in float64: the usual curve over thresholds squashes logits to float32 probabilities, which ties them.
    _, order, ties = torch.unique(scores.double(), return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0).double() - (ties - 1) / 2)[order]
    wins = float(ranks[positive].sum()) - num_positive * (num_positive + 1) / 2
    return wins / (num_positive * num_negative)
