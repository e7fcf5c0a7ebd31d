from pathlib import Path

import pytest
from generated import write_scenes

from ifam.data.read import read_table
from ifam.data.table import ImageTable


@pytest.fixture
def scenes(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "scenes"))
