"""Files that are being written: names that nobody can guess or plant, and what killed processes leave of them."""

import atexit
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

OLD_SECONDS = 24 * 3600
"""since the last writing: of a process on another machine, of which nothing else is known, then nobody writes it"""
LONGEST_STEM, LONGEST_SUFFIX = 60, 16
"""bytes of the name of a file to be: a temporary name is longer by some, and has to fit wherever that does"""
_OURS = re.compile(r"\..*\.ifam-(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-[0-9a-f]{16}(\.[^.]+)?", re.DOTALL)
_open_here: set[Path] = set()


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """An empty file in the folder of ``path`` with the suffix of ``path``, gone when the block ends.

    It is made anew, never found: a link that lies there is neither followed nor overwritten. Its mode is that of the
    user's files. A signal that comes while the block is entered leaves it no longer than the program runs.
    """
    temporary = temporary_name(path)
    _open_here.add(temporary)
    try:
        _create(temporary)
        yield temporary
    finally:
        _remove(temporary)


def _create(temporary: Path) -> None:
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666))
    except OSError:  # what lies there is not ours
        _open_here.discard(temporary)
        raise


def _remove(temporary: Path) -> None:
    if temporary in _open_here:
        temporary.unlink(missing_ok=True)
        _open_here.discard(temporary)


@atexit.register
def _remove_all() -> None:
    for temporary in tuple(_open_here):
        _remove(temporary)


if hasattr(os, "register_at_fork"):  # what this process writes is not its child's to delete
    os.register_at_fork(after_in_child=_open_here.clear)


def temporary_name(path: Path) -> Path:
    """Another at each call; it says which process of which machine writes."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    stem = fitting(path.name.removesuffix(suffix), LONGEST_STEM)
    return path.with_name(f".{stem}.ifam-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}{suffix}")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left in ``folder``, of this machine; of others what is older than a day."""
    for temporary in folder.iterdir() if folder.is_dir() else ():
        ours = _OURS.fullmatch(temporary.name)
        if ours and (_is_dead(ours["machine"], int(ours["process"]), temporary) or _is_old(temporary)):
            if temporary.is_dir() and not temporary.is_symlink():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def fitting(name: str, longest: int) -> str:
    """The name, one of more than so many bytes shortened: its beginning, and a hash of the whole."""
    content = os.fsencode(name)
    if len(content) <= longest:
        return name
    ending = f"~{hashlib.sha256(content).hexdigest()[:12]}"
    return content[: longest - len(ending)].decode("utf-8", "ignore") + ending


def _is_dead(machine: str, process: int, temporary: Path) -> bool:
    if machine != _machine() or os.name == "nt":  # where os.kill would end it
        return False
    if process == os.getpid():  # in a container each may be the first
        return temporary.absolute() not in {each.absolute() for each in _open_here}
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _is_old(temporary: Path) -> bool:
    try:
        return time.time() - temporary.lstat().st_mtime > OLD_SECONDS
    except FileNotFoundError:  # it has its name now
        return False


@cache
def _machine() -> str:
    """Within which numbers of processes mean the same: containers may share a name, and count for themselves."""
    try:
        counted_in = os.readlink("/proc/self/ns/pid")
    except OSError:
        counted_in = ""
    return hashlib.sha256(f"{socket.gethostname()} {counted_in}".encode()).hexdigest()[:8]
