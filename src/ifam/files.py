"""Files that appear whole or not at all."""

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ifam.errors import DataError, IfamError, OutputError, UsageError
from ifam.temporaries import temporary_beside, temporary_name

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""disk full, limit of a file's size, quota"""
MIB = 2**20
LARGEST_JSON = 8 * MIB
"""bytes of a description: hundreds of thousands of class names"""
MOST_NESTED = 100_000
"""lists and objects in it"""
ESCAPED = "backslashreplace"


@contextmanager
def replacing(path: str | Path, *, size: int | None = None, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it takes the place of ``path`` only if the block succeeds.

    Where ``path`` is a link, the link is replaced, and what it points to stays.

    ``size``: bytes to be written, for the message where there is no room. ``durable``: what was written outlives a
    power cut, which costs some milliseconds.

    Raises:
        UsageError: see `make_room`.
        OutputError: there is no room, or the folder is gone; what stood at ``path`` before still does.
    """
    path = Path(path)
    _require_guarded(path)  # before a folder that is gone would be made again
    make_room(path)
    with needing_room(path, size), temporary_beside(path) as temporary:
        mode = temporary.stat().st_mode  # some writers make theirs private
        _require_guarded(path)
        yield temporary
        _require_guarded(path)
        try:
            temporary.chmod(mode)
            if durable:
                _sync(temporary, os.O_RDWR)
            temporary.replace(path)
        except FileNotFoundError as error:
            raise OutputError(
                f"{path}: expected to be alone in writing it, got its temporary file deleted; run it again"
            ) from error
        if durable and os.name != "nt":  # Windows opens no folders
            _sync(path.parent, os.O_RDONLY)


_Guard = tuple[Path, Callable[[], None]]
_guards: list[_Guard] = []


@contextmanager
def guarding(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Within the block this process writes nothing into ``folder`` unless ``check``, called before, raises nothing."""
    guard = (folder.absolute(), check)
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def _require_guarded(path: Path) -> None:
    for folder, check in _guards:
        if folder in path.absolute().parents:
            check()


def make_room(path: Path, *, suffix: str = "") -> None:
    """Create the folder of a file to be; called before long work whose result goes there.

    Raises:
        UsageError: no file can be there, or its name does not end in ``suffix``.
        OutputError: the disk is full.
    """
    check_name(path)
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
        OutputError: the disk is full.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        if (number := _no_room(error)) is not None:
            raise OutputError(_describe(folder, None, number)) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{folder}: expected a folder to write to, got: {reason}; choose another") from error


def check_name(path: Path) -> None:
    """Refuse before the work a name that no file can have, such as one that is too long.

    Raises:
        UsageError: see above.
    """
    for name in (path, temporary_name(path)):
        try:
            name.lstat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # for `make_folder` to say
            continue
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{path}: expected a name that a file can have, got: {reason}; choose another") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; see `as_utf8`."""
    content = as_utf8(text).encode()
    with replacing(path, size=len(content)) as temporary:
        temporary.write_bytes(content)


def read_json(path: Path, error: type[IfamError] = DataError, *, limit: int = LARGEST_JSON) -> dict[str, Any]:
    """The names and values of a JSON file of at most ``limit`` bytes; an ``error`` where it is none, or not there."""
    try:
        with path.open("rb") as file:  # no more than it may be: a file of holes is gigabytes
            content = file.read(min(limit, path.stat().st_size) + 1)
        return parse_json(content.decode(), path, error, limit=limit)
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{path}: expected a JSON file, got: {reason}") from reason


def parse_json(
    text: str, where: object, error: type[IfamError] = DataError, *, limit: int = LARGEST_JSON
) -> dict[str, Any]:
    """The names and values in a text; ``where`` opens the error.

    ``limit``: letters that are parsed at most, since values take up to twenty times the memory of their text.
    """
    nested = MOST_NESTED * limit // LARGEST_JSON
    if len(text) > limit or text.count("[") + text.count("{") > nested:
        raise error(
            f"{where}: expected JSON of at most {limit / MIB:.0f} MiB with at most {nested:,} lists, got more; "
            "this file was not written by ifam"
        )
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where}: expected JSON, got a damaged file ({reason})") from reason
    if not isinstance(values, dict):
        raise error(f"{where}: expected names and values in JSON, got {type(values).__name__}")
    return values


def to_json(values: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """JSON that every reader takes: it has no number for NaN and infinity, which become null."""
    return json.dumps(_finite(values), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _finite(values: object) -> object:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def as_utf8(text: object) -> str:
    """The same text, but for bytes of file names that are no UTF-8: they are escaped."""
    return str(text).encode("utf-8", ESCAPED).decode("utf-8")


def printable(text: object) -> str:
    """One line for a screen: white space as single spaces, and escaped what would control a terminal."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def now() -> str:
    """Date, time and the zone's distance from UTC, for records."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def last_name(value: str) -> str:
    """Of a path the last name, since the rest is a matter of one machine; all of what names a model on the hub."""
    if not value or value.startswith(("hf:", "hf-hub:")):
        return value
    path = Path(value.replace("\\", "/"))
    return path.name if path.name not in ("", "..") else path.resolve().name


def without_folders(values: Any) -> Any:
    """The same settings, with the last name of whatever is a path; for files that leave this machine."""
    if isinstance(values, dict):
        return {name: without_folders(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_folders(value) for value in values]
    return last_name(values) if isinstance(values, str) and re.search(r"[/\\]", values) else values


def listed(names: Sequence[str], limit: int = 20) -> str:
    """The names, of very many the first and how many there are beyond."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 text that outlives a power cut; one that comes meanwhile may leave a part of it.

    A link that lies at ``path`` is not followed.

    Raises:
        OutputError: there is no room, or the folder is gone.
    """
    _require_guarded(path)
    with (
        needing_room(path, len(line)),
        open(path, "a", encoding="utf-8", errors=ESCAPED, opener=no_link) as file,
    ):
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def needing_room(path: Path, size: int | None = None) -> Iterator[None]:
    """A full disk in the block becomes an `OutputError` that names ``path``, or the file that has no room."""
    try:
        yield
    except IfamError:  # says already what has no room, which may be another file that was written meanwhile
        raise
    except Exception as error:
        number = _no_room(error)
        if number is None:
            raise
        raise OutputError(_describe(_full(error, path), size, number)) from error


def _full(error: Exception, path: Path) -> Path:
    """The file that has no room: ``path``, by its temporary name too, but for an error that names another folder."""
    name = getattr(error, "filename", None)
    if isinstance(name, str) and Path(name).absolute().parent != path.absolute().parent:
        return Path(name)
    return path


def no_link(path: str, flags: int) -> int:
    """An opener for `open`: where a link lies in the place of a file of ours, it is not written through."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def open_file(path: Path) -> io.BufferedReader:
    """A file to be read to its end; neither a pipe, which waits for a writer, nor a device, which has no end.

    Raises:
        OSError: see above, or there is none, or it may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = open(descriptor, "rb")  # noqa: SIM115 - the caller's
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    return file


def sha256(path: Path) -> str:
    """Of the bytes of the file."""
    seen = hashlib.sha256()
    with open_file(path) as file:
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
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free / MIB
    return f"{path}: expected room {need}, got: {os.strerror(number).lower()} ({free:.1f} MiB free); make room there"
