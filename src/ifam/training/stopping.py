"""Ctrl-C and SIGTERM as a request, so that no step is cut in two."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ifam.processes import started

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the user or the batch system has asked the run to stop. A second request stops it at once.

    So does the first while nobody ``awaits`` it: before the first step, and after the last.
    """

    def __init__(self) -> None:
        self.asked = False
        self.awaited = False

    def listen(self) -> None:
        """Take the signals over; Lightning does the same when a run starts, and stops at the next batch."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.awaited:
            raise KeyboardInterrupt
        self.asked = True
        if started().is_first:
            print("stopping after this step, to save; once more stops at once", file=sys.stderr)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """A request that the signals make, until the block ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    request = StopRequest()
    request.listen()
    try:
        yield request
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
