"""One run in one folder."""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ifam.errors import MovedError, UsageError
from ifam.files import guarding, make_folder, needing_room, no_link

HELD = (errno.EACCES, errno.EAGAIN)
FAR = 2**30
"""the byte that is locked: Windows lets nobody else read it, and the first ones say who holds the lock"""
TRIES, PAUSE_SECONDS = 10, 0.05
"""since `is_locked` of another process takes hold for a moment"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, two folders below which nothing is written any more once another file lies at ``path``.

    The system lets go of it when this process ends, however it ends, so that none is stale.

    Raises:
        UsageError: another process holds it.
        MovedError: later, from every writing into the folder: it was deleted or moved away.
    """
    with _locked_file(path) as file, guarding(path.parent.parent, lambda: _require_at(path, file)):
        file.truncate(0)
        with needing_room(path):
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
        file.truncate(0)


def is_locked(path: Path) -> bool:
    """Whether a process holds it now. Not of locks of this process itself, which would lose them."""
    try:
        with _opened(path, "r+") as file:
            _lock(file)
    except OSError as error:
        return error.errno in HELD
    return False


@contextmanager
def _locked_file(path: Path) -> Iterator[IO[str]]:
    """Open and locked, and still what lies at ``path``: its folder may be deleted before it is locked."""
    for _ in range(TRIES):
        make_folder(path.parent)
        with _opened(path, "a+") as file:
            _take(file, path)
            if _is_at(path, file):
                yield file
                return
    raise UsageError(f"{path.parent.parent}: expected a folder to write to, got one that comes and goes; try again")


def _take(file: IO[str], path: Path) -> None:
    for left in reversed(range(TRIES)):
        try:
            return _lock(file)
        except OSError as error:
            if error.errno not in HELD:
                print(
                    f"warning: {path}: cannot be locked, so nothing stops a second run here: {error}", file=sys.stderr
                )
                return None
            if not left:
                raise UsageError(_held(path, file)) from error
        time.sleep(PAUSE_SECONDS)
    return None


def _opened(path: Path, mode: str) -> IO[str]:
    """Not through a link, whose target would be emptied."""
    try:
        with needing_room(path):
            return open(path, mode, encoding="utf-8", opener=no_link)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UsageError(f"{path}: expected a file to lock, got a link; delete it, or choose another folder") from error


def _lock(file: IO[str]) -> None:
    """For this process alone: a lock of its children as well would outlive it in a loader's workers."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, FAR)


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _require_at(path: Path, file: IO[str]) -> None:
    if not _is_at(path, file):
        folder = path.parent.parent
        now = "another in its place" if path.exists() else "it deleted or moved away"
        raise MovedError(
            f"{folder}: expected this folder until the end, got {now}; nothing more is written; begin again elsewhere"
        )


def _held(path: Path, file: IO[str]) -> str:
    file.seek(0)
    holder = file.read() or "another process"
    return (
        f"{path.parent.parent}: expected a folder without a run going on, got one of {holder}; wait or choose another"
    )
