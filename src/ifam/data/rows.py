"""Fields of table files, checked: words, numbers, splits and paths. Rows are counted from 1 below the header."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ifam.errors import DataError

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
BOX = ("box_x", "box_y", "box_w", "box_h")

_DIGITS = 1000  # of a number; Python converts no more than some thousands
_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
"""an integer, or one among numbers with a point, as pandas writes a column in which any is missing"""

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
    "0": "train", "1": "val", "2": "test",
}  # fmt: skip


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


def integer(text: str, where: str) -> int:
    """A whole number, perhaps written as 3.0; ``where`` opens the error."""
    try:
        return int(without_point([text])[0])
    except ValueError:
        raise DataError(f"{where}: expected an integer, got {text!r}") from None


def without_point(texts: Sequence[str]) -> list[str]:
    """Whole numbers written as 3.0 as they are without it, where all texts but empty ones are such; else the same."""
    found = [_WHOLE.fullmatch(text) for text in texts]
    if not all(match or not text for match, text in zip(found, texts, strict=True)):
        return list(texts)
    return [match[1] if match else "" for match in found]


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
        return _SPLITS[without_point([text.lower()])[0]]
    except KeyError:
        raise DataError(f"{where}: expected a split train, val, test or 0, 1, 2, got {text!r}") from None


def files_of(table: Path, names: Mapping[int, str], what: str) -> dict[int, Path]:
    """The files that the rows of ``table`` name, by row, below its folder; one error for all that are missing."""
    found: dict[str, Path] = {}
    for row, name in names.items():
        if name not in found:
            found[name] = _file(table.parent, name, f"{table}, row {row}")
    files = {name for name, path in found.items() if os.path.isfile(path)}
    paths = {row: found[name] for row, name in names.items()}
    missing = [row for row, name in names.items() if name not in files]
    if missing:
        raise DataError(
            f"{table}: expected every {what} to exist, got {len(missing)} of {len(names)} missing, "
            f"the first in row {missing[0]}: {names[missing[0]]}; add the files or take the rows out"
        )
    return paths


def _file(root: Path, name: str, where: str) -> Path:
    path = inside(root, name, where)
    if "\\" in name and not os.path.isfile(path):  # as Windows writes it
        return inside(root, name.replace("\\", "/"), where)
    return path


def inside(root: Path, name: str, where: str) -> Path:
    """The file ``name``, relative to ``root`` or absolute, refused where that is not below ``root``.

    Names decide, so that ``..`` may not leave the folder; links within it are followed wherever they lead.
    """
    if not name:
        raise DataError(f"{where}: expected a path, got an empty field; fill it, or take the row out")
    if "\0" not in name:
        if not os.path.isabs(name) and os.pardir not in name:
            return root / name
        for folder, path in _readings(root, name):
            relative = os.path.relpath(path, folder)
            if relative.partition(os.sep)[0] != os.pardir:
                return root / relative
    raise DataError(f"{where}: expected a path inside {root}, got {name!r}; move the file there")


def _readings(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """(folder, file) as they are written; of an absolute path also with the links above them followed."""
    folder = os.path.abspath(root)
    yield folder, os.path.normpath(os.path.join(folder, name))
    if os.path.isabs(name):
        folder = os.path.realpath(root)
        yield folder, os.path.normpath(name)
        yield folder, os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))


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
