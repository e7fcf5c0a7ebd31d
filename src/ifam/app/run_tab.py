"""The tab "Run": what the run remembers, and its groups and parts on the test split."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio as gr

from ifam.app import view
from ifam.app.ask_tab import html, one_line
from ifam.app.run_folder import run_summary
from ifam.data.batch import reading_all
from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.evaluate import evaluate
from ifam.explanations.part_gallery import part_gallery
from ifam.model.two_stage import IFAM

NO_DATA = "Start the page with DATA (ifam app RUN DATA) to see accuracy by group and the images of each part."


class RunTab:
    """Its buttons and what they compute; made inside the block ``page`` of gradio.

    ``working`` is held while the test split is looked through, which ends soon after the page is closed.
    """

    def __init__(
        self,
        model: IFAM,
        folder: Path,
        table: ImageTable | None,
        *,
        device: str,
        page: Any,
        working: AbstractContextManager[Any],
    ) -> None:
        self.model, self.device, self.page, self.working = model, device, page, working
        html(view.run_html(run_summary(model, folder)))
        if table is None:
            html(view.note_html(NO_DATA))
            return
        self.table = table
        for label, function in (("Accuracy by group", self.on_groups), ("Part gallery", self.on_gallery)):
            button = gr.Button(f"{label}: look through the test split", size="sm")
            found = html(min_height=60)
            button.click(function, None, found, api_visibility="private", concurrency_id="run")

    @one_line
    def on_groups(self, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008  gradio finds it by its default
        """Accuracy by group."""
        show = self._reporting(progress, "scoring groups")
        with self.working, reading_all():
            result = evaluate(self.model, self.table, device=self.device, progress=show)
        return view.groups_html(result, self.model.training_group_sizes)

    @one_line
    def on_gallery(self, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        """The images with most of each part."""
        show = self._reporting(progress, "looking at parts")
        with self.working, reading_all():
            gallery = part_gallery(self.model, self.table, split="test", device=self.device, progress=show)
        return view.gallery_html(gallery)

    def _reporting(self, progress: Any, what: str) -> Callable[[int, int], None]:
        def show(done: int, total: int) -> None:
            if not self.page.is_running:
                raise UsageError("stopped: the page is closed")
            progress((done, total), desc=what, unit="images")

        return show
