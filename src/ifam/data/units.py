"""Units: images that belong together, as those of one patient do, and are kept in one split."""

from collections import Counter
from pathlib import PurePosixPath
from statistics import median

from ifam.data.rows import without_point
from ifam.data.table import ImageTable, Sample
from ifam.data.tables import read_rows
from ifam.errors import DataError, UsageError
from ifam.files import listed

FOLDER = "folder"
"""what units are called that are folders"""
_PER_CLASS, _IMAGES, _MANY = 4, 20, 20
"""from how many groups per class, of at most how many images, and from how many groups in all, they look like units"""
_SHOWN = 5


def with_units(table: ImageTable, split_by: str) -> ImageTable:
    """The table with its units: the values of a column of its file, or, of ``folder``, the folders of the images.

    Of class folders these are the first ones below the class, which are no groups then.

    Raises:
        UsageError: there is no such column, or no such folder.
    """
    if split_by != FOLDER:
        return table.with_units(_column(table, split_by), split_by)
    if table.listed_in is not None:
        folders = {sample.name: PurePosixPath(sample.name).parent.as_posix() for sample in table.samples}
        return table.with_units(folders, split_by)
    if not table.group_names:
        raise UsageError(f"split_by: expected folders below the classes of {table.root} for {FOLDER}, got none")
    units = {sample.name: _group(table, sample) for sample in table.samples}
    return table.with_units(units, split_by).without_groups()


def _column(table: ImageTable, split_by: str) -> dict[str, str]:
    if table.listed_in is None:
        raise UsageError(
            f"split_by: expected {FOLDER}, since no table lists the images of {table.root}, got {split_by!r}; "
            "name a table for DATA to split by one of its columns"
        )
    try:
        rows = read_rows(table.listed_in, required=(split_by,))
    except DataError as error:
        raise UsageError(f"split_by: {error}; or name {FOLDER}") from error
    if len(rows) != len(table):
        raise UsageError(f"split_by: expected all {len(rows)} rows of {table.listed_in}, got {len(table)} of them")
    values = without_point([row[split_by] for row in rows])
    return {sample.name: value for sample, value in zip(table.samples, values, strict=True)}


def _group(table: ImageTable, sample: Sample) -> str:
    """The group without its class; empty of an image in none, or beside the folders of its class."""
    class_name = table.class_names[sample.label]
    group = "" if sample.group is None else table.group_names[sample.group]
    return "" if group == class_name else group.removeprefix(f"{class_name}/")


def about_units(table: ImageTable) -> str:
    """A line about the units that the table is split by; empty where there are none."""
    count = len({sample.unit for sample in table.samples if sample.unit})
    not_groups = ", which are no groups" if table.split_by == FOLDER and table.listed_in is None else ""
    whole = "are kept whole in the splits that are made"
    return f"split by {table.split_by}: {count} units{not_groups}, {whole}" if table.split_by else ""


def shared_units(table: ImageTable) -> str:
    """A line about units in several of the splits; empty where there are none, or no units are known."""
    places: dict[str, set[str | None]] = {}
    for sample in table.samples:
        if sample.unit:
            places.setdefault(sample.unit, set()).add(sample.split)
    shared = [unit for unit, splits in places.items() if len(splits) > 1]
    if not table.split_by or not shared:
        return ""
    return (
        f"{len(shared)} of {len(places)} units (by {table.split_by}) are in several of the given splits, which stay as "
        f"they are: {listed(shared, _SHOWN)}"
    )


def unit_like_folders(table: ImageTable) -> str:
    """A line about folders below the groups that look like units, as of patients in hospitals; else empty.

    ``--split-by folder`` takes the first folder below the class, so these need a table that names them.
    """
    if table.split_by or table.listed_in is not None or not table.group_names or len(table.splits) > 1:
        return ""
    images: Counter[PurePosixPath] = Counter()
    for sample in table.samples:
        folder, group = PurePosixPath(sample.name).parent, _group(table, sample).rpartition("/")[2]
        if group and group in folder.parts[:-1]:
            images[folder] += 1
    if len(images) < _MANY or not 1 < median(images.values()) <= _IMAGES:
        return ""
    return (
        f"{len(images)} folders of about {median(images.values()):g} images each, such as {min(images)}, look like "
        "patients, animals or scenes, and training puts images of each into several splits: where they are, list the "
        "images in a table with a column that names them, and pass it to --split-by"
    )


def unit_like_groups(table: ImageTable) -> str:
    """A line about groups that look like units and will be, or are, on both sides of a split; else empty.

    They look so where there are many to a class, of a few images each, and they are in one class only, or very many.
    """
    if table.split_by:
        return ""
    images: Counter[str] = Counter()
    classes: dict[str, set[int]] = {}
    splits: dict[str, set[str | None]] = {}
    for sample in table.samples:
        if group := _group(table, sample):
            images[group] += 1
            classes.setdefault(group, set()).add(sample.label)
            splits.setdefault(group, set()).add(sample.split)
    in_one = sum(len(labels) == 1 for labels in classes.values())
    many = len(images) >= _PER_CLASS * len(set().union(*classes.values()))
    few_each = bool(images) and median(images.values()) <= _IMAGES
    if not (many and few_each and (in_one >= 0.9 * len(images) or len(images) >= _MANY)):
        return ""
    shared = sum(len(found) > 1 for found in splits.values())
    if {"train", "val"} <= set(table.splits) and not shared:
        return ""
    column = {"metadata.csv": "place", "table": "group"}.get(table.layout, FOLDER)
    lie = f"{shared} of them are in two splits" if shared else "training puts images of each into several splits"
    return (
        f"{len(images)} groups of about {median(images.values()):g} images each look like patients, animals or scenes, "
        f"and {lie}: where they are, --split-by {column} keeps each in one"
    )
