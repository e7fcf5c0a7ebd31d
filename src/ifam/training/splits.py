"""The splits of a run: those of the data, or made so that no image, and no unit, is on two sides; and what is odd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ifam.data.classes import named_as_missing, untrained
from ifam.data.copies import (
    Content,
    Copies,
    contents_of,
    copies_of,
    duplicated,
    in_two_classes,
    in_two_splits,
    keep_together,
)
from ifam.data.repeats import refuse_two_labels
from ifam.data.rows import check_classes
from ifam.data.table import ImageTable
from ifam.data.units import about_units, shared_units, unit_like_folders, unit_like_groups, with_units
from ifam.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data that a run can start on."""

    table: ImageTable
    """with a training and a validation split"""
    contents: Mapping[str, Content]
    """of each image by its name, where splits were made; else empty"""
    oddities: Sequence[str]
    """what is said about the data, line by line"""


def prepare_splits(
    table: ImageTable,
    seed: int,
    split_by: str | None = None,
    *,
    known: Mapping[str, str] | None = None,
    contents: Mapping[str, Content] | None = None,
) -> Prepared:
    """The table with a training and a validation split, made from its images where it has none.

    Splits that are made keep copies of an image in one of them, and the units that ``split_by`` names (a column of the
    table, or folder). Given ones stay as they are; what they have in common is said.

    ``known``, ``contents``: of a run that is resumed, the splits that it made, and the contents of the images.

    Raises:
        UsageError: nothing can be split by that.
        DataError: too little to train on, or images that are listed under two labels.
    """
    check_classes(table.root, table.class_names)
    refuse_two_labels(table)
    if table.splits and "train" not in table.splits:
        raise DataError(f"{table.root}: expected a train split, got {', '.join(table.splits)}; choose the folder above")
    given = table if split_by is None else with_units(table, split_by)
    made, found = given, dict[str, Content]()
    if {"train", "val"} <= set(table.splits):
        copies = copies_of(table.samples)
    else:
        found = dict(contents or contents_of(table.samples))
        copies = copies_of(table.samples, found)
        made = _split(keep_together(given, copies), seed, known or {})
    copied = duplicated(copies, table.class_names)
    said = [copied.line(), "" if made is given else about_units(given)]
    warnings = [*_warnings(given, copies), _untrained(made)]
    return Prepared(
        table=replace(made, account=table.account + copied),
        contents=found,
        oddities=[*filter(None, said), *(f"warning: {line}" for line in warnings if line)],
    )


def _split(table: ImageTable, seed: int, known: Mapping[str, str]) -> ImageTable:
    """With the splits that the run has made, where it knows every image; else with new ones."""
    if known and all(sample.name in known for sample in table.samples):
        return replace(table, samples=tuple(replace(each, split=known[each.name]) for each in table.samples))
    return table.with_validation(seed=seed) if table.splits else table.with_splits(seed=seed)


def _warnings(given: ImageTable, copies: Copies) -> tuple[str, ...]:
    return (
        in_two_splits(copies),
        in_two_classes(copies),
        shared_units(given),
        unit_like_groups(given),
        unit_like_folders(given),
        named_as_missing(given.class_names, "class"),
        named_as_missing(given.group_names, "group"),
    )


def _untrained(table: ImageTable) -> str:
    """A line about classes that are validated or tested, and not trained."""
    trained = table.select("train").class_counts()
    counted = {name: count - trained[name] for name, count in table.class_counts().items()}
    return untrained(trained, counted)
