from typing import Any

import pytest
import torch
import torch.nn.functional as F
from generated import tiny_config

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
