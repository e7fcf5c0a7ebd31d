"""Files that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ifam.errors import DataError, IfamError, OutputError, UsageError

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""disk full, limit of a file's size, quota"""
MIB = 2**20
ESCAPED = "backslashreplace"


@contextmanager
def replacing(path: str | Path, *, size: int | None = None, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it takes the place of ``path`` only if the block succeeds.

    ``size``: bytes to be written, for the message where there is no room. ``durable``: what was written outlives a
    power cut, which costs some milliseconds.

    Raises:
        UsageError: see `make_room`.
        OutputError: there is no room; what stood at ``path`` before still does.
    """
    path = Path(path)
    make_room(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with _needing_room(path, size):
            temporary.touch()
            mode = temporary.stat().st_mode  # as the user's files are; some writers make theirs private
            yield temporary
            temporary.chmod(mode)
            if durable:
                _sync(temporary, os.O_RDWR)
            temporary.replace(path)
            if durable and os.name != "nt":  # Windows opens no folders
                _sync(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporaries of ``path`` that killed processes left; only where no other process writes it."""
    for temporary in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        temporary.unlink()


def make_room(path: Path, *, suffix: str = "") -> None:
    """Create the folder of a file to be; called before long work whose result goes there.

    Raises:
        UsageError: no file can be there, or its name does not end in ``suffix``.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected the name of a file to write, got a folder; add a name")
    if suffix and path.suffix.lower() != suffix:
        raise UsageError(f"{path}: expected a name ending in {suffix}, got {path.name!r}; add it")
    make_folder(path.parent)
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: expected a folder to write to, got one without permission; choose another")


def make_folder(folder: Path) -> None:
    """Create a folder with those above it.

    Raises:
        UsageError: there can be none.
    """
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: expected a folder to write to, got: {error.strerror}; choose another") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; see `as_utf8`."""
    content = as_utf8(text).encode()
    with replacing(path, size=len(content)) as temporary:
        temporary.write_bytes(content)


def read_json(path: Path, error: type[IfamError] = DataError) -> dict[str, Any]:
    """The names and values of a JSON file; an ``error`` of that kind where it is not one, or not there."""
    try:
        return parse_json(path.read_text(encoding="utf-8"), path, error)
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{path}: expected a JSON file, got: {reason}") from reason


def parse_json(text: str, where: object, error: type[IfamError] = DataError) -> dict[str, Any]:
    """The names and values in a text; ``where`` opens the error."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where}: expected JSON, got a damaged file ({reason})") from reason
    if not isinstance(values, dict):
        raise error(f"{where}: expected names and values in JSON, got {type(values).__name__}")
    return values


def as_utf8(text: object) -> str:
    """The same text, but for bytes of file names that are no UTF-8: they are escaped."""
    return str(text).encode("utf-8", ESCAPED).decode("utf-8")


def printable(text: object) -> str:
    """One line for a screen: white space as single spaces, and escaped what would control a terminal."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def last_name(value: str) -> str:
    """Of a path the last name, since the rest is a matter of one machine; all of what names a model on the hub."""
    return value if value.startswith("hf:") else Path(value.replace("\\", "/")).name


def listed(names: Sequence[str], limit: int = 20) -> str:
    """The names, of very many the first and how many there are beyond."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 text that outlives a power cut; one that comes meanwhile may leave a part of it.

    Raises:
        OutputError: there is no room.
    """
    with _needing_room(path, len(line)), path.open("a", encoding="utf-8", errors=ESCAPED) as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _needing_room(path: Path, size: int | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        number = _no_room(error)
        if number is None:
            raise
        raise OutputError(_describe(path, size, number)) from error


def sha256(paths: Iterable[Path]) -> str:
    """Of the bytes of the files, one after another."""
    seen = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(MIB):
                seen.update(piece)
    return seen.hexdigest()


def _sync(path: Path, flags: int) -> None:
    """Have what was written reach the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(error: BaseException | None) -> int | None:
    """The system's number, where no room is what lies behind an error.

    Torch raises another when it closes a file that it could not write; safetensors, which is written in Rust, has the
    number in its text only.
    """
    while error is not None:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if number in NO_ROOM:
            return number
        error = error.__context__
    return None


def _describe(path: Path, size: int | None, number: int) -> str:
    need = "to write this file" if size is None else f"for {size / MIB:.1f} MiB"
    free = shutil.disk_usage(path.parent).free / MIB
    return f"{path}: expected room {need}, got: {os.strerror(number).lower()} ({free:.1f} MiB free); make room there"
