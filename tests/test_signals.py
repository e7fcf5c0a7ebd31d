"""What commands do when a person, a terminal or a batch system stops them; for training see test_resume.py."""

import os
import pty
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import write_image
from runs import command, files, start

import ifam
from ifam import signals
from ifam.training.stopping import StopRequest, listening

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs groups of processes")


@pytest.fixture
def place(make_model: Any, tmp_path: Path) -> Path:
    ifam.save(make_model(), tmp_path / "model")
    first = write_image(tmp_path / "photographs/0.png", np.zeros((32, 32, 3)))
    for number in range(1, 3000):
        os.link(first, first.with_name(f"{number}.png"))
    return tmp_path


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_to_every_process_stops_a_command(number: int, place: Path) -> None:
    given = ["--workers", "2", "--batch-size", "1", "--shard-size", "1", "--device", "cpu"]
    out, err = place / "out", place / "err"
    process = start(
        command, ["predict", str(place / "model"), str(place / "photographs"), "--out", str(out), *given], err
    )
    while not (out / "part-00001.parquet").exists():
        assert process.is_alive(), err.read_text()
        time.sleep(0.01)
    assert process.pid is not None
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == 130
    assert err.read_text().splitlines() == [f"interrupted; the same command goes on from the shards in {out}"]
    assert not [name for name in files(out) if name.startswith(".part")]


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.interrupting(), listening():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_terminal_that_is_closed_asks_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The shell and the system send a SIGHUP each; the second must not cut the step in two."""
    with listening() as request:
        request.awaited = True
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(request, StopRequest)


def test_what_is_written_to_a_closed_terminal_does_not_fail(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:  # in its own session, with the terminal that the parent closes
        status = 1
        try:
            with signals.interrupting():
                (tmp_path / "ready").touch()
                time.sleep(60)
        except KeyboardInterrupt:
            os.write(1, b"interrupted")
            os.write(2, b"interrupted")
            status = 130
        finally:
            os._exit(status)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
