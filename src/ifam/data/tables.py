"""A CSV or Parquet file with the columns path, label and, where known, group, split and mask."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ifam.data.rows import Row, files_of, numbered, read_csv, read_parquet, split_name
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

_REQUIRED, _OPTIONAL = ("path", "label"), ("group", "split", "mask")


def is_table_file(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in (".csv", ".parquet") and path.is_file()


def photographs_of(path: Path) -> list[Path]:
    """The files in the column path, whose other columns may be missing or anything."""
    rows = enumerate(_rows(path, required=("path",)), start=1)
    return [*files_of(path, {number: row["path"] for number, row in rows}, "image").values()]


def _rows(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    is_csv = path.suffix.lower() == ".csv"
    return read_csv(path, required=required) if is_csv else read_parquet(path, required=required, optional=optional)


def read_table_file(path: Path) -> ImageTable:
    """Files are relative to the folder of the table; labels and groups are names or integers, ordered as such."""
    rows = dict(enumerate(_rows(path, required=_REQUIRED, optional=_OPTIONAL), start=1))
    for number, row in rows.items():
        if not row["label"]:
            raise DataError(f"{path}, row {number}: expected a label, got an empty field")
    classes = numbered(row["label"] for row in rows.values())
    groups = numbered(row["group"] for row in rows.values() if row.get("group"))
    files = files_of(path, {number: row["path"] for number, row in rows.items()}, "image")
    masks = files_of(path, {number: row["mask"] for number, row in rows.items() if row.get("mask")}, "mask")
    has_splits = any(row.get("split") for row in rows.values())
    samples = tuple(
        Sample(
            path=files[number],
            name=PurePosixPath(row["path"]).as_posix(),
            label=classes[row["label"]],
            split=split_name(row["split"], f"{path}, row {number}") if has_splits else None,
            group=groups[row["group"]] if row.get("group") else None,
            mask=masks.get(number),
        )
        for number, row in rows.items()
    )
    return ImageTable(
        root=path.parent, layout="table", class_names=tuple(classes), group_names=tuple(groups), samples=samples
    )
