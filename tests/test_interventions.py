from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes

from ifam.calibrate import calibrate
from ifam.config import SelectBy
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.interventions import CRITERIA, Intervention, choose, possible, try_interventions
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
        # in the same batches: images without evidence tie, and an AUC sees the last bit
        result = evaluate(model, table, split="test", batch_size=5, **vars(trial.intervention))
        assert trial.accuracy == pytest.approx(result.accuracy)
        assert trial.worst_group_accuracy == pytest.approx(result.worst_group_accuracy)
        assert trial.mean_kept == pytest.approx(result.mean_kept)
        assert trial.auc == pytest.approx(result.auc)
        assert trial.worst_group_auc == pytest.approx(result.worst_group_auc)
        assert (trial.num_samples, trial.groups) == (result.num_samples, result.groups)


def test_the_best_comes_first_and_ties_keep_their_order(model: IFAM, table: ImageTable) -> None:
    trials = try_interventions(model, table)
    assert [trial.score() for trial in trials] == sorted((trial.score() for trial in trials), reverse=True)
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
        (Intervention(remove_parts=(0,)), "without part 0"),
        (Intervention(token_quantile=0.9), "without tokens beyond q = 0.9"),
        (Intervention(remove_parts=(1,), token_quantile=0.95), "without part 1 and tokens beyond q = 0.95"),
    ],
)
def test_as_text(intervention: Intervention, text: str) -> None:
    assert str(intervention) == text


@pytest.mark.parametrize("select_by", CRITERIA)
def test_trials_are_ranked_by_the_criterion(select_by: SelectBy, model: IFAM, table: ImageTable) -> None:
    """Validation images of three per group, so that the criteria disagree."""
    trials = try_interventions(model, table, split="train", select_by=select_by)
    number = "worst_group_accuracy" if select_by == "auto" else select_by
    keys = [(getattr(trial, number), trial.accuracy) for trial in trials]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) > 1
    assert {trial.criterion(select_by) for trial in trials} == {number}
    with_intervals, *_ = try_interventions(model, table, split="train", select_by=select_by, intervals=True)
    assert with_intervals.accuracy_interval is not None
    assert with_intervals.worst_group_accuracy_interval is not None
    assert (with_intervals.auc_interval is not None) == select_by.endswith("auc")
    if with_intervals.auc_interval and with_intervals.worst_group_auc_interval:
        assert with_intervals.auc_interval.estimate == with_intervals.auc
        assert with_intervals.worst_group_auc_interval.estimate == with_intervals.worst_group_auc


def without_groups(table: ImageTable) -> ImageTable:
    return replace(table, group_names=(), samples=tuple(replace(sample, group=None) for sample in table.samples))


def of_one_class(table: ImageTable) -> ImageTable:
    return replace(table, samples=tuple(sample for sample in table.samples if sample.label == 1))


@pytest.mark.parametrize(
    ("change", "impossible"),
    [
        (without_groups, {"worst_group_accuracy", "worst_group_auc"}),
        (of_one_class, {"auc", "worst_group_auc"}),
    ],
)
def test_a_criterion_that_the_data_lacks_is_refused_before_the_work(
    change: Callable[[ImageTable], ImageTable],
    impossible: set[str],
    model: IFAM,
    table: ImageTable,
    refuses_line: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = change(table)
    for criterion in CRITERIA:
        if criterion not in impossible:
            assert try_interventions(model, table, [Intervention()], select_by=criterion)
    with monkeypatch.context() as patch:
        patch.setattr(model, "discover", lambda images: pytest.fail("work began"))
        for criterion in impossible:
            with refuses_line(criterion, "val split", "choose by another number", error=DataError):
                try_interventions(model, table, select_by=criterion)
        with refuses_line("worst_group_auc", "'last'"):
            try_interventions(model, table, select_by="last")


def test_three_classes_have_no_auc(make_model: Any, table: ImageTable, refuses_line: Any) -> None:
    model = make_model(num_classes=3, num_parts=2, class_names=[*table.class_names, "owl"])
    (trial,) = try_interventions(model, table, [Intervention()], intervals=True)
    assert (trial.auc, trial.worst_group_auc) == (None, None)
    with refuses_line("auc", "two classes", error=DataError):
        try_interventions(model, table, select_by="auc")
    with pytest.raises(DataError, match="two classes"):
        trial.score("auc")


def test_what_cannot_be_tried(model: IFAM, table: ImageTable) -> None:
    with pytest.raises(UsageError, match="foreground parts"):
        try_interventions(model, table, [Intervention(remove_parts=(7,))])
    with pytest.raises(DataError, match="val split"):
        try_interventions(model, table.select("test"))


def test_only_what_surely_beats_none_is_chosen(model: IFAM, table: ImageTable) -> None:
    trials = try_interventions(model, table, split="train")
    none = next(trial for trial in trials if trial.intervention == Intervention())
    assert none.beats_none == 0.5, "ties with itself"
    assert all(trial.beats_none is not None for trial in trials)
    lucky = replace(trials[0], intervention=Intervention(remove_parts=(0,)), beats_none=0.8)
    sure = replace(trials[0], intervention=Intervention(remove_parts=(1,)), beats_none=0.97)
    assert choose([lucky, none]) == none
    assert choose([lucky, sure, none]) == sure
    assert choose([replace(lucky, beats_none=None), none]).intervention == Intervention(remove_parts=(0,))
    for criterion in ("auc", "worst_group_auc"):
        by_auc = try_interventions(model, table, split="train", select_by=criterion)
        assert next(trial.beats_none for trial in by_auc if trial.intervention == Intervention()) == 0.5
        assert all(trial.beats_none is not None for trial in by_auc)
    alone = try_interventions(model, table, [Intervention(remove_parts=(0,))])
    assert [trial.beats_none for trial in alone] == [None]
