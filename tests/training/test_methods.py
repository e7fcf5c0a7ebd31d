from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from generated import tiny_config, write_scenes
from runs import metrics, run

from ifam.data.read import read_table
from ifam.losses.objective import classification_term
from ifam.training.methods import balancing_weights
from ifam.training.registry import make_method


@pytest.mark.parametrize(
    ("num_parts", "given", "expected"), [(1, None, 0), (2, None, 0.3), (8, None, 0.3), (1, 0.2, 0.2), (8, 0, 0)]
)
def test_stage_2_loses_parts_unless_there_is_one(num_parts: int, given: float | None, expected: float) -> None:
    model: Any = make_method(tiny_config(model__num_parts=num_parts, model__stage2_part_dropout=given)).build(
        ["a", "b"]
    )
    assert model.stage2_part_dropout == expected


def test_weights_of_classes_make_each_count_alike() -> None:
    weights = balancing_weights([30, 10, 0])
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2.0, 0.0]))
    assert 30 * weights[0] == 10 * weights[1]
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 0, 1])
    expected = (F.cross_entropy(logits, labels, weights) * weights[labels].sum()) / 6
    torch.testing.assert_close(classification_term(logits, labels, weights), expected)
    alone = classification_term(logits, labels)
    torch.testing.assert_close(alone, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("method", ["ifam", "early_mask", "erm"])
def test_the_epoch_of_least_loss_is_kept_and_choosing_changes_no_training(method: str, tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path / "scenes", {"train": 6, "val": 4, "test": 2}))
    config = tiny_config(method=method, optimizer__epochs=4, select_by="loss", borrowed_backgrounds="stage2")
    found = run(config, table, tmp_path / "by loss")
    losses = [line["val/loss"] for line in metrics(tmp_path / "by loss")]
    assert found.selection_score == pytest.approx(-min(losses), rel=1e-6)
    assert found.best_epoch == losses.index(min(losses))
    run(tiny_config(method=method, optimizer__epochs=4, borrowed_backgrounds="stage2"), table, tmp_path / "other")
    trained = [[line["train/loss"] for line in metrics(tmp_path / folder)] for folder in ("by loss", "other")]
    assert trained[0] == trained[1]
    assert "val/loss" not in metrics(tmp_path / "other")[0]
