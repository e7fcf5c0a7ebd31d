"""The tab "Ask": one photograph, its parts, and what changes when some of it is switched off.

This module and its neighbours `page` and `run_tab` are the page in gradio, which they import; whoever needs no page
does not import them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from html import escape
from inspect import isgeneratorfunction
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import gradio as gr

from ifam.app import view
from ifam.app.photographs import Readers, ask_image, example_samples, thumbnails
from ifam.app.question import Question, quantile_levels
from ifam.app.uploads import Uploads
from ifam.data.table import ImageTable
from ifam.errors import IfamError, UsageError
from ifam.model.two_stage import IFAM

SHAPLEY_UP_TO = 6
"""parts whose Shapley values are shown unasked: 64 answers of stage 2"""
SESSION_SECONDS = 3600
"""after which a photograph that nobody asks about is forgotten"""
SCRIPT = Path(__file__).with_name("page.js")
SESSIONS_READING = 16
"""that wait for a photograph to be read, while clicks in other sessions go on"""
START = "Drop a photograph, or choose one, to see what the answer rests on."
READING = "Reading the photograph …"
NO_THRESHOLDS = "No thresholds are stored with this model: run ifam calibrate first."
NO_SHAPLEY = "What each part adds is known only where the answer rests on the mask alone."


Given = TypeVar("Given")
html = partial(gr.HTML, apply_default_css=False)
"""a component of gradio without the styles that it has for running text"""


def one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong as one plain line in the page, without a traceback there or on the screen."""

    @wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        with _said_plainly():
            return function(*arguments, **options)

    @wraps(function)
    def guarded_steps(*arguments: Any, **options: Any) -> Iterator[Any]:
        with _said_plainly():
            yield from function(*arguments, **options)

    return guarded_steps if isgeneratorfunction(function) else guarded


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = str(error) if isinstance(error, IfamError) else f"{type(error).__name__}: {error}"
        # the page shows a message as HTML
        raise gr.Error(escape(" ".join(message.split())), print_exception=False, title="That did not work") from None


