"""The command line bounds what torch keeps of kernels, unless the user has said otherwise; freed memory goes back."""

import os
import sys

import pytest

from ifam.benchmarks.speed.timing import resident
from ifam.cli import main
from ifam.device import KERNEL_CACHES, trim_memory


def test_the_command_line_bounds_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = KERNEL_CACHES
    monkeypatch.delenv(first, raising=False)
    monkeypatch.setenv(second, "7")
    assert main([]) == 2
    assert (os.environ[first], os.environ[second]) == (KERNEL_CACHES[first], "7")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps freed memory and has a call that returns it")
def test_freed_memory_goes_back_to_the_system() -> None:
    pieces = [bytearray(100_000) for _ in range(2_000)]  # 200 MB, each too small for a mapping of its own
    del pieces[:-1]  # the last keeps the top of the heap
    kept = resident()
    trim_memory()
    assert kept - resident() > 100e6
