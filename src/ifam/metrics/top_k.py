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
    if not len(labels):
        return None
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(num_classes, device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return float((rank < k).double().mean())
