"""How well a map of an image says what a classifier rests on. Shapes: B images, h×w token grid, C classes.

A map is any (B, h, w) tensor whose higher values mean "matters more"; methods are compared by the order of the tokens,
since their values have no common unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ifam.errors import UsageError


def top_tokens(maps: Tensor, counts: Tensor) -> Tensor:
    """Bool (B, h, w): the ``counts`` (B,) tokens with the highest values; of equal ones, those read first."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return (ranks < counts.to(maps.device)[:, None]).view_as(maps)


def ranked_masks(maps: Tensor, shares: Sequence[float]) -> Tensor:
    """Bool (B, L, h, w): the highest tokens, as many as each of the L shares of the image says, rounded."""
    tokens = maps[0].numel()
    counts = [torch.full((len(maps),), round(share * tokens)) for share in shares]
    return torch.stack([top_tokens(maps, count) for count in counts], dim=1)


def curve_area(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Area (B,) under ``values`` (B, L) over ``shares`` from 0 to 1, by trapezoids.

    Insertion and deletion (Petsiuk, Das and Saenko, 2018): of the probability of a class while tokens come or go in the
    order of a map, the highest first. Insertion: higher is better; deletion: lower.
    """
    if len(shares) != values.shape[1] or list(shares) != sorted(shares) or (shares[0], shares[-1]) != (0, 1):
        raise UsageError(f"shares: expected {values.shape[1]} that rise from 0 to 1, got {list(shares)}")
    return torch.trapezoid(values.double(), torch.tensor(shares, dtype=torch.float64, device=values.device), dim=1)


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """log p / (1 − p) of one class of each image (B,): unlike its raw score, the same if all scores move alike."""
    logits = logits.double()
    chosen = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf).logsumexp(1)
    return chosen - others


def pointing_hits(maps: Tensor, masks: Tensor) -> Tensor:
    """Bool (B,): whether the centre of the highest token lies inside ``masks`` (B, H, W) bool, the true ones.

    The pointing game (Zhang et al., 2016) on a grid of tokens, without its tolerance of 15 pixels.
    """
    height, width = maps.shape[1:]
    highest = maps.flatten(1).argmax(1).to(masks.device)
    rows = ((highest // width + 0.5) * masks.shape[1] / height).long()
    columns = ((highest % width + 0.5) * masks.shape[2] / width).long()
    return masks.bool()[torch.arange(len(masks), device=masks.device), rows, columns]


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's ρ of two maps of each image (B,); equal values share their mean rank, and a flat map counts 0."""
    first, second = (_centred_ranks(maps.flatten(1)) for maps in (one, other))
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 0, (first * second).sum(1) / norms.where(norms > 0, 1.0), 0.0)


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks (B, N) float64 minus their mean: for each value, half of how many more lie below it than above."""
    below = (values[:, None, :] < values[:, :, None]).sum(2)
    above = (values[:, None, :] > values[:, :, None]).sum(2)
    return (below - above).double() / 2


def share_inside(maps: Tensor, region: Tensor) -> Tensor:
    """Share (B,) of the absolute values of a map that lies in ``region`` (B, h, w) bool; a map of zeros counts 0."""
    size = maps.abs().double()
    total = size.sum((1, 2))
    return (size * region).sum((1, 2)) / total.where(total > 0, 1.0)
