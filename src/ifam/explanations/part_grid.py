"""The parts of the same images side by side: before and after unsure tokens go, and by models of other K."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ifam.errors import UsageError
from ifam.explanations.explanation import Explanation, ImageLike, explain
from ifam.explanations.figures import show_parts
from ifam.explanations.fonts import use_fonts_for
from ifam.model.two_stage import IFAM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 1.6  # inches


def token_removal_figure(model: IFAM, images: Sequence[ImageLike]) -> "Figure":
    """A row for each image: the photograph, its parts, and its parts without unsure tokens at each stored quantile.

    As figure 4 of the paper. Under each panel stand the answer, its probability and the share of the image selected.

    Raises:
        UsageError: no image, or a model without thresholds.
        DataError: a file that cannot be read.
    """
    quantiles = sorted(model.token_thresholds, reverse=True)
    if not quantiles:
        raise UsageError("token removal: expected a model with thresholds, got one without; run ifam calibrate first")
    rows = [
        [found, *(found.without(token_quantile=q) for q in quantiles)]
        for found in (explain(model, image) for image in images)
    ]
    return parts_figure(rows, ["parts", *(f"without tokens\nbeyond q = {q:g}" for q in quantiles)])


def across_models_figure(models: Mapping[str, IFAM], images: Sequence[ImageLike]) -> "Figure":
    """A row for each image: the photograph, and its parts by each of the ``models``, by heading.

    As figures 5 to 7 of the paper, where the models differ in their number of parts.

    Raises:
        UsageError: no image or no model.
        DataError: a file that cannot be read.
    """
    return parts_figure([[explain(model, image) for model in models.values()] for image in images], list(models))


def parts_figure(rows: Sequence[Sequence[Explanation]], headings: Sequence[str]) -> "Figure":
    """A row for each image: the photograph as the first column's model sees it, and the parts of each column."""
    from matplotlib.figure import Figure

    if not rows or not headings:
        raise UsageError(f"figure: expected images and columns, got {len(rows)} and {len(headings)}")
    columns = len(headings) + 1
    figure = Figure(figsize=(PANEL * columns, (PANEL + 0.35) * len(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for number, (axes, explanations) in enumerate(zip(grid, rows, strict=True)):
        axes[0].imshow(explanations[0].image)
        for panel, found in zip(axes[1:], explanations, strict=True):
            show_parts(panel, found.image, found.parts, found.num_parts)
            panel.set_xlabel(_answer(found), fontsize=7, parse_math=False)
        for panel, heading in zip(axes, ["photograph", *headings], strict=True):
            panel.set(xticks=[], yticks=[])
            panel.set_axis_on()
            panel.spines[:].set_visible(False)
            if number == 0:
                panel.set_title(heading, fontsize=8, parse_math=False)
    use_fonts_for(figure)
    return figure


def _answer(found: Explanation) -> str:
    if not found.has_evidence:
        return "no evidence"
    return f"{found.label} ({found.probability:.0%}), {found.kept:.0%} kept"
