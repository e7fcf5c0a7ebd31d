"""Which images are looked at more closely, where all of them would take too long. The same ones every time."""

import random
from collections.abc import Sequence
from dataclasses import replace

from ifam.data.table import ImageTable, Sample

VALIDATION_IMAGES, CERTIFICATE_IMAGES, SHAPLEY_IMAGES = 1000, 200, 200
SHAPLEY_COALITIONS, FEWEST = 6400, 8
"""coalitions of parts that may be asked in all, but for the fewest images"""


def drawn(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` numbers, drawn without replacement, in the order of drawing."""
    return random.Random(0).sample(range(count), min(count, most))


def validation_sample(table: ImageTable) -> ImageTable:
    """The validation split, or a part of it."""
    split = table.select("val")
    chosen = sorted(drawn(len(split), VALIDATION_IMAGES))
    return replace(split, samples=tuple(split.samples[index] for index in chosen))


def shapley_sample(samples: Sequence[Sample], num_parts: int, exact_up_to: int, orders: int) -> set[int]:
    """Rows of ``samples``, as many of each group as there are, or of each class where no groups are known."""
    coalitions = 2**num_parts if num_parts <= exact_up_to else 2 * orders * num_parts
    wanted = min(SHAPLEY_IMAGES, max(FEWEST, SHAPLEY_COALITIONS // coalitions))
    grouped = any(sample.group is not None for sample in samples)
    waiting: dict[int | None, list[int]] = {}
    for row in drawn(len(samples), len(samples)):
        waiting.setdefault(samples[row].group if grouped else samples[row].label, []).append(row)
    chosen: list[int] = []
    while len(chosen) < min(wanted, len(samples)):
        for rows in waiting.values():
            chosen += [rows.pop()] if rows else []
    return set(chosen[:wanted])
