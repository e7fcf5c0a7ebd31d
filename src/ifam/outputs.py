"""What a command may write over: an earlier output of the same kind, and nothing else.

A mistyped ``--json run/model.json`` or ``--figure photographs/1.png`` would otherwise cost a model or a photograph.
"""

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ifam.errors import IfamError, UsageError
from ifam.files import make_room, read_json, write_text

MARK = "drawn by ifam"
"""in the metadata of pictures"""
OVERLAYS = ".ifam-overlays"
"""a file that marks a folder of drawn pictures, which is not read as photographs"""
Recognise = Callable[[Path], bool]
"""whether a file is an earlier output"""


def make_room_for(path: Path, recognise: Recognise, *, suffix: str = "") -> None:
    """`ifam.files.make_room`, and refuse to write over what is no earlier output; called before long work.

    Raises:
        UsageError: see above.
    """
    make_room(path, suffix=suffix)
    require_earlier(path, recognise)


def require_earlier(path: Path, recognise: Recognise) -> None:
    """Refuse a file, unless it is empty, that is no earlier output."""
    if path.is_file() and path.stat().st_size and not recognise(path):
        raise UsageError(
            f"{path}: expected a new name, or an earlier output of this command to write over, got another file; "
            "choose another name"
        )


def json_with(*names: str) -> Recognise:
    """Recognises JSON that holds these names."""

    def recognise(path: Path) -> bool:
        try:
            return read_json(path).keys() >= set(names)
        except IfamError:
            return False

    return recognise


def lines_with(*names: str) -> Recognise:
    """Recognises JSON lines, by the names in the first."""

    def recognise(path: Path) -> bool:
        try:
            with path.open(encoding="utf-8") as file:
                first = json.loads(file.readline(2**24))
        except (ValueError, RecursionError):
            return False
        return isinstance(first, dict) and first.keys() >= set(names)

    return recognise


def parquet_with(*names: str) -> Recognise:
    """Recognises Parquet files that have these columns."""

    def recognise(path: Path) -> bool:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema

        try:
            return set(read_schema(path).names) >= set(names)
        except (ArrowException, OSError):
            return False

    return recognise


def containing(*texts: str) -> Recognise:
    """Recognises files by what stands in them as plain text."""

    def recognise(path: Path) -> bool:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(text.encode()) >= 0 for text in texts)

    return recognise


DRAWN = containing(MARK)
"""recognises pictures that were drawn here"""


def mark_of(path: Path) -> dict[str, Any]:
    """Arguments of matplotlib's ``savefig`` that mark a picture as drawn here; see `DRAWN`."""
    if path.suffix.lower() == ".png":
        return {"metadata": {"Software": MARK}}
    return {"pil_kwargs": {"comment": MARK}}


def mark_folder(folder: Path) -> None:
    """Say of a folder that it holds drawn pictures, and nothing else."""
    write_text(folder / OVERLAYS, "Pictures that ifam drew: ifam does not read this folder as photographs.\n")


def is_drawn(folder: Path) -> bool:
    """Whether a folder holds drawn pictures."""
    return (folder / OVERLAYS).is_file()
