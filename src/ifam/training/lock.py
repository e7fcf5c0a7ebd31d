"""One run in one folder."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ifam.errors import UsageError
from ifam.files import make_folder

HELD = (errno.EACCES, errno.EAGAIN)
FAR = 2**30
"""the byte that is locked: Windows lets nobody else read it, and the first ones say who holds the lock"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when this process ends, however it ends, so that none is stale.

    Raises:
        UsageError: another process holds it.
    """
    make_folder(path.parent)
    with path.open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in HELD:
                raise UsageError(_held(path, file)) from error
            print(f"warning: {path}: cannot be locked, so nothing stops a second run here: {error}", file=sys.stderr)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
        file.truncate(0)


def _lock(file: IO[str]) -> None:
    """For this process alone: a lock of its children as well would outlive it in a loader's workers."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, FAR)


def _held(path: Path, file: IO[str]) -> str:
    file.seek(0)
    holder = file.read() or "another process"
    return (
        f"{path.parent.parent}: expected a folder without a run going on, got one of {holder}; wait or choose another"
    )
