"""The loss terms of one training step, by name; `ifam.config.LossWeights` weighs them."""

import dataclasses
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.config import LossWeights
from ifam.errors import TrainingError, UsageError
from ifam.losses import functional as losses
from ifam.output import PartDiscovery
from ifam.processes import WHOLE, Share

Terms = dict[str, Tensor]


def classification_term(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy in float32 or wider; ``class_weights``: (C,), of the images of each class, None for 1."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if class_weights is None:
        return F.cross_entropy(wide, labels)
    # not divided by the weights of the batch, so that it is a mean over images that several processes may share
    return (class_weights.to(wide)[labels] * F.cross_entropy(wide, labels, reduction="none")).mean()


OVER_BATCH = frozenset({"foreground_presence"})
"""terms that are no mean over images: of a batch that several processes share, they see it all"""


def stage1_terms(
    discovery: PartDiscovery,
    labels: Tensor,
    maps_back: Tensor | None,
    weights: LossWeights,
    share: Share = WHOLE,
    class_weights: Tensor | None = None,
) -> Terms:
    """Stage-1 classification and the losses that shape parts.

    ``maps_back``: the part maps of a transformed view, moved back, or None where equivariance has no weight.
    Terms of weight 0 are not computed. ``share``: what the images are of their batch. ``class_weights``: see
    `classification_term`.
    """
    maps = discovery.part_maps
    features = discovery.part_features.to(maps.dtype)
    terms: dict[str, Callable[[], Tensor]] = {
        "stage1": lambda: classification_term(discovery.stage1_logits, labels, class_weights),
        "orthogonality": lambda: losses.orthogonality(features),
        "equivariance": lambda: losses.equivariance(maps, maps if maps_back is None else maps_back),
        "foreground_presence": lambda: losses.foreground_presence(maps, share=share),
        "object_presence": lambda: losses.object_presence(maps),
        "background_presence": lambda: losses.background_presence(maps),
        "total_variation": lambda: losses.total_variation(maps),
        "entropy": lambda: losses.entropy(maps),
        "concentration": lambda: losses.concentration(maps),
    }
    active = dataclasses.asdict(weights)
    return {name: term() for name, term in terms.items() if active[name] > 0}


def total_loss(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum.

    Raises:
        TrainingError: a term is not finite; the message names it.
        UsageError: there is no term.
    """
    if not terms:
        raise UsageError("losses: expected at least one term with a weight above 0, got none")
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise TrainingError(f"loss term {name}: expected a finite number, got {value.item()}")
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
