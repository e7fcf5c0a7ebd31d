"""Masks handed to a model that is told where to look: annotated ones, boxes, or files from elsewhere."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ifam.data.masks import shows_shape
from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError, UsageError

LOOKED_AT, LOOKED_AT_OF_CLASS = 2000, 20
"""masks in all, or of each class where there are many, that are read to see whether they tell the class"""
TELLING = 0.8
"""difference of two classes in the share of masks without a shape, from which on they do"""
FEWEST = 2
"""masks of a class; fewer say nothing of it"""


def give_masks(table: ImageTable, source: str, splits: Sequence[str]) -> ImageTable:
    """The table with a given mask for each image that ``source`` knows one of.

    ``source``: "annotated"; "boxes", whose inside is the mask; a folder of PNG files with the relative names of the
    images; or "tokencut", which needs none.

    Raises:
        UsageError: no such source.
        DataError: an image of ``splits`` without a mask, or masks that tell the class by whether they show anything.
    """
    if source == "tokencut":
        return table
    folder = Path(source)
    if source not in ("annotated", "boxes") and not folder.is_dir():
        raise UsageError(f"masks: expected annotated, boxes, tokencut or a folder of masks, got {source!r}")

    def find(sample: Sample) -> Path | RunLengths | Box | None:
        if source == "annotated":
            return sample.mask
        if source == "boxes":
            return sample.box
        path = folder / f"{os.path.splitext(sample.name)[0]}.png"
        return path if path.is_file() else None

    given = replace(table, samples=tuple(replace(sample, given_mask=find(sample)) for sample in table.samples))
    used = [sample for split in splits for sample in given.select(split).samples]
    without = [sample for sample in used if sample.given_mask is None]
    if without:
        raise DataError(
            f"{table.root}: expected a mask ({source}) for every image, got none for {len(without)} of {len(used)}, "
            f"the first is {without[0].name}; choose another source of masks, such as tokencut, which needs none"
        )
    _refuse_telling(given, used, source)
    return given


def _refuse_telling(table: ImageTable, used: Sequence[Sample], source: str) -> None:
    """Refuse masks that nearly all images of one class lack and nearly all of another have, as of healthy X-rays.

    A model that sees only the patches of a mask would then read the class from whether there are any.
    """
    most = max(LOOKED_AT_OF_CLASS, LOOKED_AT // max(1, len(table.class_names)))
    shares = {}
    for label, name in enumerate(table.class_names):
        samples = [sample for sample in used if sample.label == label]
        shown = [_shows_shape(sample.given_mask) for sample in samples[:: math.ceil(len(samples) / most) or 1]]
        known = [shows for shows in shown if shows is not None]
        if len(known) >= FEWEST:
            shares[name] = 1 - sum(known) / len(known)
    if len(shares) < 2:
        return
    high, low = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    if shares[high] - shares[low] >= TELLING:
        raise DataError(
            f"{table.root}: expected masks ({source}) that do not tell the class, got none, or all of the image, for "
            f"{shares[high]:.0%} of {high} and {shares[low]:.0%} of {low}; choose another source of masks, such as "
            "tokencut"
        )


def _shows_shape(mask: Path | RunLengths | Box | None) -> bool | None:
    """None where the mask cannot be read, which is another's to say."""
    if isinstance(mask, Path):
        try:
            return shows_shape(mask)
        except DataError:
            return None
    return bool(mask.codes) if isinstance(mask, RunLengths) else True
