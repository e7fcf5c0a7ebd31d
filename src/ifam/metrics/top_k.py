"""Accuracy among the k best classes."""

import torch
from torch import Tensor

from ifam.errors import UsageError


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 5) -> float | None:
    """Share of the images whose label is among the ``k`` largest logits; None where there is no image.

    ``logits`` (N, C), ``labels`` (N,) int. Of classes that tie, the first comes first, as for argmax: a model that
    scores all classes alike is right as often as class 0 is, not always.

    >>> top_k_accuracy(torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]]), torch.tensor([2, 0]), k=2)
    0.5
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or bool(logits.isnan().any()):
        raise UsageError(
            f"logits: expected (N, C) without NaN and (N,) labels, got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    num_classes = logits.shape[1]
    if not 1 <= k <= num_classes:
        raise UsageError(f"k: expected 1 to {num_classes}, the number of classes, got {k}")
    if bool(((labels < 0) | (labels >= num_classes)).any()):
        raise UsageError(f"labels: expected 0 to {num_classes - 1}, got {labels.min().item()} to {labels.max().item()}")
    return share_within(label_ranks(logits, labels), k)


def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label of each image, (N,) int64; see ``top_k_accuracy``.

    A logit that is NaN comes before all others, so that a model which has diverged is not counted right.

    >>> label_ranks(torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([2]))
    tensor([1])
    """
    own = logits.gather(1, labels[:, None])
    later = torch.arange(logits.shape[1], device=logits.device) >= labels[:, None]
    behind = (logits < own) | ((logits == own) & later)  # the label's own class among them
    return (~behind).sum(1)


def share_within(ranks: Tensor, k: int) -> float | None:
    """Share of the (N,) ranks below ``k``; None where there is no image."""
    return float((ranks < k).double().mean()) if len(ranks) else None
