import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import write_scenes

from ifam.calibrate import calibrate
from ifam.data.images import open_image
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.transforms import test_transform as view_of
from ifam.model.two_stage import IFAM


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_table(write_scenes(tmp_path / "data"))


@pytest.fixture
@torch.no_grad()
def model(make_model: Any, table: ImageTable, photograph: Path) -> IFAM:
    """Three parts and the background, each in the photograph, on a grid of 4 × 4; two thresholds."""
    built: IFAM = make_model(num_classes=2, num_parts=3, class_names=list(table.class_names))
    view = view_of(built.preprocessing)(open_image(photograph))[None]
    built.prototypes.copy_(built.discover(view).tokens[0].flatten(0, 1)[[0, 5, 10, 15]])
    calibrate(built, table, quantiles=(0.5, 0.9))
    built.training_group_sizes = {"finch/land": 3, "finch/sea": 1}
    return built


@pytest.fixture
def photograph(table: ImageTable) -> Path:
    return table.select("test").samples[0].path


@pytest.fixture
def loops_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gradio makes event loops that it never runs, and leaves them open, which is a warning and so an error here."""
    made, new = [], asyncio.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_event_loop)
    yield
    asyncio.set_event_loop(None)
    for loop in made:
        loop.close()


@pytest.fixture
def port(loops_closed: None) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


@pytest.fixture
def address(model: IFAM, table: ImageTable, tmp_path: Path, port: int) -> Iterator[str]:
    """A page that is being served."""
    pytest.importorskip("gradio")
    from ifam.app.serve import serving

    with serving(model, tmp_path / "run", table, host="127.0.0.1", port=port) as served:
        yield served
