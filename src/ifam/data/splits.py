"""Stratified splits that a seed decides, whatever the order of the samples."""

import math
import random
from collections.abc import Hashable, Mapping, Sequence

from ifam.errors import UsageError

SPLITS = ("train", "val", "test")


def stratified_splits(
    strata: Mapping[str, Hashable], *, seed: int, fractions: tuple[float, float, float]
) -> dict[str, str]:
    """The split of every name: each stratum is shared out on its own by the fractions of train, val and test.

    Validation is rounded up and training down, but never to nothing, so that a small group is seen in both.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise UsageError(f"fractions of train, val and test: expected three shares that sum to 1, got {fractions}")
    members: dict[Hashable, list[str]] = {}
    for name in sorted(strata):
        members.setdefault(strata[name], []).append(name)
    splits: dict[str, str] = {}
    for stratum, names in members.items():
        # a stratum draws for itself: a new class moves no image of another one
        random.Random(f"{seed}/{stratum}").shuffle(names)
        splits |= dict(zip(names, _shares(len(names), fractions), strict=True))
    return splits


def _shares(count: int, fractions: tuple[float, float, float]) -> Sequence[str]:
    exact_train, exact_val = (round(fraction * count, 9) for fraction in fractions[:2])
    train = max(math.floor(exact_train), 1 if exact_train else 0)
    val = min(math.ceil(exact_val), count - train)
    return ["train"] * train + ["val"] * val + ["test"] * (count - train - val)
