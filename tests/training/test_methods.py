from typing import Any

import pytest
from generated import tiny_config

from ifam.training.registry import make_method


@pytest.mark.parametrize(
    ("num_parts", "given", "expected"), [(1, None, 0), (2, None, 0.3), (8, None, 0.3), (1, 0.2, 0.2), (8, 0, 0)]
)
def test_stage_2_loses_parts_unless_there_is_one(num_parts: int, given: float | None, expected: float) -> None:
    model: Any = make_method(tiny_config(model__num_parts=num_parts, model__stage2_part_dropout=given)).build(
        ["a", "b"]
    )
    assert model.stage2_part_dropout == expected
