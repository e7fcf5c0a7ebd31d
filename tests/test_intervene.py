import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes

from ifam import intervene as module
from ifam.calibrate import calibrate
from ifam.cli import main
from ifam.config import SelectBy
from ifam.console import print_study
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.evaluate import evaluate
from ifam.intervene import Study, intervene
from ifam.interventions import Intervention, Trial
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.score import GroupResult
from ifam.storage import save


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "data")


@pytest.fixture
def table(data: Path) -> ImageTable:
    return read_table(data)


@pytest.fixture
def model(make_model: Any, table: ImageTable) -> IFAM:
    built: IFAM = make_model(num_classes=2, num_parts=3, class_names=list(table.class_names))
    calibrate(built, table, quantiles=[0.5, 0.9])
    return built


def test_the_choice_is_of_validation_and_its_effect_of_test(model: IFAM, table: ImageTable) -> None:
    seen: list[tuple[int, int]] = []
    study = intervene(model, table, batch_size=5, progress=lambda done, total: seen.append((done, total)))
    assert {done for done, total in seen if done == total} == {len(table.select("val")), len(table.select("test"))}
    assert study.chosen == study.trials[0].intervention
    assert study.chosen_by == "worst_group_accuracy"
    assert [trial.score() for trial in study.trials] == sorted((t.score() for t in study.trials), reverse=True)
    assert {trial.num_samples for trial in study.trials} == {len(table.select("val"))}
    for trial, wanted in ((study.test_before, Intervention()), (study.test_after, study.chosen)):
        result = evaluate(model, table, split="test", **vars(wanted))
        assert trial.num_samples == result.num_samples
        assert trial.accuracy == pytest.approx(result.accuracy)
        assert trial.worst_group_accuracy == pytest.approx(result.worst_group_accuracy)
        assert trial.accuracy_interval is not None
        assert trial.accuracy_interval.estimate == pytest.approx(trial.accuracy)
        assert trial.worst_group_accuracy_interval is not None
        assert trial.worst_group_accuracy_interval.estimate == pytest.approx(trial.worst_group_accuracy)
        assert trial.groups == result.groups


