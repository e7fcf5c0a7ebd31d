from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes

from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.model.two_stage import IFAM

Make = Callable[..., IFAM]


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "scenes", {"train": 2, "val": 3, "test": 4}))


@pytest.fixture
def make(make_model: Any, table: ImageTable) -> Make:
    """A tiny model of the scenes with calibrated tokens."""

    def built(**options: Any) -> IFAM:
        model: IFAM = make_model(**{"num_classes": 2, "class_names": list(table.class_names)} | options)
        model.token_thresholds = {0.9: [30.0] * model.num_parts}
        return model

    return built
