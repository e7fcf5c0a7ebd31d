"""Exact binomial tests of a share."""

from typing import Any

import torch
from torch.distributions import Binomial


def chance_of_at_most(right: int, count: int, share: float) -> float:
    """The probability of ``right`` or fewer hits in ``count`` tries that hit with the probability ``share``.

    >>> round(chance_of_at_most(2, 20, 0.5), 6)  # two heads or fewer in twenty throws of a coin
    0.000201
    """
    if right < 0:
        return 0.0
    hits = torch.arange(right + 1, dtype=torch.float64)
    throws: Any = Binomial(count, probs=torch.tensor(share, dtype=torch.float64))
    return min(1.0, float(throws.log_prob(hits).exp().sum()))


def chance_of_at_least(right: int, count: int, share: float) -> float:
    """The same of ``right`` or more hits."""
    return chance_of_at_most(count - right, count, 1 - share)
