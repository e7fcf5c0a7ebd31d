"""Photographs between their upload and the question about them: few, in a private folder, and gone afterwards."""

import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from ifam.errors import UsageError

PREFIX, LOCK = "ifam-app-", ".in-use"
MIB = 2**20
MAX_SIZE = 20 * MIB
MAX_FILES, MAX_BYTES = 50, 200 * MIB
"""that wait for a question, of all sessions together; beyond them the oldest goes"""
WAITING_SECONDS = 600
"""after which a photograph that nobody asks about goes"""


class Uploads:
    """The photographs in ``folder`` that wait; each upload is a file of its own, also where the bytes are the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: dict[Path, int] = {}
        self._lock = Lock()

    def add(self, name: str, content: bytes) -> Path:
        """A new file, whose path cannot be guessed.

        Raises:
            OSError: there is no room for it.
        """
        path = self.folder / secrets.token_hex(16) / file_name(name)
        with self._lock:
            while self._waiting and (
                len(self._waiting) >= MAX_FILES or sum(self._waiting.values()) + len(content) > MAX_BYTES
            ):
                self._forget(next(iter(self._waiting)))
            self._waiting[path] = len(content)
        try:
            path.parent.mkdir(mode=0o700)
            path.write_bytes(content)
        except OSError:
            self.remove(path)
            raise
        return path

    @contextmanager
    def taken(self, path: Path) -> Iterator[Path]:
        """A file that waits, for one question; it is deleted after the block.

        Raises:
            UsageError: no such file waits.
        """
        with self._lock:
            if self._waiting.pop(path, None) is None:
                raise UsageError(f"{path.name}: expected a photograph that was just dropped, got none; drop it again")
        try:
            yield path
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)

    def remove(self, path: Path) -> None:
        """Delete a file if it still waits."""
        with self._lock:
            if path in self._waiting:
                self._forget(path)

    def _forget(self, path: Path) -> None:
        del self._waiting[path]
        shutil.rmtree(path.parent, ignore_errors=True)


def file_name(name: str) -> str:
    """The last part of a name from elsewhere, short and harmless, with its suffix."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.,()+ -]", "_", last)[-60:].strip(" .") or "photograph"


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can read; it goes after the block, or with the next page if this one is killed."""
    remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made, _in_use(Path(made)):
        yield Path(made)


def remove_leftovers(folder: Path) -> None:
    """Delete the private folders of pages that were killed: this user's, with a lock that no process holds."""
    if sys.platform == "win32":  # which has no such lock
        return
    for leftover in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _is_private(leftover) and _is_free(leftover / LOCK):
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when this process ends, however it ends."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    # locked before it has its name, so that no other page finds it free
    unnamed = folder / f"{LOCK}-new"
    with unnamed.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unnamed.rename(folder / LOCK)
        yield


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, that nobody but this user can have put anything in."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _is_free(lock: Path) -> bool:
    """Whether there is a lock that no process holds."""
    import fcntl

    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