class AskTab:
    """Its components, and what happens when they are used; made inside the block ``page`` of gradio."""

    def __init__(self, model: IFAM, table: ImageTable | None, uploads: Uploads, page: Any) -> None:
        self.model, self.levels = model, quantile_levels(model)
        self.uploads, self.page, self.readers, self.asking = uploads, page, Readers(), Lock()
        self.samples = example_samples(table) if table else []
        self.question = gr.State(None, time_to_live=SESSION_SECONDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=240):
                self._add_controls()
            with gr.Column(scale=7, min_width=280):
                self._add_answer()
        self._connect()

    def _add_controls(self) -> None:
        self.upload = gr.File(label="Photograph", file_types=["image", ".dcm"], height=140)
        pictures = view.examples_html(thumbnails(self.samples))
        self.examples = html(pictures, js_on_load=_script(), visible=bool(self.samples))
        choices = self._choices(None)
        self.parts = gr.CheckboxGroup(choices, value=list(range(self.model.num_parts)), label="Parts", elem_id="parts")
        calibrated = len(self.levels) > 1
        self.threshold = gr.Slider(
            0,
            max(len(self.levels) - 1, 1),
            value=0,
            step=1,
            label=view.quantile_label(None),
            info=None if calibrated else NO_THRESHOLDS,
            interactive=calibrated,
            elem_id="threshold",
            buttons=[],
        )
        self.reset = gr.Button("As the model chose", size="sm")

    def _add_answer(self) -> None:
        self.answer = html(view.note_html(START))
        self.pictures = html(js_on_load=_script())
        with gr.Row():
            with gr.Column(min_width=280):
                self.classes = html()
            with gr.Column(min_width=280):
                self.shapley = html()
                self.compute = gr.Button("What does each part add?", size="sm", visible=False)

    def _connect(self) -> None:
        # one at a time, so that clicks that come fast build on each other
        quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "ask", "show_progress": "hidden"}
        shown = [self.question, self.answer, self.pictures, self.classes]
        controls, added = [self.parts, self.threshold], [self.shapley, self.compute]
        reading: dict[str, Any] = quiet | {"concurrency_id": "read", "concurrency_limit": SESSIONS_READING}
        for event in (
            # as it comes, without the empty file that gradio would leave beside each
            self.upload.upload(self.on_upload, self.upload, [*shown, *controls, *added], preprocess=False, **reading),
            self.examples.pick(self.on_example, None, [*shown, *controls, *added, self.upload], **reading),
        ):
            event.success(self.after_answer, self.question, added, **quiet)
            # or the answer to the photograph before would stand beside the name of this one
            event.failure(self.on_refused, None, [*shown, *controls, *added, self.upload], **quiet)
        # a control whose value says all skips what was overtaken, and is not set back; clicks and strokes all count
        latest, each = quiet | {"trigger_mode": "always_last"}, quiet | {"trigger_mode": "multiple"}
        self.parts.input(self.on_parts, [self.question, self.parts], shown, **latest)
        self.threshold.input(self.on_threshold, [self.question, self.threshold], [*shown, self.threshold], **latest)
        self.pictures.pick(self.on_pick, self.question, [*shown, *controls], **each)
        self.pictures.paint(self.on_paint, self.question, shown, **each)
        self.reset.click(self.on_reset, self.question, [*shown, *controls], **quiet)
        self.compute.click(self.on_compute, self.question, added, **quiet)

    @one_line
    def on_upload(self, file: dict[str, Any] | None) -> Iterator[list[Any]]:
        """A file was dropped or chosen; nothing that was uploaded is kept."""
        with self.uploads.taken(Path(_given(file)["path"])) as path:
            yield self._empty(READING)  # so that no click meanwhile asks about the photograph before
            asked = self._ask(path)
        yield self._first(asked)

    @one_line
    def on_example(self, event: gr.EventData) -> Iterator[list[Any]]:
        """An example was chosen; the name of a file that was dropped before goes."""
        index = int(event.index)
        if index not in range(len(self.samples)):
            raise UsageError(f"example: expected 0 to {len(self.samples) - 1}, got {index}")
        yield [*self._empty(READING), None]
        yield [*self._first(self._ask(self.samples[index].path)), None]

    def on_refused(self) -> list[Any]:
        """A photograph that could not be asked about: none is there."""
        return [*self._empty(START), None]

    @one_line
    def on_parts(self, asked: Question | None, chosen: list[int]) -> list[Any]:
        """A part's box was changed."""
        return self._show(_given(asked).with_parts([int(part) for part in chosen]))

    @one_line
    def on_threshold(self, asked: Question | None, level: int) -> list[Any]:
        """The slider was moved."""
        quantile = self.levels[int(level)]
        return [*self._show(_given(asked).with_quantile(quantile)), gr.Slider(label=view.quantile_label(quantile))]

    @one_line
    def on_pick(self, asked: Question | None, event: gr.EventData) -> list[Any]:
        """A token was clicked in the picture of the parts."""
        row, column = event.cell
        return self._show_all(_given(asked).toggled_at((int(row), int(column))))

    @one_line
    def on_paint(self, asked: Question | None, event: gr.EventData) -> list[Any]:
        """A stroke was drawn over what stage 2 saw."""
        return self._show(_given(asked).with_stroke([(int(row), int(column)) for row, column in event.cells]))

    @one_line
    def on_reset(self, asked: Question | None) -> list[Any]:
        """Everything on again."""
        return self._show_all(_given(asked).plain())

    @one_line
    def after_answer(self, asked: Question | None) -> list[Any]:
        """What each part adds, or a button for it where that takes long."""
        many = self.model.num_parts > SHAPLEY_UP_TO and self.model.is_faithful
        return ["", gr.Button(visible=True)] if many else self._added(_given(asked))

    @one_line
    def on_compute(self, asked: Question | None) -> list[Any]:
        """The button was pressed."""
        return self._added(_given(asked))

    def _ask(self, path: Path) -> Question:
        """The question about a file: read beside others, asked one at a time."""
        image = self.readers.read(path, goes_on=lambda: self.page.is_running)
        with self.asking:
            return ask_image(self.model, image)

    def _empty(self, note: str) -> list[Any]:
        """What `_first` shows, without a photograph."""
        parts = gr.CheckboxGroup(self._choices(None), value=list(range(self.model.num_parts)))
        threshold = gr.Slider(value=0, label=view.quantile_label(None))
        return [None, view.note_html(note), "", "", parts, threshold, "", gr.Button(visible=False)]

    def _show(self, asked: Question) -> list[Any]:
        """Question, answer, pictures and classes."""
        names = self.model.class_names
        return [asked, view.answer_html(asked), view.pictures_html(asked), view.classes_html(asked, names)]

    def _show_all(self, asked: Question) -> list[Any]:
        """The same, and the controls as they then stand."""
        parts = gr.CheckboxGroup(self._choices(asked), value=asked.on)
        level = self.levels.index(asked.quantile)
        return [*self._show(asked), parts, gr.Slider(value=level, label=view.quantile_label(asked.quantile))]

    def _choices(self, asked: Question | None) -> list[tuple[str, int]]:
        """The parts by their labels."""
        count = self.model.num_parts
        return list(zip(view.part_labels(asked, count), range(count), strict=True))

    def _first(self, asked: Question) -> list[Any]:
        """The same for a new photograph: what its parts add is not known yet."""
        return [*self._show_all(asked), "", gr.Button(visible=False)]

    def _added(self, asked: Question) -> list[Any]:
        bars = view.shapley_html(asked, asked.whole.shapley()) if self.model.is_faithful else view.note_html(NO_SHAPLEY)
        return [bars, gr.Button(visible=False)]


def _given(asked: Given | None) -> Given:
    if asked is None:
        raise UsageError("expected a photograph first, got none; drop or choose one")
    return asked


def _script() -> str:
    return SCRIPT.read_text(encoding="utf-8")
