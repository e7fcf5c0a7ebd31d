"""The worker processes of a loader: how many there may be, how they begin and end, and what is said where one dies."""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType

from ifam.errors import UsageError, WorkerError, first_line
from ifam.signals import STOPPING, Take, held_back

MOST_WORKERS = 1000
LONGEST_WAIT = 30 * 60
"""seconds for one batch"""
LAST_STEP_SECONDS = 60
NO_START = (
    errno.ENOSPC,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.ENOSYS,
    errno.EMFILE,
    errno.ENFILE,
    errno.EROFS,
    errno.EACCES,
)
"""what the system says where it has no room for another process, or for what processes talk through"""
REMEDY = "try fewer --workers or a smaller --batch-size; with --workers 0 the images are read without such processes"


def check_workers(workers: int) -> None:
    """Refuse what no machine can start.

    Raises:
        UsageError: fewer than none, or too many.
    """
    if not 0 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers: expected 0 or more and at most {MOST_WORKERS} workers, got {workers}")


# In a worker


def attach_to_main(worker: int) -> None:
    """A worker ends with its main process, or when that ends it, and leaves the main one all signals.

    A terminal and a batch system signal every process; the main one may have a step to finish, with these workers.
    """
    sys.excepthook = _say_nothing_of_main
    # a worker of a fork server does not see its main process killed: the two would keep each other alive
    threading.Thread(target=_end_with_main, daemon=True).start()
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        threading.Thread(target=_end_when_told, daemon=True).start()
    elif hasattr(signal, "alarm"):  # macOS does not say who sent a signal
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_STEP_SECONDS))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _say_nothing_of_main(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """The thread that hands batches over would print that the main process has hung up."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, where)


def _end_with_main() -> None:
    main = parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def _end_when_told() -> None:
    main = parent_process()
    while main is not None:
        if signal.sigwaitinfo([signal.SIGTERM]).si_pid == main.pid:
            os._exit(0)


# In the main process


@contextmanager
def starting(workers: int) -> Iterator[set[BaseProcess]]:
    """A block in which worker processes start; they are in the set when it ends.

    Raises:
        WorkerError: the system has no room for them.
    """
    others, started = set(active_children()), set[BaseProcess]()
    try:
        with held_back(), naming_deaths():
            yield started
    except OSError as error:
        if error.errno not in NO_START or error.filename is not None:
            raise
        for worker in set(active_children()) - others:
            worker.kill()
        _forget(error)
        raise WorkerError(
            f"workers: expected room for {workers} loader processes, got: {first_line(error)}; {REMEDY}; in a "
            "container, give more shared memory (docker run --shm-size=1g)"
        ) from error
    started |= set(active_children()) - others


def _forget(error: BaseException) -> None:
    """Drop what was half made when the error came: torch would fail to shut it down, and print that."""
    print_it, sys.unraisablehook = sys.unraisablehook, lambda failed: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = print_it


@contextmanager
def awaiting(workers: Iterable[BaseProcess]) -> Iterator[None]:
    """A block that waits for a batch of these workers, and ends with one of them or after `LONGEST_WAIT`.

    Raises:
        WorkerError: see above.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        for worker in workers:
            worker.kill()

    timer = threading.Timer(LONGEST_WAIT, end)
    timer.daemon = True
    timer.start()
    try:
        with naming_deaths():
            yield
    except WorkerError as error:
        if not late.is_set():
            raise
        raise WorkerError(
            f"workers: expected a batch within {LONGEST_WAIT / 60:g} minutes, got none; "
            f"do the disk and the network answer? {REMEDY}"
        ) from error
    finally:
        timer.cancel()


@contextmanager
def naming_deaths() -> Iterator[None]:
    """What torch says of a worker that died, as an error of this package."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, WorkerError):  # which torch met while it waited, and knows less of
            raise error.__cause__ from error
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise worker_ended(first_line(error)) from error


def worker_ended(reason: str) -> WorkerError:
    """The error to raise where a worker is gone."""
    return WorkerError(
        "workers: expected loader processes that live until the end, got one that was killed or ended "
        f"({reason.rstrip('. ')}); most often memory was short: {REMEDY}"
    )


def name_deaths_anywhere() -> None:
    """Torch has SIGCHLD raise what a worker died of wherever the main process is: let that be a named one too."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler) and not isinstance(handler, _NamedDeaths):
        signal.signal(signal.SIGCHLD, _NamedDeaths(handler))


class _NamedDeaths:
    def __init__(self, handler: Take) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        with naming_deaths():
            self.handler(number, frame)
