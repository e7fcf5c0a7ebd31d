"""What the page shows of an answer and of a run: plain values, and the HTML made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ifam.app import pictures
from ifam.app.question import Question
from ifam.explanations.part_gallery import PartGallery, part_alone
from ifam.explanations.shapley import ShapleyValues

if TYPE_CHECKING:
    from jinja2 import Environment

    from ifam.app.run_folder import RunSummary
    from ifam.evaluate import Evaluation

TOP_CLASSES = 5
NOT_A_LIMIT = "This model reads more than its mask: the map shows where it looks, it is not a limit."
NO_EVIDENCE = "No evidence: nothing is left of the image. What stage 2 says of nothing is no prediction."


@dataclass(frozen=True, kw_only=True)
class ClassBar:
    """The probability of a class now, and with nothing switched off."""

    name: str
    now: float
    before: float
    is_answer: bool


@dataclass(frozen=True, kw_only=True)
class PartBar:
    """What a part adds to the score of a class, and half the width of its bar in 0–1."""

    part: int
    value: float
    error: float
    length: float


def class_bars(question: Question, names: Sequence[str]) -> list[ClassBar]:
    """The most probable classes of the whole image, in an order that does not change, and the answer of now."""
    before, now = question.whole.probabilities, question.answer.probabilities
    shown = list(np.argsort(-before, kind="stable")[:TOP_CLASSES])
    if question.answer.index not in shown:
        shown.append(question.answer.index)
    return [
        ClassBar(name=names[i], now=float(now[i]), before=float(before[i]), is_answer=i == question.answer.index)
        for i in shown
    ]


def part_bars(values: ShapleyValues, index: int) -> list[PartBar]:
    """The Shapley value of every part for the class ``index``."""
    column = values.values[:, index]
    longest = max(float(np.abs(column).max()), 1e-12)
    return [
        PartBar(part=part, value=value, error=float(values.standard_error[part, index]), length=abs(value) / longest)
        for part, value in enumerate(column.tolist())
    ]


def part_labels(question: Question | None, num_parts: int) -> list[str]:
    """A name for every part, with its share of the photograph."""
    if question is None:
        return [f"part {part}" for part in range(num_parts)]
    return [f"part {part}: {np.mean(question.whole.parts == part):.0%}" for part in range(num_parts)]


def quantile_label(quantile: float | None) -> str:
    """What a level of the slider does."""
    if quantile is None:
        return "Token threshold: off"
    return f"Token threshold: q = {quantile:g}, patches less typical of their part are dropped"


def kept_line(question: Question) -> str:
    """How much of the image the answer rests on, in words."""
    answer = question.answer
    if not answer.is_faithful:
        return f"{answer.kept:.1%} of the image selected. {NOT_A_LIMIT}"
    if not answer.has_evidence:
        return NO_EVIDENCE
    return f"Rests on {answer.kept:.1%} of the image, and on nothing else in it."


def answer_html(question: Question) -> str:
    """Label, probability, and what they rest on."""
    return _render("answer.html", question=question, answer=question.answer, kept=kept_line(question))


def pictures_html(question: Question) -> str:
    """Photograph, parts and what stage 2 saw."""
    return _render(
        "pictures.html",
        question=question,
        answer=question.answer,
        photograph=pictures.data_uri(pictures.photograph_picture(question)),
        parts=pictures.data_uri(pictures.parts_picture(question)),
        seen=pictures.data_uri(pictures.seen_picture(question)),
        labels=part_labels(question, question.num_parts),
    )


def classes_html(question: Question, names: Sequence[str]) -> str:
    """The probabilities as bars."""
    return _render("classes.html", bars=class_bars(question, names))


def shapley_html(question: Question, values: ShapleyValues) -> str:
    """What each part adds, as bars from the middle."""
    index = question.whole.index
    return _render(
        "shapley.html",
        bars=part_bars(values, index),
        label=question.whole.label,
        total=float(values.everything[index] - values.nothing[index]),
        is_exact=values.is_exact,
    )


def heading_html(name: str, title: str, classes: str) -> str:
    """Whose page it is."""
    return _render("heading.html", run=name, title=title, classes=classes)


def note_html(text: str) -> str:
    """One plain line."""
    return _render("note.html", text=text)


def examples_html(thumbnails: Mapping[str, pictures.Pixels]) -> str:
    """Pictures to choose from, by name."""
    uris = {name: pictures.data_uri(picture) for name, picture in thumbnails.items()}
    return _render("examples.html", thumbnails=uris) if uris else ""


def run_html(summary: "RunSummary") -> str:
    """What the folder of a run remembers."""
    return _render("run.html", run=summary)


def groups_html(result: "Evaluation", training_group_sizes: Mapping[str, int]) -> str:
    """Accuracy by group."""
    return _render("groups.html", result=result, training=training_group_sizes)


def gallery_html(gallery: PartGallery) -> str:
    """Every part with the images that have most of it."""
    count = len(gallery.mean_shares)
    rows = [
        [(each, pictures.data_uri(part_alone(each, part, count))) for each in gallery.examples[part]]
        for part in range(count)
    ]
    return _render("gallery.html", rows=rows, gallery=gallery)


def _render(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ifam.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{share:.{digits}%}"
    environment.filters["signed"] = lambda value: f"{value:+.2f}".replace("-", "−")
    environment.globals["swatch"] = pictures.swatch
    return environment
