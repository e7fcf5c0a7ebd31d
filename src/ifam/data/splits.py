"""Stratified splits that a seed decides, whatever the order of the samples."""

import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from ifam.errors import UsageError

SPLITS = ("train", "val", "test")


def stratified_splits(
    strata: Mapping[str, Hashable],
    *,
    units: Mapping[str, str] | None = None,
    seed: int,
    fractions: tuple[float, float, float],
) -> dict[str, str]:
    """The split of every name: each stratum is shared out on its own by the fractions of train, val and test.

    Validation is rounded up and training down, but never to nothing, so that a small group is seen in both. Names of
    one unit stay together, in the stratum that most of them are of; then it is units that are counted.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise UsageError(f"fractions of train, val and test: expected three shares that sum to 1, got {fractions}")
    together: dict[Hashable, list[str]] = {}
    for name in sorted(strata):
        # a name on its own is no unit that another one names
        together.setdefault((units[name],) if units and name in units else name, []).append(name)
    members: dict[Hashable, list[list[str]]] = {}
    for names in together.values():
        (most_common, _), *_ = Counter(strata[name] for name in names).most_common(1)
        members.setdefault(most_common, []).append(names)
    splits: dict[str, str] = {}
    for stratum, drawn in members.items():
        # a stratum draws for itself: a new class moves no image of another one
        random.Random(f"{seed}/{stratum}").shuffle(drawn)
        for names, split in zip(drawn, _shares(len(drawn), fractions), strict=True):
            splits |= dict.fromkeys(names, split)
    return splits


def _shares(count: int, fractions: tuple[float, float, float]) -> Sequence[str]:
    exact_train, exact_val = (round(fraction * count, 9) for fraction in fractions[:2])
    train = max(math.floor(exact_train), 1 if exact_train else 0)
    val = min(math.ceil(exact_val), count - train)
    return ["train"] * train + ["val"] * val + ["test"] * (count - train - val)
