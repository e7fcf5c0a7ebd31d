import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from generated import tiny_config

from ifam.score import GroupResult, Score
from ifam.training import callbacks
from ifam.training.callbacks import BestModel, MetricsFile, describe_score
from ifam.training.module import TrainingModule
from ifam.training.registry import make_method

SCORE = Score(
    num_samples=4,
    accuracy=0.75,
    average_accuracy=0.8,
    worst_group_accuracy=0.5,
    groups={"a": GroupResult(accuracy=0.5, count=2), "b": GroupResult(accuracy=None, count=0)},
    auc=None,
    mean_kept=0.25,
    no_evidence=0,
    foreground_iou=None,
    foreground_iou_per_image=None,
)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    models: list[object] = []
    monkeypatch.setattr(callbacks, "save", lambda model, folder, weights: models.append(weights))
    return models


def validate(best: BestModel, scores: list[float], first_epoch: int = 0, stage1_epochs: int = 0) -> None:
    for epoch, score in enumerate(scores, start=first_epoch):
        module = SimpleNamespace(
            model=None,
            weights=lambda epoch=epoch: epoch,
            score_epoch=lambda: None,
            fully_trained=epoch >= stage1_epochs,
            selection_score=score,
        )
        trainer: Any = SimpleNamespace(current_epoch=epoch, is_global_zero=True)
        best.on_validation_epoch_end(trainer, module)


def test_the_best_epoch_is_kept_and_the_first_of_equals(saved: list[object], tmp_path: Path) -> None:
    best = BestModel(tmp_path)
    validate(best, [0.2, 0.6, 0.6, 0.5, 0.7, 0.1])
    assert (best.epoch, best.best) == (4, 0.7)
    assert saved == [0, 1, 4]


def test_epochs_of_stage_1_alone_are_no_candidates(saved: list[object], tmp_path: Path) -> None:
    best = BestModel(tmp_path)
    validate(best, [0.9, 0.9, 0.1, 0.3], stage1_epochs=2)
    assert (best.epoch, best.best) == (3, 0.3)
    assert saved == [2, 3]


def test_a_resumed_run_remembers_the_best(saved: list[object], tmp_path: Path) -> None:
    before, after = BestModel(tmp_path), BestModel(tmp_path)
    validate(before, [0.2, 0.6])
    after.load_state_dict(before.state_dict())
    validate(after, [0.5, 0.6], first_epoch=2)
    assert (after.epoch, after.best) == (1, 0.6)
    assert saved == [0, 1]


def test_the_worst_group_selects_where_groups_are_known() -> None:
    method = make_method(tiny_config())
    module = TrainingModule(method.build(["a", "b"]), method, ("a", "b"))
    assert module.selection_score == float("-inf")
    module.score = SCORE
    assert module.selection_score == 0.5
    module.score = replace(SCORE, worst_group_accuracy=None, groups={})
    assert module.selection_score == 0.75


def test_the_line_of_an_epoch() -> None:
    assert describe_score(SCORE.numbers()) == ", validation accuracy 0.750, worst group 0.500, kept 0.250"


def test_lines_of_epochs_to_be_run_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"epoch": epoch}) + "\n" for epoch in range(4)) + '{"epo')  # killed there
    trainer: Any = SimpleNamespace(current_epoch=2)
    MetricsFile(path).on_train_start(trainer, None)
    assert path.read_text() == '{"epoch": 0}\n{"epoch": 1}\n'
