"""The signals with which people, terminals and batch systems ask a program to stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

Take = Callable[[int, FrameType | None], Any]
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; a batch system or a container that ends; a terminal that is closed"""
HANGUP: int | None = getattr(signal, "SIGHUP", None)


def take_over(take: Take) -> Mapping[int, Any]:
    """What handled the signals before. From now on ``take`` does, in the main thread; with ``nohup`` not SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in STOPPING}
    if HANGUP is not None and before[HANGUP] is signal.SIG_IGN:
        del before[HANGUP]
    for number in before:
        signal.signal(number, take)
    return before


def give_back(before: Mapping[int, Any]) -> None:
    """Have the signals handled as before `take_over`."""
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def interrupting() -> Iterator[None]:
    """A block that SIGTERM and a closed terminal end as Ctrl-C does: with KeyboardInterrupt, which cleans up."""
    before = take_over(_interrupt)
    try:
        yield
    finally:
        give_back(before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == HANGUP:
        leave_terminal()
        signal.signal(number, signal.SIG_IGN)  # the shell and the system may send one each
    raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """A block that the signals wait for. Processes that start in it never get them, unless they ask."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_terminal() -> None:
    """Let what is still written to a closed terminal go nowhere, instead of failing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(nowhere, stream)
    os.close(nowhere)
