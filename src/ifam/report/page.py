"""A report as the page: sentences, tables and pictures in their order."""

import textwrap
from collections.abc import Sequence
from typing import Any

from ifam import __version__
from ifam.console import CRITERION_NAMES, FEW
from ifam.explanations.figures import part_style
from ifam.explanations.shapley import EXACT_UP_TO, PERMUTATIONS
from ifam.interventions import CONFIDENCE, Intervention
from ifam.report import tables
from ifam.report.charts import accuracy_figure, mean_figure, shapley_panels
from ifam.report.content import Mistake, Report
from ifam.report.parts import DOUBLE, RARE
from ifam.report.pictures import chart, example, mistake
from ifam.report.sentences import CLOSE, leakage, verdict
from ifam.report.tables import Table, images, percent, whole

MARKS = {"good": "✓", "caution": "!", "bad": "✗"}
MOST_UNREADABLE = 20
LEGEND = (
    f"✓ nothing to object; ! look closer: no groups known, the worst group more than {100 * CLOSE:.0f} points "
    "below the "
    f"average, more than {whole(CLOSE)} of the answers moved, an empty mask, or something not measured; "
    "✗ the guarantee fails, or the mask is suspicious."
)
COVERED = (
    "Covered: given the mask, the prediction is a function of the selected patches and their positions only. "
    "Changing any "
    "other pixel, to noise or to infinity, changes no bit of it. The map is the reason, not a guess made afterwards.",
    "Not covered: the mask itself is computed from the whole image. A change outside the mask can therefore move the "
    "mask, and a mask can carry information by its shape. Both are measured in section 8. Nor does it say that the "
    "selected patches are the right ones: the pictures below show which they are.",
)
NOT_COVERED = (
    "Nothing is covered. With soft masks, or with stage 1 alone, what lies outside the mask has already been read when "
    "the prediction is made. The maps below show where the model found its parts, not what its answer rests on.",
)


def page(report: Report) -> dict[str, Any]:
    """What the template shows."""
    return {
        "version": __version__,
        "title": f"Report on {report.origin.run}",
        "subtitle": f"On {images(report.evaluation.num_samples)} of {report.data.root}; ifam {__version__}, "
        f"{report.origin.written}",
        "marks": MARKS,
        "legend": LEGEND,
        "verdict": verdict(report),
        "guarantee": COVERED if report.model.is_faithful else NOT_COVERED,
        "data": _data(report),
        "metrics": _metrics(report),
        "parts": _parts(report),
        "mistakes": _mistakes(report),
        "interventions": _interventions(report),
        "shapley": _shapley(report),
        "verification": _verification(report),
        "origin": _origin(report),
    }


def _data(report: Report) -> dict[str, Any]:
    data = report.data
    where = "all images; the data has no splits" if data.split == "all" else f"the {data.split} split"
    paragraphs = [
        f"{data.root} ({data.layout}). Reported on: {where}. "
        f"Annotations: {' and '.join(data.annotations) or 'neither masks nor keypoints'}."
    ]
    found = [tables.counts("Classes", data.classes)]
    if data.groups:
        found.append(tables.counts("Groups", data.groups, data.trained_on))
    else:
        paragraphs.append(
            "The data names no groups. A classifier that reads the background can look good here: group labels, for a "
            "few hundred images at least, would show it."
        )
    unreadable = [*data.unreadable[:MOST_UNREADABLE]]
    if len(data.unreadable) > MOST_UNREADABLE:
        unreadable.append(f"and {len(data.unreadable) - MOST_UNREADABLE} more")
    return {"paragraphs": paragraphs, "tables": found, "unreadable": unreadable}


def _metrics(report: Report) -> dict[str, Any]:
    evaluation, shown = report.evaluation, report.groups or report.classes
    what = "group" if report.groups else "class"
    rows = ", ".join(f"{one.name} {percent(one.accuracy.estimate)}" for one in shown[:8])
    notes = [
        "Intervals are of 1,000 resamples of these images: they say what another sample of the same kind would "
        "give, not "
        "what another training run or another place would."
    ]
    pair = evaluation.worst_group_auc_between
    if pair is not None:
        notes.append(
            f"Worst-group AUC: {images(pair.num_positives)} of class 1 in {pair.positives} against "
            f"{pair.num_negatives:,} of class 0 in {pair.negatives}."
        )
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
            alt=f"accuracy by {what}, worst first, with 95 % intervals: {rows}",
            caption=f"Accuracy by {what}, with the number of images and the 95 % interval",
        ),
        "tables": found,
        "paragraphs": notes,
    }


def _parts(report: Report) -> dict[str, Any]:
    gallery, num_parts = report.gallery, report.model.num_parts
    paragraphs = [
        f"The images that have most of each part, of {images(gallery.num_images)}; the part is in colour, the "
        "rest of the "
        f"image grey. Area is a share of the {report.model.grid[0]} × {report.model.grid[1]} patches.",
        f"Flags: dead, in no image; rare, in less than {whole(RARE)} of them; double, where the prototypes of two "
        "parts, seen "
        f"from that of the background, point the same way (cosine of {DOUBLE} or more).",
    ]
    shown = []
    for facts, examples in zip(report.parts, gallery.examples, strict=True):
        flags = f"; {', '.join(facts.flags)}" if facts.flags else ""
        shown.append(
            {
                "color": part_style(facts.part)[0],
                "heading": f"Part {facts.part}: {percent(facts.overall.area)} of the image{flags}",
                "pictures": [example(one, facts.part, num_parts) for one in examples],
            }
        )
    by = (("Mean area by class (share of images that have it)", "by_class"),
          ("Mean area by group (share of images that have it)", "by_group"))  # fmt: skip
    areas = [tables.part_areas(caption, report.parts, of) for caption, of in by]
    return {
        "paragraphs": paragraphs,
        "table": tables.parts(report.parts),
        "gallery": shown,
        "tables": [one for one in areas if one is not None],
    }


