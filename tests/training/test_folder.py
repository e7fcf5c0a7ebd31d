from pathlib import Path
from typing import Any

import pytest

from ifam.errors import CheckpointError, TrainingError
from ifam.training.callbacks import whole_lines
from ifam.training.folder import naming_checkpoint
from ifam.training.stopping import StopRequest


def test_what_fails_before_the_start_is_the_checkpoints_fault(refuses_line: Any) -> None:
    with (
        refuses_line("last.ckpt", "missing\\", error=CheckpointError),
        naming_checkpoint(Path("last.ckpt"), StopRequest()),
    ):
        raise KeyError("missing\\n")
    with pytest.raises(TrainingError), naming_checkpoint(Path("last.ckpt"), StopRequest()):
        raise TrainingError("of ours, complete")


def test_what_fails_later_is_not() -> None:
    running = StopRequest()
    running.awaited = True
    for last, stop in ((None, StopRequest()), (Path("last.ckpt"), running)):
        with pytest.raises(KeyError), naming_checkpoint(last, stop):
            raise KeyError


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"epoch": "x"}', '{"epoch": null}'])
def test_lines_of_metrics_that_are_none(line: str, tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"epoch": 0}}\n{line}\n')
    with refuses_line("metrics.jsonl", "expected", error=CheckpointError):
        whole_lines(tmp_path / "metrics.jsonl", 5)
