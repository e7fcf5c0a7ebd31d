"""Sections of the page that show pictures: parts, errors and Shapley values."""

from typing import Any

from ifam.explanations.figures import part_style
from ifam.explanations.shapley import EXACT_UP_TO, PERMUTATIONS
from ifam.report import tables
from ifam.report.charts import mean_figure, shapley_panels
from ifam.report.content import Mistake, Report
from ifam.report.parts import DOUBLE, RARE
from ifam.report.pictures import chart, example, mistake
from ifam.report.tables import percent, whole
from ifam.verdict.statement import images


def parts(report: Report) -> dict[str, Any]:
    """The gallery, areas and flags."""
    gallery, num_parts = report.gallery, report.model.num_parts
    paragraphs = [
        f"The images that have most of each part, of {images(gallery.num_images)}; the part is in colour, the rest "
        f"of the image grey. Area is a share of the {report.model.grid[0]} × {report.model.grid[1]} patches.",
        f"Flags: dead, in no image; rare, in less than {whole(RARE)} of them; double, where the prototypes of two "
        f"parts, seen from that of the background, point the same way (cosine of {DOUBLE} or more).",
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


def mistakes(report: Report) -> dict[str, Any]:
    """The most confident wrong answers with their maps."""
    found = report.mistakes
    first = "No wrong answer."
    if found.count:
        more = ", then more of each group" if found.by_group else ""
        first = (
            f"{found.count:,} of {images(report.evaluation.num_samples)} were answered wrongly; shown are the wrong "
            f"answers that the model was most sure of{more}."
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
        # what rounds to certainty is not certain
        "probability": percent(found.probability) if found.probability < 0.9995 else f"over {percent(0.999)}",
        "group": found.group,
        "pictures": mistake(found, report.model.num_parts, seen=seen),
    }


def shapley(report: Report) -> dict[str, Any]:
    """Averages of the Shapley values."""
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
    named = {"Mean Shapley values by class": found.classes, "Mean Shapley values by group": found.groups}
    return {
        "paragraphs": [
            "What each part adds to the score of the true class: its logit minus the mean of all logits, shared out "
            f"over the parts by their Shapley values, {how}. Parts were dropped in training, so every coalition is "
            "an input that the model knows. Positive: the part speaks for the true class; negative: against it.",
            f"Means over {images(found.overall.num_images)}, drawn with as many of each "
            f"{'group' if report.groups else 'class'} as there are; the lines are 95\u00a0% intervals over images.",
        ],
        "chart": chart(mean_figure(found), alt=f"mean Shapley values. {said}"),
        "tables": [tables.shapley(caption, means) for caption, means in named.items() if means],
    }
