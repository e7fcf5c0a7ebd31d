"""The verdict in plain words."""

from dataclasses import replace

from ifam.interventions import Intervention
from ifam.report.content import Report
from ifam.report.tables import interval, percent
from ifam.verdict import Statement, judge
from ifam.verdict.statement import CLOSE, Kind, images
from ifam.verify import Certificate


def verdict(report: Report) -> list[Statement]:
    """What the evaluation says, then guarantee, leakage, and what is odd about the parts."""
    found = judge(
        replace(report.evaluation, split="") if report.data.split == "all" else report.evaluation,
        training_group_sizes=report.data.trained_on,
        is_faithful=report.model.is_faithful,
        background=report.background,
    )
    found = [replace(one, next_step=one.next_step.replace("ifam report RUN DATA", "below")) for one in found]
    parts = _parts(report)
    return [*found, guarantee(report), *_beyond(report), *([] if parts is None else [parts])]


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
    region = found.setting.region
    checked = f"on the {images(found.num_images)} that were checked"
    if found.holds:
        text = f"Holds {checked}: replacing every pixel outside {region} changed no bit of any prediction."
        return Statement(heading=heading, text=text, kind="good")
    if any(changes.bits for changes in found.outside.values()):
        text = f"Does not hold {checked}: pixels outside {region} changed predictions."
        return Statement(heading=heading, text=text, kind="bad")
    return Statement(
        heading=heading,
        text=f"Cannot be told {checked}: pixels inside {region} changed nothing either.",
        kind="caution",
    )


def _beyond(report: Report) -> list[Statement]:
    """What the guarantee does not cover."""
    found = report.certificate
    if found is None:
        return []
    kind: Kind = "good" if found.answers_moved <= CLOSE and not found.is_one_answer else "caution"
    text = f"{other_backgrounds(found)} No guarantee covers this."
    if found.background_decides:
        text, kind = f"{text} The background decides the answer, by way of the mask: do not trust this model.", "bad"
    return [
        Statement(heading="Other backgrounds", text=text, kind=kind),
        mask_alone(found),
        leakage(found),
    ]


def other_backgrounds(found: Certificate) -> str:
    """How far the mask and the answers move when the background is another one."""
    return (
        f"Before the backgrounds of {found.setting.rounds} other photographs, of another answer where there is one, "
        f"the mask keeps {percent(found.mask_iou)} of itself (IoU, mean), {percent(found.answers_moved)} "
        f"({interval(found.answers_moved_interval)}) of the answers change, and {percent(found.answers_followed)} "
        "become the answer of the other photograph."
    )


def mask_alone(found: Certificate) -> Statement:
    """What the mask decides when nothing of the object is left in it."""
    heading = "Mask alone"
    if found.most_decided is None:
        return Statement(heading=heading, text="Not measured: no image has anything selected.", kind="caution")
    what, most = found.most_decided
    text = (
        f"With every pixel inside the mask replaced by {what}, {percent(most.stays.estimate)} "
        f"({interval(most.stays)}) of the answers stay; by chance {percent(most.chance)} would."
    )
    if found.mask_decides:
        text += " The mask decides the answer, not what lies in it: do not trust this model's map."
        return Statement(heading=heading, text=text, kind="bad")
    if found.is_one_answer:
        text += " Every answer is the same, so that says nothing."
        return Statement(heading=heading, text=text, kind="caution")
    return Statement(heading=heading, text=f"{text} What lies in the mask decides.", kind="good")


def leakage(found: Certificate) -> Statement:
    """What the shape of the mask alone tells."""
    leak, heading = found.leakage, "Leakage"
    if leak is None:
        return Statement(heading=heading, text="Not measured: too few images of two answers.", kind="caution")
    text = (
        f"From the masks alone a linear classifier tells {percent(leak.linear.estimate)} ({interval(leak.linear)}) of "
        f"the answers, a non-linear one {percent(leak.nonlinear.estimate)} ({interval(leak.nonlinear)}); chance is "
        f"{percent(leak.chance)} ({images(leak.num_images)}): "
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
    step = "look at the parts in section 4; docs/training.md, how many parts"
    return Statement(heading="Parts", text=text, kind="caution", next_step=step)
