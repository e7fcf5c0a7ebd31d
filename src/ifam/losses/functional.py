"""The losses on part maps and part features, as plain functions.

Shapes: ``maps`` (B, K+1, h, w) sum to 1 over parts, background last; ``features`` (B, D, K+1). Each returns a scalar.
Source: PDiscoFormer (ECCV 2024) and iFAM (arXiv 2506.08915); the variants are those of the published code.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.errors import UsageError
from ifam.processes import WHOLE, Share

ForegroundPresence = Literal["original", "soft_constraint", "tanh", "soft_tanh"]
BackgroundPresence = Literal["enforced_presence", "log", "linear", "mse"]


def orthogonality(features: Tensor) -> Tensor:
    """Mean squared difference of the parts' cosine matrix (K+1)×(K+1) from the identity."""
    unit = F.normalize(features, dim=1)
    cosines = unit.transpose(1, 2) @ unit
    return (cosines - torch.eye(cosines.shape[-1], device=cosines.device, dtype=cosines.dtype)).square().mean()


def equivariance(maps: Tensor, maps_back: Tensor) -> Tensor:
    """1 − mean cosine similarity of the foreground maps of an image and those of its transformed view, moved back."""
    return 1 - F.cosine_similarity(maps[:, :-1].flatten(2), maps_back[:, :-1].flatten(2), dim=-1).mean()


def foreground_presence(
    maps: Tensor, variant: ForegroundPresence = "original", beta: float = 0.1, share: Share = WHOLE
) -> Tensor:
    """Every foreground part appears somewhere in the batch, which several processes may ``share``.

    "original": 1 − the parts' largest 3×3 averages over the batch; "soft_constraint": the same, with less pull on parts
    already present (never under ``beta``); "tanh" and "soft_tanh": PIP-Net's form, over the sum of the images' maxima.
    """
    highest = share.all(_neighbourhood_mean(maps[:, :-1]).amax((-2, -1)))
    if variant == "original":
        return 1 - highest.amax(0).mean()
    if variant == "soft_constraint":
        absent = 1 - highest.amax(0)
        return (absent * (1 - (1 - beta) * absent.detach())).mean()
    if variant not in get_args(ForegroundPresence):
        raise UsageError(f"foreground presence: expected {_names(ForegroundPresence)}, got {variant!r}")
    present = highest.sum(0).tanh()
    return _towards_one(present) if variant == "tanh" else 1 - present.mean()


def object_presence(maps: Tensor) -> Tensor:
    """Every image shows its object: somewhere half of a 3×3 neighbourhood is not background. More is not asked for.

    −log of twice the largest average there, at most 1, mean over images. `foreground_presence` is content with a part
    that one image of a batch shows, and leaves others without any.
    """
    return _towards_one((2 * _neighbourhood_mean(1 - maps[:, -1:]).amax((-2, -1))).clamp(max=1))


def background_invariance(borrowed: Tensor, logits: Tensor) -> Tensor:
    """Before another background every token belongs to the part that it belongs to in the photograph itself.

    Cross-entropy, mean over tokens. ``borrowed``: (B, K+1, h, w), part logits of the photographs before other
    backgrounds; ``logits``: those of the photographs themselves, which get no gradient.
    """
    return F.cross_entropy(borrowed.to(torch.promote_types(borrowed.dtype, torch.float32)), logits.argmax(1))


def background_presence(maps: Tensor, variant: BackgroundPresence = "enforced_presence") -> Tensor:
    """Every image has background: near its border ("enforced_presence") or anywhere (the other variants)."""
    background = maps[:, -1:]
    if variant == "enforced_presence":
        near_border = _neighbourhood_mean(background)
        weighted = near_border * _squared_radius(near_border.shape[-2], near_border.shape[-1]).to(maps)
        return _towards_one(weighted.amax((-2, -1)))
    share = background.mean((-2, -1))
    if variant == "log":
        return _towards_one(share)
    if variant == "linear":
        return 1 - share.mean()
    if variant == "mse":
        return (1 - share).square().mean()
    raise UsageError(f"background presence: expected {_names(BackgroundPresence)}, got {variant!r}")


def total_variation(maps: Tensor) -> Tensor:
    """Absolute differences to the next row and column of all K+1 maps, summed, per token."""
    rows = (maps[..., 1:, :] - maps[..., :-1, :]).abs().sum()
    columns = (maps[..., 1:] - maps[..., :-1]).abs().sum()
    return (rows + columns) / (maps.shape[0] * maps.shape[-2] * maps.shape[-1])


def entropy(maps: Tensor) -> Tensor:
    """Mean entropy of a token's K+1 probabilities, in nats."""
    per_token: Tensor = torch.special.entr(maps.clamp_min(torch.finfo(maps.dtype).eps)).sum(1)
    return per_token.mean()


def concentration(maps: Tensor) -> Tensor:
    """Mean of foreground map × squared offset from its centroid, each axis in units of its own length."""
    foreground = maps[:, :-1]
    mass = foreground.sum((-2, -1), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    loss = torch.zeros_like(foreground)
    for axis in (-2, -1):
        length = foreground.shape[axis]
        shape = (length, 1) if axis == -2 else (length,)
        position = torch.arange(length, device=maps.device, dtype=maps.dtype).view(shape) / length
        centroid = (foreground * position).sum((-2, -1), keepdim=True) / mass
        loss = loss + foreground * (position - centroid).square()
    return loss.mean()


def _neighbourhood_mean(maps: Tensor) -> Tensor:
    if min(maps.shape[-2:]) < 3:
        raise UsageError(
            f"presence losses: expected a token grid of at least 3×3, got {maps.shape[-2]}×{maps.shape[-1]}; "
            "use larger images or a smaller patch"
        )
    return F.avg_pool2d(maps, 3, stride=1)


def _squared_radius(height: int, width: int) -> Tensor:
    """Squared distance from the centre, each axis from −1 to 1, scaled to a maximum of 1."""
    rows, columns = ((2 * torch.arange(n) - (n - 1)) / max(n - 1, 1) for n in (height, width))
    squared = rows[:, None].square() + columns.square()
    return squared / squared.max() if height * width > 1 else torch.ones(1, 1)


def _towards_one(probability: Tensor) -> Tensor:
    """Binary cross-entropy with target 1; at probability 0 it is large, with gradient 0 where log alone has NaN."""
    return -probability.clamp_min(torch.finfo(probability.dtype).tiny).log().mean()


def _names(literal: object) -> str:
    return ", ".join(get_args(literal))
