"""Rows of table files, checked: text, columns, numbers, splits and paths. Rows are counted from 1 below the header."""

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ifam.errors import DataError, first_line

Row = dict[str, str]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
BOX = ("box_x", "box_y", "box_w", "box_h")

_DIGITS = 1000  # of a number; Python converts no more than some thousands
_BATCH, _LONGEST = 256, 2**16  # rows of a Parquet file that are unpacked at once, and bytes of each

_SPLITS = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "0": "train", "1": "val", "2": "test",
}  # fmt: skip


def read_csv(path: Path, *, required: Sequence[str]) -> list[Row]:
    """Every row as column name -> text without the spaces around it; a missing last field is empty text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [[field.strip() for field in line] for line in csv.reader(file) if line]
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected text in UTF-8, got another encoding; save the file as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file, got one that cannot be read ({error})") from None
    if len(lines) < 2:
        raise DataError(f"{path}: expected a header and at least one row, got {len(lines)} lines; fill the table")
    header, *rows = lines
    check_columns(path, header, required=required)
    for number, row in enumerate(rows, start=1):
        if len(row) > len(header):
            raise DataError(
                f"{path}, row {number}: expected {len(header)} fields, got {len(row)}; quote fields that hold a comma"
            )
    return [dict(zip(header, row + [""] * (len(header) - len(row)), strict=True)) for row in rows]


def read_words(path: Path, *, fields: int) -> list[list[str]]:
    """Every line that is not empty as ``fields`` words; the last one keeps its spaces."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected text in UTF-8, got another encoding; save the file as UTF-8") from None
    words = [line.split(maxsplit=fields - 1) for line in lines]
    wrong = next((index for index, found in enumerate(words) if len(found) < fields), None)
    if wrong is not None or not words:
        came = "an empty file" if wrong is None else f"{lines[wrong]!r} in line {wrong + 1}"
        raise DataError(f"{path}: expected {fields} fields with spaces between them in every line, got {came}")
    return [[word.strip() for word in found] for found in words]


def read_parquet(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The same from a Parquet file, of these columns: every value as text, nulls as empty text.

    Memory grows with the size of the file, whatever it unpacks to.
    """
    import pyarrow.parquet

    rows: list[Row] = []
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        check_columns(path, names, required=required)
        if file.metadata.num_rows > path.stat().st_size:  # no two rows of an honest table are alike
            raise DataError(f"{path}: expected fewer rows than bytes, got {file.metadata.num_rows:,}; use a CSV file")
        columns = [name for name in (*required, *optional) if name in names]
        for batch in file.iter_batches(_BATCH, columns=columns):
            if batch.nbytes > _BATCH * _LONGEST:
                raise DataError(f"{path}: expected values of at most {_LONGEST:,} bytes, got longer ones; shorten them")
            rows += [{name: _text(value) for name, value in row.items()} for row in batch.to_pylist()]
    except DataError:
        raise
    except Exception as error:  # damaged bytes make pyarrow raise many kinds
        raise DataError(f"{path}: expected a Parquet file, got one that cannot be read ({first_line(error)})") from None
    if not rows:
        raise DataError(f"{path}: expected at least one row, got none; fill the table")
    return rows


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def check_columns(path: Path, columns: Iterable[str], *, required: Sequence[str]) -> None:
    """An error that names the missing columns and those that came."""
    columns = list(columns)
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(required)}, got {', '.join(columns)}; add {', '.join(missing)}"
        )


def integer(text: str, where: str) -> int:
    """A whole number; ``where`` opens the error."""
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{where}: expected an integer, got {text!r}") from None


def finite(text: str, where: str) -> float:
    """A finite number; ``where`` opens the error."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: expected a finite number, got {text!r}")
    return number


def box(values: Sequence[str], where: str) -> Box:
    """x, y, width and height in pixels; ``where`` opens the error."""
    x, y, width, height = (finite(value, f"{where}, {name}") for name, value in zip(BOX, values, strict=True))
    if min(width, height) <= 0:
        raise DataError(f"{where}: expected a box of positive size, got {width:g} × {height:g}")
    return x, y, width, height


def split_name(text: str, where: str) -> str:
    """``train``, ``val`` or ``test`` from its name or its number 0, 1, 2."""
    try:
        return _SPLITS[text.lower()]
    except KeyError:
        raise DataError(f"{where}: expected a split train, val, test or 0, 1, 2, got {text!r}") from None


def files_of(table: Path, names: Mapping[int, str], what: str) -> dict[int, Path]:
    """The files that the rows of ``table`` name, by row, relative to its folder; one error for all that are missing."""
    paths = {row: inside(table.parent, name, f"{table}, row {row}") for row, name in names.items()}
    missing = [row for row, path in paths.items() if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{table}: expected every {what} to exist, got {len(missing)} of {len(names)} missing, "
            f"the first in row {missing[0]}: {names[missing[0]]}; add the files or take the rows out"
        )
    return paths


def inside(root: Path, name: str, where: str) -> Path:
    """``root/name``, refused where it leaves ``root``: absolute, by ``..`` or through a link."""
    path = root / name
    if "\0" in name or Path(name).is_absolute() or not _contains(os.path.abspath(root), os.path.abspath(path)):
        raise DataError(f"{where}: expected a path inside {root}, got {name!r}; move the file there")
    target = os.path.realpath(path)  # not Path.resolve: this survives loops of links
    if not _contains(os.path.realpath(root), target):
        raise DataError(
            f"{where}: expected an image inside {root}, got {name!r}, a link that leads outside it (to {target}); "
            "copy the images, or name the folder that they are in"
        )
    return path


def _contains(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Distinct names in order (by number where all are integers) with their positions."""
    distinct = set(names)
    numeric = all(name.removeprefix("-").isdecimal() and len(name) <= _DIGITS for name in distinct)
    return {
        name: index for index, name in enumerate(sorted(distinct, key=lambda name: (int(name) if numeric else 0, name)))
    }


def check_classes(path: Path, class_names: Sequence[str]) -> None:
    """At least two."""
    if len(class_names) < 2:
        raise DataError(
            f"{path}: expected at least two classes, got {', '.join(class_names) or 'none'}; add images of another, or "
            "name the folder or table with all of them"
        )
