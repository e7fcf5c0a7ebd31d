"""The tab that looks through the test split."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ifam.data.table import ImageTable
from ifam.model.two_stage import IFAM

gradio = pytest.importorskip("gradio")


@pytest.mark.usefixtures("loops_closed")
def test_an_unreadable_image_is_named_and_not_offered_to_be_left_out(
    model: IFAM, table: ImageTable, photograph: Path, tmp_path: Path
) -> None:
    from ifam.app.run_tab import RunTab

    photograph.write_bytes(b"")
    page: Any = SimpleNamespace(is_running=True)
    with gradio.Blocks():
        tab = RunTab(model, tmp_path / "run", table, device="cpu", page=page, working=nullcontext())
    for look in (tab.on_groups, tab.on_gallery):
        with pytest.raises(gradio.Error) as caught:
            look(lambda *place, **options: None)
        said = str(caught.value).strip("'")
        assert said.startswith(str(photograph))
        assert said.endswith("replace it or take it out")