@pytest.mark.parametrize(
    ("helpful", "chosen"),
    [((), ()), ((2,), (2,)), ((0, 2), (0, 2)), ((0, 1, 2), (0, 1))],
    ids=["none", "one part", "two parts", "one part always remains"],
)
@pytest.mark.parametrize("select_by", ["auto", "worst_group_auc"])
def test_parts_are_removed_as_long_as_it_helps(
    select_by: SelectBy,
    helpful: tuple[int, ...],
    chosen: tuple[int, ...],
    model: IFAM,
    table: ImageTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores made up: each helpful part adds, more so the first ones, every other part and every quantile costs.

    What is not selected by says the opposite.
    """

    def score(intervention: Intervention) -> float:
        parts = sum(0.1 - 0.01 * p if p in helpful else -0.1 for p in intervention.remove_parts)
        return 0.5 + parts - (0 if intervention.token_quantile is None else 0.05)

    number, other = ("worst_group_accuracy", "worst_group_auc")[:: 1 if select_by == "auto" else -1]

    def scripted(
        model: IFAM, table: ImageTable, wanted: Sequence[Intervention], select_by: SelectBy = "auto", **_: Any
    ) -> list[Trial]:
        made_up: list[dict[str, Any]] = [{"intervention": i, number: score(i), other: -score(i)} for i in wanted]
        trials = [Trial(num_samples=8, accuracy=0.5, mean_kept=0.2, **values) for values in made_up]
        return sorted(trials, key=lambda trial: trial.score(select_by), reverse=True)

    monkeypatch.setattr(module, "try_interventions", scripted)
    study = intervene(model, table, select_by=select_by)
    assert study.chosen == Intervention(remove_parts=chosen)
    tried = [trial.intervention for trial in study.trials]
    assert len(set(tried)) == len(tried), "nothing is tried twice"
    if len(chosen) > 1:
        assert Intervention(remove_parts=chosen, token_quantile=0.9) in tried


def test_a_missing_split_is_said_before_the_work(model: IFAM, table: ImageTable) -> None:
    with pytest.raises(DataError, match="test split"):
        intervene(model, table.select("val"))


def test_the_command(model: IFAM, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(model, tmp_path / "run")
    files = ["--json", str(tmp_path / "out.json"), "--figure", str(tmp_path / "parts.png")]
    files += ["--token-figure", str(tmp_path / "tokens.png")]
    assert main(["intervene", str(tmp_path / "run"), str(data), *files]) == 0
    assert (tmp_path / "parts.png").stat().st_size > 10_000
    assert (tmp_path / "tokens.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"trials", "chosen", "chosen_by", "test_before", "test_after"}
    interval = found["test_after"]["worst_group_accuracy_interval"]
    assert 0 <= interval["low"] <= found["test_after"]["worst_group_accuracy"] <= interval["high"] <= 1
    printed = capsys.readouterr().out
    assert "tried on 4 validation images, best worst group first" in printed
    assert "chosen by worst group: " in printed
    warning = "warning: an interval over fewer than 10 images says little: 8 in all"
    assert printed.splitlines()[-1] == warning
    assert found["chosen_by"] == "worst_group_accuracy"
    assert {group["count"] for group in found["test_before"]["groups"].values()} == {2}


@pytest.mark.parametrize("flag", ["--figure", "--token-figure"])
def test_a_picture_of_another_kind_is_refused_before_the_work(
    flag: str, model: IFAM, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    save(model, tmp_path / "run")
    monkeypatch.setattr(module, "try_interventions", lambda *_, **__: pytest.fail("work began"))
    assert main(["intervene", str(tmp_path / "run"), str(data), flag, str(tmp_path / "parts.txt")]) == 2
    assert ".png, .jpg" in capsys.readouterr().err


@pytest.mark.parametrize("criterion", ["auc", "worst_group_auc", "accuracy"])
def test_what_is_best_can_be_chosen(
    criterion: str, model: IFAM, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(model, tmp_path / "run")
    arguments = ["intervene", str(tmp_path / "run"), str(data), "--select-by", criterion]
    assert main([*arguments, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    values = [(trial[criterion], trial["accuracy"]) for trial in found["trials"]]
    assert values == sorted(values, reverse=True)
    assert found["chosen_by"] == criterion
    assert found["chosen"] == found["trials"][0]["intervention"]
    assert found["test_before"][f"{criterion}_interval"]["estimate"] == found["test_before"][criterion]
    assert ("AUC" in capsys.readouterr().out) == (criterion != "accuracy")


def test_without_groups_it_says_that_accuracy_chose(
    model: IFAM, table: ImageTable, capsys: pytest.CaptureFixture[str], refuses_line: Any
) -> None:
    samples = tuple(replace(sample, group=None) for sample in table.samples)
    table = replace(table, group_names=(), samples=samples)
    study = intervene(model, table)
    assert study.chosen_by == "accuracy"
    assert (study.test_after.groups, study.test_after.worst_group_accuracy_interval) == ({}, None)
    print_study(study)
    assert "no groups are known: chosen by accuracy" in capsys.readouterr().out
    with refuses_line("worst_group_auc", "known groups", error=DataError):
        intervene(model, table, select_by="worst_group_auc")


def test_a_criterion_that_the_test_split_lacks_is_refused_before_the_work(
    model: IFAM, table: ImageTable, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    samples = tuple(sample for sample in table.samples if sample.split == "val" or sample.label == 0)
    monkeypatch.setattr(module, "try_interventions", lambda *_, **__: pytest.fail("work began"))
    with refuses_line("auc", "test split", error=DataError):
        intervene(model, replace(table, samples=samples), select_by="auc")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            {"a": 400, "b": 9, "c": 0, "d": 3},
            "warning: an interval over fewer than 10 images says little: in b (9), d (3)",
        ),
        ({"a": 400, "b": 10}, ""),
        ({"a": 3, "b": 1}, "warning: an interval over fewer than 10 images says little: 4 in all"),
        ({"a": 1}, "warning: an interval over fewer than 10 images says little: 1 in all"),
    ],
)
def test_few_images_are_warned_of(counts: dict[str, int], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {name: GroupResult(accuracy=1.0 if count else None, count=count) for name, count in counts.items()}
    total = sum(counts.values())
    trial = Trial(
        intervention=Intervention(), num_samples=total, accuracy=1, worst_group_accuracy=1, mean_kept=0.5, groups=groups
    )
    study = Study(
        trials=[trial], chosen=Intervention(), chosen_by="worst_group_accuracy", test_before=trial, test_after=trial
    )
    print_study(study)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == said or (not said and "warning" not in printed)
    assert ("1 test image," in printed) == (total == 1)


def test_late_masking_gets_the_same_interventions(make_model: Any, data: Path) -> None:
    table = read_table(data)
    late = make_model(second_stage=False, num_classes=2, num_parts=2, class_names=list(table.class_names))
    study = intervene(late, table)
    assert {trial.intervention.remove_parts for trial in study.trials} == {(), (0,), (1,)}


def test_a_plain_classifier_has_nothing_to_switch_off(
    make_model: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(read_table(data).class_names)
    save(PlainClassifier("test_vit", 2, pretrained=False, class_names=names), tmp_path / "r")
    assert main(["intervene", str(tmp_path / "r"), str(data)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
