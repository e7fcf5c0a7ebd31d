"""The tab "Ask": one photograph, its parts, and what changes when some of it is switched off."""

from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps

from ifam.app import view
from ifam.app.pictures import Pixels
from ifam.app.question import Question
from ifam.data.images import open_image
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError, IfamError, UsageError
from ifam.explanations.explanation import explain
from ifam.model.two_stage import IFAM

EXAMPLES, THUMBNAIL = 8, 112
SHAPLEY_UP_TO = 6
"""parts whose Shapley values are shown unasked: 64 answers of stage 2"""
SESSION_SECONDS = 3600
"""after which a photograph that nobody asks about is forgotten"""
SCRIPT = Path(__file__).with_name("page.js")


def ask_file(model: IFAM, path: Path) -> Question:
    """The question about a file.

    Raises:
        DataError: no image, or one of too many pixels; the message names the file, not its folder.
    """
    try:
        return Question(whole=explain(model, path), num_parts=model.num_parts)
    except DataError as error:
        raise DataError(str(error).replace(str(path), path.name)) from None


def example_samples(table: ImageTable, count: int = EXAMPLES) -> list[Sample]:
    """Test images of every class and group in turn."""
    seen: dict[tuple[int, int | None], int] = {}

    def turn(sample: Sample) -> int:
        key = (sample.label, sample.group)
        seen[key] = seen.get(key, 0) + 1
        return seen[key]

    turns = [(turn(sample), sample) for sample in table.select("test").samples]
    return [sample for _, sample in sorted(turns, key=lambda pair: pair[0])[:count]]


def thumbnails(samples: Sequence[Sample]) -> dict[str, Pixels]:
    """Small squares to choose from, by name.

    Raises:
        DataError: an image that cannot be read.
    """
    size = (THUMBNAIL, THUMBNAIL)
    return {sample.name: np.asarray(ImageOps.fit(open_image(sample.path), size)) for sample in samples}


def quantile_levels(model: IFAM) -> list[float | None]:
    """What the slider runs over: no threshold, then from the mildest to the strictest."""
    return [None, *sorted(model.token_thresholds, reverse=True)]


def quantile_label(quantile: float | None) -> str:
    """What a level of the slider does."""
    if quantile is None:
        return "Token threshold: off"
    return f"Token threshold: q = {quantile:g}, patches less typical of their part are dropped"


