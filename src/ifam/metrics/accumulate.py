"""From batches to the scores of a whole split, with the number of images that were counted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics.groups import GroupScore, binary_auc, group_accuracy, weighted_accuracy, worst_group_accuracy
from ifam.metrics.parts import mean_image_iou, pooled_iou


class Accumulator:
    """Per-image tensors, gathered on the CPU batch by batch.

    >>> seen = Accumulator()
    >>> seen.update(labels=torch.tensor([0, 1]))
    >>> seen.update(labels=torch.tensor([1]))
    >>> seen.num_samples, seen["labels"]
    (3, tensor([0, 1, 1]))
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._batches: dict[str, list[Tensor]] = {}

    def update(self, **values: Tensor) -> None:
        """Add a batch: tensors (B, ...) of one B, under the same names every time."""
        sizes = {name: len(value) for name, value in values.items()}
        if len(set(sizes.values())) != 1:
            raise UsageError(f"update: expected tensors of one batch size, got {sizes}")
        if self._batches and self._batches.keys() != values.keys():
            raise UsageError(f"update: expected {sorted(self._batches)} as before, got {sorted(values)}")
        for name, value in values.items():
            self._batches.setdefault(name, []).append(value.detach().cpu())
        self.num_samples += next(iter(sizes.values()))

    @classmethod
    def of_all(cls, parts: Sequence["Accumulator"]) -> "Accumulator":
        """What several processes recorded, in the order of ``index``, which each image has of its own.

        Raises:
            UsageError: an image that was counted twice.
        """
        whole = cls()
        for part in parts:
            if part.num_samples:
                whole.update(**{name: part[name] for name in part._batches})
        if len(parts) > 1 and whole.num_samples:
            order = whole["index"].argsort()
            whole._batches = {name: [whole[name][order]] for name in whole._batches}
            if bool((whole["index"].diff() == 0).any()):
                raise UsageError(f"records: expected every image once, got {whole.num_samples} with repetitions")
        return whole

    def __contains__(self, name: str) -> bool:
        return name in self._batches

    def __getitem__(self, name: str) -> Tensor:
        """All values of a name, (N, ...), in the order of arrival."""
        if name not in self._batches:
            raise UsageError(f"accumulated values: expected one of {sorted(self._batches)}, got {name!r}")
        return torch.cat(self._batches[name])


@dataclass(frozen=True, kw_only=True)
class ClassificationScore:
    """Accuracies in 0–1; None where the data does not allow the number."""

    num_samples: int
    accuracy: float | None
    average_accuracy: float | None
    worst_group_accuracy: float | None
    groups: tuple[GroupScore, ...]
    auc: float | None


def classification_score(
    predictions: Tensor,
    labels: Tensor,
    groups: Tensor,
    *,
    num_groups: int,
    training_group_sizes: Sequence[float] | None = None,
    margins: Tensor | None = None,
) -> ClassificationScore:
    """All that labels and groups say about a split: ``predictions``, ``labels``, ``groups`` (N,) int, −1 = unknown.

    ``margins`` (N,), the logit of class 1 minus that of class 0, gives the AUC of a two-class problem. Not its
    probability: in float32 confident images would tie at 1.
    """
    if predictions.shape != labels.shape:
        raise UsageError(f"predictions: expected one per label, {tuple(labels.shape)}, got {tuple(predictions.shape)}")
    correct = predictions == labels
    scores = group_accuracy(correct, groups, num_groups)
    return ClassificationScore(
        num_samples=len(labels),
        accuracy=float(correct.double().mean()) if len(labels) else None,
        average_accuracy=None if training_group_sizes is None else weighted_accuracy(scores, training_group_sizes),
        worst_group_accuracy=worst_group_accuracy(scores),
        groups=tuple(scores),
        auc=None if margins is None else binary_auc(margins, labels),
    )


@dataclass(frozen=True, kw_only=True)
class ForegroundScore:
    """Foreground IoU over ``num_samples`` annotated images, pooled over their pixels and as the mean of images."""

    num_samples: int
    pooled_iou: float | None
    mean_image_iou: float | None


def foreground_score(intersection: Tensor, union: Tensor) -> ForegroundScore:
    """Both foreground IoUs from the (N,) intersections and unions of a split."""
    return ForegroundScore(
        num_samples=len(union),
        pooled_iou=pooled_iou(intersection, union),
        mean_image_iou=mean_image_iou(intersection, union),
    )
