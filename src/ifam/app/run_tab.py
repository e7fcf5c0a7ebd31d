"""The tab "Run": what the run remembers, and its groups and parts on the test split."""

from pathlib import Path
from typing import Any

from ifam.app import view
from ifam.app.ask_tab import one_line
from ifam.app.run_folder import run_summary
from ifam.data.table import ImageTable
from ifam.evaluate import evaluate
from ifam.explanations.part_gallery import part_gallery
from ifam.model.two_stage import IFAM

NO_DATA = "Start the page with DATA (ifam app RUN DATA) to see accuracy by group and the images of each part."


def add_run_tab(model: IFAM, folder: Path, table: ImageTable | None, device: str) -> None:
    """Its buttons and what they compute; inside a block of gradio."""
    import gradio as gr

    gr.HTML(view.run_html(run_summary(model, folder)))
    if table is None:
        gr.HTML(view.note_html(NO_DATA))
        return

    def reporting(progress: Any, what: str) -> Any:
        return lambda done, total: progress((done, total), desc=what, unit="images")

    @one_line
    def on_groups(progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008  gradio finds it by its default
        result = evaluate(model, table, device=device, progress=reporting(progress, "scoring groups"))
        return view.groups_html(result, model.training_group_sizes)

    @one_line
    def on_gallery(progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        gallery = part_gallery(
            model, table, split="test", device=device, progress=reporting(progress, "looking at parts")
        )
        return view.gallery_html(gallery)

    for label, function in (("Accuracy by group", on_groups), ("Part gallery", on_gallery)):
        button = gr.Button(f"{label}: look through the test split", size="sm")
        found = gr.HTML(min_height=60)
        button.click(function, None, found, api_visibility="private", concurrency_id="run")
