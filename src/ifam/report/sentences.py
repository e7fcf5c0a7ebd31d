"""The verdict in plain words."""

from dataclasses import dataclass

from ifam.console import FEW
from ifam.interventions import Intervention
from ifam.report.content import Report
from ifam.report.tables import images, interval, percent
from ifam.verify import Certificate


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One point of the verdict; ``kind`` is good, caution or bad, and said in words as well."""

    heading: str
    text: str
    kind: str


def verdict(report: Report) -> list[Statement]:
    """Accuracy, evidence, guarantee, leakage, and what is odd about the parts."""
    found = [_accuracy(report), _evidence(report), guarantee(report), *_beyond(report), _parts(report)]
    return [statement for statement in found if statement is not None]


CLOSE = 0.05
"""worst group within these points of the average"""


def _accuracy(report: Report) -> Statement:
    evaluation = report.evaluation
    text = (
        f"On {images(evaluation.num_samples, _split(report))} the model is right in {percent(evaluation.accuracy)} "
        f"(95\u00a0% interval {interval(evaluation.accuracy_interval)})."
    )
    if not report.groups:
        return Statement(
            heading="Accuracy",
            text=f"{text} The data names no groups: whether a kind of image fares worse was not measured.",
            kind="caution",
        )
    worst = report.groups[0]
    gap = evaluation.accuracy - (worst.accuracy.estimate or 0)
    text += (
        f" In its worst group, {worst.name}, it is right in {percent(worst.accuracy.estimate)} of "
        f"{images(worst.count)} ({interval(worst.accuracy)}): {100 * gap:.1f} points below all images."
    )
    kind = "good" if gap <= CLOSE else "caution"
    guessing = 1 / report.model.num_classes
    if worst.count < FEW:
        text += " So few images say little."
    elif worst.accuracy.high is not None and worst.accuracy.high <= guessing:
        text, kind = f"{text} That is no better than guessing.", "bad"
    elif (worst.accuracy.estimate or 0) <= guessing:
        text, kind = f"{text} That may be no better than guessing.", "bad"
    return Statement(heading="Accuracy", text=text, kind=kind)


def _split(report: Report) -> str:
    return "" if report.data.split == "all" else report.data.split


def _evidence(report: Report) -> Statement | None:
    if not report.model.is_faithful:
        return None
    evaluation = report.evaluation
    text = f"A prediction rests on {percent(evaluation.mean_kept)} of the image on average."
    empty = evaluation.no_evidence or 0
    if empty:
        text += f" In {images(empty)} nothing was selected: those answers have no evidence behind them."
    return Statement(heading="Evidence", text=text, kind="caution" if empty else "good")


def guarantee(report: Report) -> Statement:
    """Whether the guarantee was found to hold."""
    heading = "Guarantee"
    if not report.model.is_faithful:
        why = "weighs all tokens (soft masks)" if report.model.has_second_stage else "has no second stage"
        return Statement(
            heading=heading,
            text=f"None. This model {why}: its predictions can rest on any pixel, inside the mask or not. "
            "Its maps are illustrations, not limits.",
            kind="bad",
        )
    found = report.certificate
    if found is None:
        return Statement(heading=heading, text=f"Not checked: {report.reasons['certificate']}.", kind="caution")
    checked = f"on the {images(found.num_images)} that were checked"
    if found.holds:
        text = f"Holds {checked}: replacing every pixel outside the mask changed no bit of any prediction."
        return Statement(heading=heading, text=text, kind="good")
    if any(changes.bits for changes in found.outside.values()):
        text = f"Does not hold {checked}: pixels outside the mask changed predictions."
        return Statement(heading=heading, text=text, kind="bad")
    return Statement(
        heading=heading,
        text=f"Cannot be told {checked}: pixels inside the mask changed nothing either.",
        kind="caution",
    )


def _beyond(report: Report) -> list[Statement]:
    """What the guarantee does not cover."""
    found = report.certificate
    if found is None:
        return []
    moved = (
        f"With the background of another photograph the mask keeps {percent(found.mask_iou)} of itself (IoU, mean), "
        f"and {percent(found.answers_moved)} of the answers change. No guarantee covers this."
    )
    return [
        Statement(heading="Other backgrounds", text=moved, kind="good" if found.answers_moved <= CLOSE else "caution"),
        leakage(found),
    ]


def leakage(found: Certificate) -> Statement:
    """What the shape of the mask alone tells."""
    leak, heading = found.leakage, "Leakage"
    if leak is None:
        return Statement(heading=heading, text="Not measured: too few images of two answers.", kind="caution")
    text = (
        f"From the shapes of the masks alone {percent(leak.balanced_accuracy)} of the answers can be told "
        f"({100 * leak.low:.1f}–{100 * leak.high:.1f} %; chance {percent(leak.chance)}; {images(leak.num_images)}): "
    )
    if leak.is_suspicious:
        return Statement(
            heading=heading, text=text + "suspicious, the mask may say the answer by its shape.", kind="bad"
        )
    return Statement(heading=heading, text=text + "no sign of a code.", kind="good")


def _parts(report: Report) -> Statement | None:
    flagged = [f"part {one.part}: {flag}" for one in report.parts for flag in one.flags]
    study = report.study
    text = f"P{'; '.join(flagged)[1:]}." if flagged else "None is dead, rare or double."
    if study is not None and study.chosen != Intervention():
        text += (
            f" On the validation split the model surely did better {study.chosen}; section 6 says what that does here."
        )
    elif not flagged:
        return None
    return Statement(heading="Parts", text=text, kind="caution")
