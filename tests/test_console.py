from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from ifam.console import print_comparison, print_evaluation, report_progress
from ifam.evaluate import Evaluation
from ifam.metrics.bootstrap import Interval
from ifam.score import GroupPair, GroupResult, Score

RED = "\x1b[31mred"
SHOWN = r"\x1b[31mred"
INTERVAL = Interval(estimate=0.5, low=0.4, high=0.6, level=0.95, repeats=10, left_out=0)


def evaluation() -> Evaluation:
    """Of two groups, one of which has one image and a name that would colour the terminal."""
    score: dict[str, Any] = {field.name: None for field in fields(Score)}
    groups = {RED: GroupResult(accuracy=1.0, count=1), "sea": GroupResult(accuracy=0.5, count=20)}
    pair = GroupPair(positives=RED, negatives=RED, num_positives=1, num_negatives=1, comparisons=1)
    score |= {"num_samples": 21, "accuracy": 0.5, "groups": groups, "worst_group_auc_between": pair}
    return Evaluation(**score, split="test", accuracy_interval=INTERVAL)


PRINTED: dict[str, tuple[Callable[[], None], int]] = {
    "groups of an evaluation": (lambda: print_evaluation(evaluation()), 4),
    "a table": (lambda: print_comparison("", ("name", "number"), [(RED, "1")]), 1),
}


@pytest.mark.parametrize("what", PRINTED)
def test_names_do_not_control_the_terminal(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    show, times = PRINTED[what]
    show()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count(SHOWN) == times


def test_progress_is_told_once_something_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 70.0, 140.0, 150.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    show = report_progress("predicting")
    for done in (0, 70, 75):  # a large tar file may begin with much that is no image
        show(done, 105)
    assert capsys.readouterr().err == "predicting: 70 of 105, 0.5 images/s, 0:01:10 left\n"
