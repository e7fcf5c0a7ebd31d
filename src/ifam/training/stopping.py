"""Ctrl-C, SIGTERM and a closed terminal as a request, so that no step is cut in two."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ifam.processes import started
from ifam.signals import HANGUP, give_back, leave_terminal, take_over


class StopRequest:
    """Whether the user or the batch system has asked the run to stop. A second request stops it at once.

    So does the first while nobody ``awaits`` it: before the first step, and after the last. A terminal that is closed
    may say so twice, by its shell and by the system: that is one request.
    """

    def __init__(self) -> None:
        self.asked = False
        self.awaited = False

    def listen(self) -> None:
        """Take the signals over; Lightning does the same when a run starts, and stops at the next batch."""
        take_over(self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == HANGUP:
            leave_terminal()
            if self.asked:
                return
        if self.asked or not self.awaited:
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True
        if started().is_first:
            print("stopping after this step, to save; once more stops at once", file=sys.stderr)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """A request that the signals make, until the block ends."""
    request = StopRequest()
    before = take_over(request._take)
    try:
        yield request
    finally:
        give_back(before)
