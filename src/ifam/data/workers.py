"""The worker processes of a loader: how many there may be, and what each does before its first image."""

import os
import signal
import threading
from multiprocessing import parent_process

from ifam.errors import UsageError

LAST_STEP_SECONDS = 60
MOST_WORKERS = 1000


def check_workers(workers: int) -> None:
    """Refuse what no machine can start.

    Raises:
        UsageError: fewer than none, or too many.
    """
    if not 0 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers: expected 0 or more and at most {MOST_WORKERS} workers, got {workers}")


def attach_to_main(worker: int) -> None:
    """A worker of training: it ends with its main process, and leaves it the signals."""
    end_with_main(worker)
    _leave_signals_to_main()


def end_with_main(worker: int) -> None:
    """A worker of a fork server does not see its main process killed: the two would keep each other alive."""
    threading.Thread(target=_wait_for_main, daemon=True).start()


def _wait_for_main() -> None:
    main = parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def _leave_signals_to_main() -> None:
    """A terminal and a batch system signal every process; the main one has a step to finish, and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_STEP_SECONDS))
