"""A CSV or Parquet file with the columns path, label and, where known, group, split and mask."""

from pathlib import Path, PurePosixPath

from ifam.data.rows import files_of, numbered, read_csv, read_parquet, split_name
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

_REQUIRED, _OPTIONAL = ("path", "label"), ("group", "split", "mask")


def read_table_file(path: Path) -> ImageTable:
    """Files are relative to the folder of the table; labels and groups are names or integers, ordered as such."""
    is_csv = path.suffix.lower() == ".csv"
    read = read_csv(path, required=_REQUIRED) if is_csv else read_parquet(path, required=_REQUIRED, optional=_OPTIONAL)
    rows = dict(enumerate(read, start=1))
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
