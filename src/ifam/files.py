"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ifam.errors import UsageError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it takes the place of ``path`` only if the block succeeds.

    Raises:
        UsageError: see `make_room`.
    """
    path = Path(path)
    make_room(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's files are; some writers make theirs private
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_room(path: Path) -> None:
    """Create the folder of a file to be; called before long work whose result goes there.

    Raises:
        UsageError: no file can be there.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected the name of a file to write, got a folder; add a name")
    make_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder with those above it.

    Raises:
        UsageError: there can be none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: expected a folder to write to, got: {error.strerror}; choose another") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
