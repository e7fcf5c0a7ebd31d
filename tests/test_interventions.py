from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes

from ifam.calibrate import calibrate
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.interventions import Intervention, possible, try_interventions
from ifam.model.two_stage import IFAM


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "data"))


@pytest.fixture
def model(make_model: Any, table: ImageTable) -> IFAM:
    built: IFAM = make_model(num_classes=2, num_parts=2, class_names=list(table.class_names))
    calibrate(built, table, quantiles=[0.5, 0.9])
    return built


def test_each_trial_is_what_evaluate_says(model: IFAM, table: ImageTable) -> None:
    trials = try_interventions(model, table, split="test", batch_size=5)
    assert len(trials) == 9, "nothing, part 0 or part 1, each with no quantile or one of two"
    assert {trial.intervention for trial in trials} == set(possible(model))
    assert len({trial.mean_kept for trial in trials}) > 4
    for trial in trials:
        result = evaluate(model, table, split="test", **vars(trial.intervention))
        assert trial.accuracy == pytest.approx(result.accuracy)
        assert trial.worst_group_accuracy == pytest.approx(result.worst_group_accuracy)
        assert trial.mean_kept == pytest.approx(result.mean_kept)


def test_the_best_comes_first_and_ties_keep_their_order(model: IFAM, table: ImageTable) -> None:
    trials = try_interventions(model, table)
    assert [trial.score for trial in trials] == sorted((trial.score for trial in trials), reverse=True)
    twice = [Intervention(token_quantile=0.9), Intervention(), Intervention(token_quantile=0.9)]
    first, *_ = try_interventions(model, table, [Intervention(), Intervention(remove_parts=())])
    assert first.intervention == Intervention()
    assert len(try_interventions(model, table, twice)) == 3


def test_stage_1_runs_once_for_each_batch(model: IFAM, table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    discover = model.discover
    monkeypatch.setattr(model, "discover", lambda images: calls.append(len(images)) or discover(images))
    try_interventions(model, table, batch_size=4)
    assert sum(calls) == len(table.select("val"))


def test_a_single_part_is_not_removed(make_model: Any) -> None:
    assert possible(make_model(num_parts=1)) == [Intervention()]


@pytest.mark.parametrize(
    ("intervention", "text"),
    [
        (Intervention(), "none"),
        (Intervention(remove_parts=(0, 2)), "without parts 0 2"),
        (Intervention(token_quantile=0.9), "tokens up to q = 0.9"),
        (Intervention(remove_parts=(1,), token_quantile=0.95), "without parts 1, tokens up to q = 0.95"),
    ],
)
def test_as_text(intervention: Intervention, text: str) -> None:
    assert str(intervention) == text


def test_what_cannot_be_tried(model: IFAM, table: ImageTable, make_model: Any) -> None:
    with pytest.raises(UsageError, match="second stage"):
        try_interventions(make_model(second_stage=False), table)
    with pytest.raises(UsageError, match="foreground parts"):
        try_interventions(model, table, [Intervention(remove_parts=(7,))])
    with pytest.raises(DataError, match="val split"):
        try_interventions(model, table.select("test"))
