"""Masks handed to a model that is told where to look: annotated ones, boxes, or files from elsewhere."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError, UsageError


def give_masks(table: ImageTable, source: str, splits: Sequence[str]) -> ImageTable:
    """The table with a given mask for each image that ``source`` knows one of.

    ``source``: "annotated"; "boxes", whose inside is the mask; a folder of PNG files with the relative names of the
    images; or "tokencut", which needs none.

    Raises:
        UsageError: no such source.
        DataError: an image of ``splits`` without a mask.
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
    return given