def one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong as one plain line in the page, without a traceback there or on the screen."""
    import gradio as gr

    @wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except IfamError as error:
            message = str(error)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
        # the page shows a message as HTML
        raise gr.Error(escape(" ".join(message.split())), print_exception=False, title="That did not work")

    return guarded


def add_ask_tab(model: IFAM, table: ImageTable | None) -> None:
    """Its controls and what they do; inside a block of gradio."""
    import gradio as gr

    levels, samples = quantile_levels(model), example_samples(table) if table else []
    names, script = view.part_labels(None, model.num_parts), SCRIPT.read_text(encoding="utf-8")
    question = gr.State(None, time_to_live=SESSION_SECONDS)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.File(label="Photograph", file_types=["image", ".dcm"], height=120)
            examples = gr.HTML(view.examples_html(thumbnails(samples)), js_on_load=script, visible=bool(samples))
            parts = gr.CheckboxGroup(
                list(zip(names, range(model.num_parts), strict=True)),
                value=list(range(model.num_parts)),
                label="Parts",
                elem_id="parts",
            )
            threshold = gr.Slider(
                0,
                max(len(levels) - 1, 1),
                value=0,
                step=1,
                label=quantile_label(None),
                info=None if len(levels) > 1 else "No thresholds are stored with this model: run ifam calibrate first.",
                interactive=len(levels) > 1,
                elem_id="threshold",
                buttons=[],
            )
            reset = gr.Button("As the model chose", size="sm")
        with gr.Column(scale=3, min_width=280):
            answer = gr.HTML(view.note_html("Drop a photograph, or choose one, to see what the answer rests on."))
            pictures = gr.HTML(js_on_load=script)
            with gr.Row():
                classes = gr.HTML(min_width=280)
                with gr.Column(min_width=280):
                    shapley = gr.HTML()
                    compute = gr.Button("What does each part add?", size="sm", visible=False)

    shown = [question, answer, pictures, classes]
    controls = [parts, threshold]

    def show(asked: Question) -> list[Any]:
        return [
            asked,
            view.answer_html(asked),
            view.pictures_html(asked),
            view.classes_html(asked, model.class_names),
        ]

    def set_controls(asked: Question) -> list[Any]:
        labels = view.part_labels(asked, model.num_parts)
        choices = list(zip(labels, range(model.num_parts), strict=True))
        level = gr.Slider(value=levels.index(asked.quantile), label=quantile_label(asked.quantile))
        return [gr.CheckboxGroup(choices=choices, value=asked.on), level]

    def asked_before(asked: Question | None) -> Question:
        if asked is None:
            raise UsageError("expected a photograph first, got none; drop or choose one")
        return asked

    @one_line
    def on_upload(file: str) -> list[Any]:
        path = Path(file)
        try:
            asked = ask_file(model, path)
        finally:
            path.unlink(missing_ok=True)  # nothing that was uploaded is kept
        return [*show(asked), *set_controls(asked), "", gr.Button(visible=False)]

    @one_line
    def on_example(event: gr.EventData) -> list[Any]:
        index = int(event.index)
        if index not in range(len(samples)):
            raise UsageError(f"example: expected 0 to {len(samples) - 1}, got {index}")
        asked = ask_file(model, samples[index].path)
        return [*show(asked), *set_controls(asked), "", gr.Button(visible=False)]

    @one_line
    def on_parts(asked: Question | None, chosen: list[int]) -> list[Any]:
        return show(asked_before(asked).with_parts([int(part) for part in chosen]))

    @one_line
    def on_threshold(asked: Question | None, level: int) -> list[Any]:
        quantile = levels[int(level)]
        return [*show(asked_before(asked).with_quantile(quantile)), gr.Slider(label=quantile_label(quantile))]

    @one_line
    def on_pick(asked: Question | None, event: gr.EventData) -> list[Any]:
        row, column = event.cell
        toggled = asked_before(asked).toggled_at((int(row), int(column)))
        return [*show(toggled), *set_controls(toggled)]

    @one_line
    def on_paint(asked: Question | None, event: gr.EventData) -> list[Any]:
        return show(asked_before(asked).with_stroke([(int(row), int(column)) for row, column in event.cells]))

    @one_line
    def on_reset(asked: Question | None) -> list[Any]:
        plain = asked_before(asked).plain()
        return [*show(plain), *set_controls(plain)]

    @one_line
    def on_compute(asked: Question | None) -> list[Any]:
        asked = asked_before(asked)
        if not model.is_faithful:
            return [
                view.note_html("What each part adds is known only where the answer rests on the mask alone."),
                gr.skip(),
            ]
        return [view.shapley_html(asked, asked.whole.shapley()), gr.Button(visible=False)]

    @one_line
    def after_answer(asked: Question | None) -> list[Any]:
        many = model.num_parts > SHAPLEY_UP_TO and model.is_faithful
        return ["", gr.Button(visible=True)] if many else on_compute(asked)

    quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "ask", "show_progress": "hidden"}
    answered = [*shown, *controls, shapley, compute]
    for event in (
        upload.upload(on_upload, upload, answered, **quiet),
        examples.pick(on_example, None, answered, **quiet),
    ):
        event.success(after_answer, question, [shapley, compute], **quiet)
    # controls whose value says everything skip what was overtaken; clicks and strokes each count
    parts.input(on_parts, [question, parts], shown, trigger_mode="always_last", **quiet)
    threshold.input(on_threshold, [question, threshold], [*shown, threshold], trigger_mode="always_last", **quiet)
    pictures.pick(on_pick, question, [*shown, *controls], trigger_mode="multiple", **quiet)
    pictures.paint(on_paint, question, shown, trigger_mode="multiple", **quiet)
    reset.click(on_reset, question, [*shown, *controls], **quiet)
    compute.click(on_compute, question, [shapley, compute], **quiet)
