"""The command line bounds what torch keeps of kernels, unless the user has said otherwise."""

import os

import pytest

from ifam.cli import main
from ifam.device import KERNEL_CACHES


def test_the_command_line_bounds_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = KERNEL_CACHES
    monkeypatch.delenv(first, raising=False)
    monkeypatch.setenv(second, "7")
    assert main([]) == 2
    assert (os.environ[first], os.environ[second]) == (KERNEL_CACHES[first], "7")
