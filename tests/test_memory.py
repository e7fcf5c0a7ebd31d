"""The command line says how torch uses memory, unless the user has said otherwise."""

import os

import pytest

from ifam.cli import main
from ifam.device import MEMORY


def test_the_command_line_arranges_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = MEMORY
    monkeypatch.delenv(first, raising=False)
    monkeypatch.setenv(second, "7")
    assert main([]) == 2
    assert (os.environ[first], os.environ[second]) == (MEMORY[first], "7")
