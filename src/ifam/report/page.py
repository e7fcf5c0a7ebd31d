"""A report as the page: sentences, tables and pictures in their order."""

from typing import Any

from ifam import __version__
from ifam.model_card import READ
from ifam.report import number_sections as numbers
from ifam.report import picture_sections as pictures
from ifam.report.content import Report
from ifam.report.sentences import verdict
from ifam.report.tables import whole
from ifam.verdict.statement import CLOSE, images

MARKS = {"good": "✓", "caution": "!", "bad": "✗"}
LEGEND = (
    f"✓ nothing to object; ! look closer: no groups known, the worst group more than {100 * CLOSE:.0f} points below "
    f"the average, more than {whole(CLOSE)} of the answers moved, an empty mask, a mask mostly beside the object, a "
    "background that tells the class, or something not measured; ✗ the guarantee fails, the mask is suspicious, "
    "the answer is always the same, all images or a group fare no better than guessing, or, where no groups are known, "
    "the background alone tells the class."
)
COVERED = (
    "Covered: {read}. Changing any other pixel, to noise or to infinity, changes no bit of them. The map is the "
    "reason, not a guess made afterwards.",
    "Not covered: the mask itself is computed from the whole image. A change outside the mask can therefore move "
    "the mask, and a mask can carry information by its shape. Both are measured in section 8. Nor does it say that "
    "the selected patches are the right ones: the pictures below show which they are.",
)
NOT_COVERED = (
    "Nothing is covered. With soft masks, or with stage 1 alone, what lies outside the mask has already been read "
    "when the prediction is made. The maps below show where the model found its parts, not what its answer rests on.",
)


def page(report: Report) -> dict[str, Any]:
    """What the template shows."""
    return {
        "version": __version__,
        "title": f"Report on {report.origin.run}",
        "subtitle": f"On {images(report.evaluation.num_samples)} of {report.data.name}; ifam {__version__}, "
        f"{report.origin.written}",
        "marks": MARKS,
        "legend": LEGEND,
        "verdict": verdict(report),
        "guarantee": [text.format(read=READ[report.model.evidence].replace("Given", "given", 1)) for text in COVERED]
        if report.model.is_faithful
        else NOT_COVERED,
        "data": numbers.data(report),
        "metrics": numbers.metrics(report),
        "parts": pictures.parts(report),
        "mistakes": pictures.mistakes(report),
        "interventions": numbers.interventions(report),
        "shapley": pictures.shapley(report),
        "verification": numbers.verification(report),
        "origin": numbers.origin(report),
    }
