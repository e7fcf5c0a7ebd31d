"""Sections of the page that are words and tables."""

import textwrap
from typing import Any

from ifam.console import CRITERION_NAMES
from ifam.interventions import CONFIDENCE, Intervention
from ifam.report import tables
from ifam.report.charts import accuracy_figure
from ifam.report.content import Report
from ifam.report.pictures import chart
from ifam.report.samples import CERTIFICATE_IMAGES
from ifam.report.sentences import leakage, mask_alone, other_backgrounds
from ifam.report.tables import Table, percent, whole
from ifam.verdict.statement import FEW, images

MOST_UNREADABLE = 20


def data(report: Report) -> dict[str, Any]:
    """Counts of classes and groups, and what could not be read."""
    facts = report.data
    where = "all images; the data has no splits" if facts.split == "all" else f"the {facts.split} split"
    paragraphs = [
        f"{facts.name} ({facts.layout}). Reported on: {where}. Annotations: "
        f"{' and '.join(facts.annotations) or 'neither masks nor keypoints'}."
    ]
    if facts.account:
        paragraphs.append(f"Of the files: {facts.account.line()}.")
    found = [tables.counts("Classes", facts.classes)]
    if facts.groups:
        found.append(tables.counts("Groups", facts.groups, facts.trained_on))
    else:
        paragraphs.append(
            "The data names no groups. A classifier that reads the background can look good here: group labels, for "
            "a few hundred images at least, would show it."
        )
    unreadable = [*facts.unreadable[:MOST_UNREADABLE]]
    if len(facts.unreadable) > MOST_UNREADABLE:
        unreadable.append(f"and {len(facts.unreadable) - MOST_UNREADABLE} more")
    return {"paragraphs": paragraphs, "tables": found, "unreadable": unreadable}


def metrics(report: Report) -> dict[str, Any]:
    """Every measure with its interval; accuracy by group and class."""
    evaluation, shown = report.evaluation, report.groups or report.classes
    what = "group" if report.groups else "class"
    rows = ", ".join(f"{one.name} {percent(one.accuracy.estimate)}" for one in shown[:8])
    notes = [
        "Intervals are of 1,000 resamples of these images; where all of them are right, or all wrong, by the limits "
        "of Clopper and Pearson. They say what another sample of the same kind would give, not what another training "
        "run or another place would."
    ]
    if report.groups:
        notes.append(
            "That of the worst group's accuracy lets another group be the worst in each resample; that of a group by "
            "itself does not, and so lies higher."
        )
    pair = evaluation.worst_group_auc_between
    if pair is not None:
        notes.append(
            f"Worst-group AUC: {images(pair.num_positives)} of class 1 in {pair.positives} against "
            f"{pair.num_negatives:,} of class 0 in {pair.negatives}."
        )
    if "keypoints" in report.data.annotations and evaluation.keypoint_error is None:
        notes.append("The keypoint error was not asked for (--keypoint-error): it is fitted on the training split.")
    few = [f"{one.name} ({one.count})" for one in shown if one.count < FEW]
    if few:
        notes.append(f"An interval over fewer than {FEW} images says little: {', '.join(few[:10])}.")
    found = [tables.metrics(report)]
    if report.groups:
        found.append(tables.slices("By group, worst first", report.groups))
    found.append(tables.slices("By class, worst first", report.classes))
    return {
        "chart": chart(
            accuracy_figure(shown, evaluation.accuracy),
            alt=f"accuracy by {what}, worst first, with 95\u00a0% intervals: {rows}",
            caption=f"Accuracy by {what}, with the number of images and the 95\u00a0% interval",
        ),
        "tables": found,
        "paragraphs": notes,
    }


def interventions(report: Report) -> dict[str, Any]:
    """What was tried on the validation split, and what the choice does here."""
    study = report.study
    if study is None:
        return {"paragraphs": [f"Not measured: {report.reasons['study']}."], "tables": []}
    tried = study.trials[0].num_samples
    sample = "" if tried == report.validation_images else f" of {report.validation_images:,}"
    several = any(trial.intervention.remove_parts for trial in study.trials)
    what = ("each part alone, tokens far from the prototype of their part, and both" if several
            else "tokens far from the prototype of their part")  # fmt: skip
    by = CRITERION_NAMES[study.chosen_by]
    paragraphs = [
        f"Switched off were {what}, on {images(tried, 'validation')}{sample}. Far means beyond a quantile q of the "
        f"distances in training. One is chosen by {by}, only where it beats none in {whole(CONFIDENCE)} of the "
        "resamples of these images; only the chosen one is tried on the images reported on.",
    ]
    if study.chosen == Intervention():
        paragraphs.append("None detectably beats switching nothing off, so none is chosen.")
    if study.trials[0].worst_group_accuracy is None:
        paragraphs.append(f"No groups are known: chosen by {by}, which a shortcut can raise as well.")
    return {"paragraphs": paragraphs, "tables": [tables.trials(study), tables.effect(study, report.data.split)]}


def verification(report: Report) -> dict[str, Any]:
    """The certificate, and what it leaves open."""
    found = report.certificate
    if found is None:
        return {"paragraphs": [f"Not measured: {report.reasons['certificate']}."], "tables": []}
    drawn = (
        "" if found.num_images == report.evaluation.num_samples else f", drawn from {report.evaluation.num_samples:,}"
    )
    return {
        "paragraphs": [
            f"On {images(found.num_images)}{drawn}. The mask of each image is held while the pixels outside it are "
            "replaced: for a faithful model no bit of the logits may change. The control replaces the pixels "
            "inside, which has to change nearly every image.",
            f"Other backgrounds: {other_backgrounds(found)}",
            "Mask alone: the mask is held while every pixel inside it is replaced, so that nothing of the object is "
            f"left. {mask_alone(found).text}",
            f"Leakage: classifiers that see nothing but the masks, cross-validated. {leakage(found).text} "
            "Shapes that differ by nature between classes count too, and another classifier may read more: the numbers "
            "are lower bounds of what the masks tell.",
            f"ifam verify finds the same numbers with --split and --sample {CERTIFICATE_IMAGES}.",
        ],
        "tables": [tables.certificate(found), tables.mask_alone(found)],
    }


def origin(report: Report) -> dict[str, Any]:
    """The model, versions, hashes and settings."""
    facts = report.model
    height, width = facts.image_size
    rows = [
        ["backbone", facts.backbone],
        ["second stage", "yes" if facts.has_second_stage else "no: stage 1 alone"],
        ["prediction rests on the mask only", "yes" if facts.is_faithful else "no"],
        ["parts (K)", str(facts.num_parts)],
        ["classes", str(facts.num_classes)],
        ["image size", f"{width} × {height} pixels, {facts.grid[1]} × {facts.grid[0]} patches"],
    ]
    configuration = report.origin.configuration
    return {
        "model": Table(caption="Model", columns=[], rows=rows),
        "table": tables.origin(report.origin),
        "configuration": None if configuration is None else textwrap.dedent(configuration).strip(),
    }
