"""A CSV or Parquet file with the columns path, label and, where known, group, split and mask."""

from collections.abc import Sequence
from pathlib import Path

from ifam.data.delimited import Row, read_csv
from ifam.data.links import linked
from ifam.data.names import nfc
from ifam.data.parquet import read_parquet
from ifam.data.repeats import refuse_two_splits
from ifam.data.rows import files_of, numbered, split_name, without_point
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

_REQUIRED, _OPTIONAL = ("path", "label"), ("group", "split", "mask")


def is_table_file(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in (".csv", ".parquet") and path.is_file()


def photographs_of(path: Path) -> list[Path]:
    """The files in the column path, whose other columns may be missing or anything."""
    rows = enumerate(read_rows(path, required=("path",)), start=1)
    return [*files_of(path, {number: row["path"] for number, row in rows}, "image").values()]


def read_rows(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """Every row of a table as column name -> text, of these columns."""
    read = read_csv if path.suffix.lower() == ".csv" else read_parquet
    return read(path, required=required, optional=optional)


def read_table_file(path: Path) -> ImageTable:
    """Files are relative to the folder of the table; labels and groups are names or integers, ordered as such."""
    rows = dict(enumerate(read_rows(path, required=_REQUIRED, optional=_OPTIONAL), start=1))
    labels = dict(zip(rows, without_point([nfc(row["label"]) for row in rows.values()]), strict=True))
    groups = dict(zip(rows, without_point([nfc(row.get("group", "")) for row in rows.values()]), strict=True))
    for number, label in labels.items():
        if not label:
            raise DataError(f"{path}, row {number}: expected a label, got an empty field")
    files = files_of(path, {number: row["path"] for number, row in rows.items()}, "image")
    masks = files_of(path, {number: row["mask"] for number, row in rows.items() if row.get("mask")}, "mask")
    classes, group_order = numbered(labels.values()), numbered(filter(None, groups.values()))
    has_splits = any(row.get("split") for row in rows.values())
    samples = tuple(
        Sample(
            path=files[number],
            name=files[number].relative_to(path.parent).as_posix(),
            label=classes[labels[number]],
            split=split_name(row["split"], f"{path}, row {number}") if has_splits else None,
            group=group_order.get(groups[number]),
            mask=masks.get(number),
        )
        for number, row in rows.items()
    )
    refuse_two_splits(path, samples)
    return ImageTable(
        root=path.parent,
        layout="table",
        class_names=tuple(classes),
        group_names=tuple(group_order),
        samples=samples,
        account=linked(path.parent, files.values()),
        listed_in=path,
    )
