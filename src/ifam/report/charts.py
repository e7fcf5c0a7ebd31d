"""Charts of a report: accuracy by group, and Shapley values. Made to be read at the width of a phone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ifam.explanations.figures import shortened
from ifam.explanations.fonts import use_fonts_for
from ifam.explanations.shapley_figure import ShapleyBars, shapley_figure
from ifam.explanations.shapley_summary import ShapleyMean, ShapleySummary
from ifam.report.content import Slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS, MOST_PANELS, LONGEST_NAME = 20, 8, 40
WIDTH = 4.2
BLUE, ORANGE = "#0072B2", "#D55E00"


def accuracy_figure(found: Sequence[Slice], average: float) -> "Figure":
    """A dot with its 95 % interval for each group or class, worst first, and a line at the average."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = found[:MOST_BARS]
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    figure = Figure(figsize=(WIDTH, 0.42 * len(shown) + 0.7), layout=layout)
    axes = figure.subplots()
    for row, one in enumerate(shown):
        color, marker = (ORANGE, "D") if row == 0 else (BLUE, "o")
        estimate, low, high = one.accuracy.estimate or 0, one.accuracy.low, one.accuracy.high
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot(estimate, row, marker, color=color, markersize=7, markeredgecolor="white")
        name = f"{shortened(one.name, LONGEST_NAME)}, {one.count:,}"
        plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # above the line of the average
        axes.text(0, row - 0.24, name, fontsize=8.5, va="center", parse_math=False, bbox=plate, zorder=3)
        axes.text(1.02, row, f"{estimate:.1%}", fontsize=8.5, va="center")
    axes.axvline(average, color="#555555", linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1.14), ylim=(len(shown) - 0.5, -0.7), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(f"share right; dashed: all images, {average:.1%}", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    use_fonts_for(figure)
    return figure


def shapley_panels(found: ShapleySummary) -> list[tuple[str, ShapleyMean]]:
    """All images, then groups, or classes where there are none."""
    named: Mapping[str, ShapleyMean] = found.groups or found.classes
    return [("all images", found.overall), *list(named.items())[: MOST_PANELS - 1]]


def mean_figure(found: ShapleySummary) -> "Figure":
    """The averages as bars with 95 % intervals over images."""
    return shapley_figure(
        [
            ShapleyBars(
                title=f"{shortened(name, LONGEST_NAME)}, {mean.num_images} image{'' if mean.num_images == 1 else 's'}",
                values=mean.values,
                error=1.96 * mean.standard_error if mean.num_images > 1 else None,
            )
            for name, mean in shapley_panels(found)
        ]
    )
