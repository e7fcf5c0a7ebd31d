"""An input given to the command line in this process, and what came of it."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.case import Case, Material

SECONDS, BYTES = 10.0, 2 * 2**30
SCRATCH = "scratch"
"""the folder for temporary files and caches, beside those of the cases"""
_STARTS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pty.spawn"}
_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
_MODE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SEE_ABOVE = "images could not be read, see above"
_HARMLESS = {"/dev/null", "/dev/tty"}
_UNFORESEEN = "add --debug to see where"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one input."""

    name: str
    result: str
    """works, refused, or defect"""
    said: str
    """the last line on the screen, or what the defect is"""
    seconds: float
    rss: int
    """largest resident memory of the process, in bytes"""


class _OverdueError(BaseException):
    """Not an ``Exception``: nothing on the way may catch it."""


@dataclass
class _Watch:
    """What the audit hook of this process has seen since the case began."""

    allowed: tuple[str, ...] = ()
    root: str = ""
    seen: list[str] | None = None


_watch = _Watch()


def judge(case: Case, place: Path, material: Material) -> Outcome:
    """Write the input into the new folder ``place``, run, look, and delete the folder again."""
    place.mkdir(parents=True)
    (place / "out").mkdir()
    arguments = case.write(place, material, case.random())
    before = _listing(place), _listing(material.root)
    reset_peak()
    began = _clock()
    with _screen(place.parent / "screen") as screen, _watched(place / "out") as seen, _at(place):
        status = _run(arguments)
    seconds, rss = _clock() - began, peak()
    seen += [f"{path} was changed" for path in sorted(_changed(before[0], _listing(place)))]
    seen += [f"{path} was changed" for path in sorted(_changed(before[1], _listing(material.root)))]
    outcome = weigh(case, status, screen(), seen, seconds, rss)
    shutil.rmtree(place)
    return outcome


def weigh(
    case: Case, status: object, screen: tuple[str, str], seen: Sequence[str], seconds: float, rss: int
) -> Outcome:
    """What counts, in one place: also of what ran in a process of its own."""
    out, err = screen
    lines = [line for line in err.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    result = "works" if status == 0 else "refused"
    faults = [*seen]
    if status not in (0, 1, 2):
        faults.append(f"ended with {status}")
    explained = (
        "expected" in last
        or "another architecture: it " in last
        or "; see ifam" in last
        or (_SEE_ABOVE in last and "expected" in lines[-2])
    )
    if status in (1, 2) and not (last.startswith("error: ") and explained):
        faults.append(f"no line that says what was expected: {last!r}")
    if _UNFORESEEN in err or "Traceback" in err:
        faults.append(f"an error that nobody foresaw: {last!r}")
    if noise := next((line for line in lines if "Warning" in line), None):
        faults.append(f"a library's own words: {noise!r}")
    if len(last) > 2000:
        faults.append(f"a line of {len(last)} letters")
    if seconds > SECONDS:
        faults.append(f"took {seconds:.1f} s")
    if rss > BYTES:
        faults.append(f"took {rss / 2**30:.2f} GiB")
    if case.expected is not None and case.expected != result:
        faults.append(f"{result} where it should be {case.expected}: {last!r}")
    said = "; ".join(faults) or last or (out.splitlines() or [""])[-1]
    return Outcome(
        name=case.name, result="defect" if faults else result, said=said[:600], seconds=round(seconds, 3), rss=rss
    )


def _run(arguments: Sequence[str]) -> object:
    from hostile.surfaces import SURFACES

    run: Callable[[Sequence[str]], int] = SURFACES[arguments[0]]
    try:
        signal.signal(signal.SIGALRM, _overdue)
        signal.setitimer(signal.ITIMER_REAL, 4 * SECONDS)  # where others use the machine too; what counts is `_clock`
        return run(arguments[1:])
    except SystemExit as stop:
        return stop.code
    except _OverdueError as error:
        return f"no end: {' < '.join(f.name for f in reversed(traceback.extract_tb(error.__traceback__)[-4:]))}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _clock() -> float:
    """Seconds, without those in which this process waited for a processor that others had."""
    waited = 0.0
    with contextlib.suppress(OSError):
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    return time.monotonic() - waited


def _overdue(*_: Any) -> None:
    raise _OverdueError


def audit() -> None:
    """Once a process: see what is written, started and called."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch.seen is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & _MODE:
        _note(os.path.realpath(os.fsdecode(arguments[0])))
    elif event in _CHANGES:
        names = (os.fsdecode(value) for value in arguments[:2] if isinstance(value, str | bytes | os.PathLike))
        # of a link, the link itself is changed
        _note(*(os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name)) for name in names))
    elif event in _STARTS:
        _watch.seen.append(f"started {arguments[0]}")
    elif event == "socket.connect":
        _watch.seen.append(f"called {arguments[1]}")


def _note(*paths: str) -> None:
    """Remember what is touched; outside the folder of the survey, prevent it: this may run as root."""
    assert _watch.seen is not None
    for full in paths:
        if full not in _HARMLESS and not any(_within(full, folder) for folder in _watch.allowed):
            _watch.seen.append(f"touched {full}")
            if not _within(full, _watch.root):
                raise PermissionError(errno.EACCES, "kept from it by the test", full)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


@contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    seen: list[str] = []
    _watch.root = os.path.realpath(folder.parents[1])
    _watch.allowed = os.path.realpath(folder), os.path.join(_watch.root, SCRATCH)
    _watch.seen = seen
    try:
        yield seen
    finally:
        _watch.seen = None


@contextmanager
def _screen(path: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    """Descriptors 1 and 2 and Python's own streams on files, as on a terminal in UTF-8; then what they hold."""
    path.mkdir(exist_ok=True)
    files = [path / "out", path / "err"]
    saved, streams = [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr)
    for number, file in enumerate(files, start=1):
        opened = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        yield lambda: (files[0].read_text("utf-8", "replace"), files[1].read_text("utf-8", "replace"))
    finally:
        with contextlib.suppress(ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def _at(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", ResourceWarning)  # which a user does not see either
            yield
    finally:
        os.chdir(before)


def _listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder but ``out``, with kind, size and time of change."""
    found = {}
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name != "out"]
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[path] = (status.st_mode, status.st_size if name in files else 0, status.st_mtime_ns)
    return found


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def reset_peak() -> None:
    """Count the largest memory from now on, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Largest resident memory of this process in bytes, since `reset_peak` where the system can say so."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
