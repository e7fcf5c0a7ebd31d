"""Which photograph lends its pixels to which."""

import numpy as np
from numpy.typing import NDArray


def lend(answers: NDArray[np.int64], rounds: int, *, seed: int) -> NDArray[np.int64]:
    """For each of N photographs ``rounds`` others that the model answers differently: indices (rounds, N).

    Every photograph of another answer lends as often as any other, in an order that the seed shuffles. Where all
    answers are the same, each lends to another of the same answer. ``answers``: (N,), N of 2 or more.
    """
    random = np.random.default_rng(seed)
    lenders = np.empty((rounds, len(answers)), dtype=np.int64)
    for answer in np.unique(answers):
        borrowers, others = np.flatnonzero(answers == answer), np.flatnonzero(answers != answer)
        if not len(others):
            return _among_themselves(random.permutation(len(answers)), rounds)
        shuffled = random.permutation(others)
        for turn in range(rounds):
            lenders[turn, borrowers] = np.resize(np.roll(shuffled, -turn), len(borrowers))
    return lenders


def _among_themselves(order: NDArray[np.int64], rounds: int) -> NDArray[np.int64]:
    """Each gets the photographs behind it in a circle, never itself."""
    lenders = np.empty((rounds, len(order)), dtype=np.int64)
    for turn in range(rounds):
        lenders[turn, order] = np.roll(order, turn % (len(order) - 1) + 1)
    return lenders