def _mistakes(report: Report) -> dict[str, Any]:
    found = report.mistakes
    first = (
        f"{images(found.count)} of {report.evaluation.num_samples:,} answered wrongly; shown are the wrong "
        "answers that "
        "the model was most sure of" + (", then more of each group." if found.by_group else ".")
        if found.count
        else "No wrong answer."
    )
    return {
        "paragraphs": [first],
        "worst": [_one(report, one) for one in found.worst],
        "by_group": {name: [_one(report, one) for one in group] for name, group in found.by_group.items()},
    }


def _one(report: Report, found: Mistake) -> dict[str, Any]:
    seen = "seen by stage 2" if report.model.is_faithful else "selected, but not a limit"
    return {
        "name": found.name,
        "truth": found.truth,
        "answer": found.answer,
        "probability": percent(found.probability),
        "group": found.group,
        "pictures": mistake(found, report.model.num_parts, seen=seen),
    }


def _interventions(report: Report) -> dict[str, Any]:
    study = report.study
    if study is None:
        return {"paragraphs": [f"Not measured: {report.reasons['study']}."], "tables": []}
    tried = study.trials[0].num_samples
    sample = "" if tried == report.validation_images else f", a sample of {report.validation_images:,}"
    by = CRITERION_NAMES[study.chosen_by]
    paragraphs = [
        f"Each part was switched off{' alone' if report.model.num_parts > 1 else ', where there are several'}, "
        "and tokens "
        "far from the prototype of their part (beyond a quantile of the training distances), alone and together, on "
        f"{images(tried, 'validation')}{sample}. One is chosen by {by}, only where it beats none in "
        f"{whole(CONFIDENCE)} of "
        "the resamples of these images; only the chosen one is tried on the images reported on.",
    ]
    if study.chosen == Intervention():
        paragraphs.append("None surely beats switching nothing off, so none is chosen.")
    if study.trials[0].worst_group_accuracy is None:
        paragraphs.append(f"No groups are known: chosen by {by}, which a shortcut can raise as well.")
    return {"paragraphs": paragraphs, "tables": [tables.trials(study), tables.effect(study, report.data.split)]}


def _shapley(report: Report) -> dict[str, Any]:
    found = report.shapley
    if found is None:
        why = report.reasons.get("shapley", "there is no image")
        return {"paragraphs": [f"Not measured: {why}."], "chart": None, "tables": []}
    how = (
        "computed from all coalitions of parts, without approximation"
        if found.drawing_error == 0
        else f"of images with more than {EXACT_UP_TO} parts from {2 * PERMUTATIONS} orders of the parts each (largest "
        f"standard error of one value {found.drawing_error:.3f})"
    )
    panels = shapley_panels(found)
    said = "; ".join(
        f"{name}: " + ", ".join(f"part {part} {value:+.2f}" for part, value in enumerate(mean.values))
        for name, mean in panels
    )
    return {
        "paragraphs": [
            "What each part adds to the score of the true class: its logit minus the mean of all logits, shared "
            "out over "
            "the parts by their Shapley values, "
            f"{how}. Parts were dropped in training, so every coalition is an input that the model knows. "
            "Positive: the "
            "part speaks for the true class; negative: against it.",
            f"Means over {images(found.overall.num_images)}, drawn with as many of each "
            f"{'group' if report.groups else 'class'} as there are; the lines are 95 % intervals over images.",
        ],
        "chart": chart(mean_figure(found), alt=f"mean Shapley values. {said}"),
        "tables": [tables.shapley(caption, named) for caption, named in _named(report) if named],
    }


def _named(report: Report) -> Sequence[tuple[str, Any]]:
    found = report.shapley
    assert found is not None
    return (
        ("Mean Shapley values by class", found.classes),
        ("Mean Shapley values by group", found.groups),
    )


def _verification(report: Report) -> dict[str, Any]:
    found = report.certificate
    if found is None:
        return {"paragraphs": [f"Not measured: {report.reasons['certificate']}."], "tables": []}
    drawn = (
        "" if found.num_images == report.evaluation.num_samples else f", drawn from {report.evaluation.num_samples:,}"
    )
    return {
        "paragraphs": [
            f"On {images(found.num_images)}{drawn}. The mask of each image is held while the pixels outside it "
            "are replaced: "
            "for a faithful model no bit of the logits may change. The control replaces the pixels inside, which "
            "has to "
            "change nearly every image.",
            f"Other backgrounds: where the outside comes from another photograph and the mask is found anew, it keeps "
            f"{percent(found.mask_iou)} of itself (IoU, mean over images), and {percent(found.answers_moved)} of the "
            "answers change.",
            "Leakage: a logistic regression that sees nothing but the masks, cross-validated. "
            f"{leakage(found).text} Shapes "
            "that differ by nature between classes count too: the number is an upper bound for what is amiss.",
        ],
        "tables": [tables.certificate(found)],
    }


def _origin(report: Report) -> dict[str, Any]:
    facts = report.model
    height, width = facts.image_size
    rows = [
        ["backbone", facts.backbone or "of its own, without a name in timm"],
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
