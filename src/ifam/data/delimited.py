"""CSV files as spreadsheets and programs write them, row by row, of which only the wanted columns are kept."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

from ifam.data.columns import find_columns, plain_name
from ifam.errors import DataError

Row = dict[str, str]

_DELIMITERS = ",;\t|"
_NAMED_DELIMITER = re.compile(r"sep=(.)\s*", re.DOTALL)  # as a first line that tells spreadsheets
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST = 2**22
"""letters of one row: a few megabytes of commas alone would be millions of fields"""


def read_csv(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """Every row as column name -> text without the spaces around it, of the wanted columns that are there.

    Fields are separated by commas, semicolons, tabs or bars, whichever the header shows. Text is UTF-8, or UTF-16 with
    a mark. Empty lines are skipped, and rows of empty fields at the end; a missing last field is empty text.
    """
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            return _read(path, _Lines(path, file), required, optional)
    except UnicodeError:
        raise _other_encoding(path) from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file, got one that cannot be read ({error})") from None


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in _MARKS else "utf-8-sig"


def _other_encoding(path: Path) -> DataError:
    return DataError(f"{path}: expected text in UTF-8, got another encoding; save the file as UTF-8")


class _Lines:
    """The lines of a file; an error where one row takes more than `_LONGEST` letters. Who reads a row makes room."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path, self.file, self.room = path, file, _LONGEST

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(self.room + 1)
        if not line:
            raise StopIteration
        self.room -= len(line)
        if self.room < 0:
            raise DataError(
                f"{self.path}: expected rows of at most {_LONGEST:,} letters, got a longer one; is it a table?"
            )
        return line

    def next_row(self) -> None:
        """Make room for the next row."""
        self.room = _LONGEST


def _read(path: Path, lines: _Lines, required: Sequence[str], optional: Sequence[str]) -> list[Row]:
    first = next((line for line in lines if line.strip()), "").lstrip("\ufeff")  # a mark before the mark
    if "\0" in first:
        raise _other_encoding(path)
    named = _NAMED_DELIMITER.fullmatch(first)
    if named:
        first = next(lines, "")
    delimiter = named[1] if named else _delimiter(first, {*required, *optional})
    records = csv.reader(chain([first] if first else [], lines), delimiter=delimiter)
    header = [column.strip() for column in next(records, [])]
    columns = find_columns(path, header, required=required, optional=optional) if header else {}
    rows, nothing, blank = list[Row](), dict.fromkeys(columns, ""), 0
    for record in records:
        lines.next_row()
        if not record:
            continue
        if not any(map(str.strip, record)):
            blank += 1
            continue
        rows += [nothing] * blank
        blank = 0
        if any(map(str.strip, record[len(header) :])):
            raise DataError(
                f"{path}, row {len(rows) + 1}: expected {len(header)} fields, got {len(record)}; "
                "quote fields that hold a comma"
            )
        rows.append({name: record[at].strip() if at < len(record) else "" for name, at in columns.items()})
    if not rows:
        raise DataError(
            f"{path}: expected a header and at least one row, got {'a header alone' if header else 'nothing'}; "
            "fill the table"
        )
    return rows


def _delimiter(header: str, wanted: set[str]) -> str:
    """The one that parts the header into the most of the wanted columns; else a comma."""

    def found(delimiter: str) -> int:
        try:
            columns = {plain_name(column) for column in next(csv.reader([header], delimiter=delimiter), [])}
        except csv.Error:  # parted by this one, its fields are too long
            return -1
        return len(columns & {plain_name(name) for name in wanted})

    return max(_DELIMITERS, key=found)
