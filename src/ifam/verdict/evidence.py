"""What answers rest on: the share of the image, the object, and what the background alone would tell."""

from ifam.background import Background
from ifam.evaluate import Evaluation
from ifam.verdict.accuracy import known_groups
from ifam.verdict.statement import ALARM, NOT_MEASURED, Kind, Statement, images, percent

NEARLY_ALL, HALF = 0.9, 0.5


def evidence(evaluation: Evaluation) -> Statement | None:
    """How much of the image a faithful model sees; None of a model without masks."""
    kept, empty = evaluation.mean_kept, evaluation.no_evidence or 0
    if kept is None:
        return None
    text = f"A prediction rests on {percent(kept)} of the image on average"

    def said(end: str, kind: Kind, step: str) -> Statement:
        return Statement(heading="Evidence", text=f"{text}{end}.", kind=kind, next_step=step)

    if empty:
        return said(
            f". In {images(empty)} nothing was selected: stage 1 misses the object there, and those answers have no "
            "evidence behind them",
            "bad" if empty > HALF * evaluation.num_samples else "caution",
            "abstain there (ifam predict RUN IMAGES --min-kept 0.02), and train stage 1 longer (--epochs)",
        )
    if kept > NEARLY_ALL:
        return said(
            ": a mask that holds nearly everything says nothing about the reasons",
            "caution",
            "train stage 1 longer (--epochs), with one part (--num-parts 1): docs/training.md",
        )
    return said("", "good", "ifam predict RUN IMAGES --overlays DIR shows which")


def on_object(evaluation: Evaluation, is_faithful: bool) -> Statement | None:
    """How the mask fits the annotated object; None without annotated masks, or where nothing is selected."""
    precise, complete = evaluation.seen_on_object, evaluation.object_seen
    if precise is None or complete is None:
        return None
    selected = "what the model saw" if is_faithful else "what was selected"
    text = f"{100 * precise:.0f} % of {selected} lies on the object, and {100 * complete:.0f} % of the object was "
    text += f"{'seen' if is_faithful else 'selected'} (annotated masks)"

    def said(end: str, kind: Kind, step: str) -> Statement:
        return Statement(heading="On the object", text=f"{text}{end}.", kind=kind, next_step=step)

    if precise < HALF:
        step = "see which part holds the background (ifam report RUN DATA) and leave it out: docs/interventions.md"
        return said(": most of it is background, by which it can still answer", "caution", step)
    if complete < HALF:
        return said(": it answers by a piece of the object", "caution", "see which piece: ifam report RUN DATA")
    return said("", "good", "ifam report RUN DATA shows where")


def background_alone(background: Background, evaluation: Evaluation) -> Statement:
    """The alarm: whether one could be right without having seen the object. Alone in warning where no groups are."""
    heading, probe = ALARM, background.probe
    groups = "docs/data.md#groups"
    if probe is None:
        text = f"{NOT_MEASURED}: {background.reason}."
        return Statement(heading=heading, text=text, kind="caution", next_step=f"name groups instead: {groups}")
    found = (
        f"{percent(probe.balanced_accuracy)} of {images(probe.num_images, background.split)} "
        f"({100 * probe.low:.1f}–{100 * probe.high:.1f} %; guessing {percent(probe.chance)})"
    )
    if not probe.is_above_chance:
        text = f"The background alone does not tell the class: {found}. That is no proof that nothing beside it does."
        return Statement(heading=heading, text=text, kind="good", next_step="docs/report.md says what this means")
    means = (
        "a model can be right on such images without knowing the object"
        if probe.is_strong
        else "a part of the accuracy may come from there"
    )
    return Statement(
        heading=heading,
        text=f"The background alone tells the class in {found}: {means}, unless the background is honest evidence, as "
        "a habitat can be.",
        kind="bad" if probe.is_strong and not known_groups(evaluation) else "caution",
        next_step="look whether the masks hold the object (ifam report RUN DATA), and collect images of each class "
        f"before the backgrounds of the others, with the background as their group: {groups}",
    )
