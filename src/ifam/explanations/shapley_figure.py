"""Shapley values as bars in the colours of the parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ifam.explanations.figures import part_style
from ifam.explanations.fonts import use_fonts_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, PICTURE_WIDTH, ROW_HEIGHT, TITLE_HEIGHT = 4.2, 2.2, 0.24, 0.34
"""inches: made to be read at the width of a phone"""
SCALE = "logit of the class, less the mean over classes"


@dataclass(frozen=True, kw_only=True)
class ShapleyBars:
    """One bar for each part."""

    title: str
    values: NDArray[np.float64]
    """(K,)"""
    error: NDArray[np.float64] | None = None
    """(K,) half the width of the interval that is drawn"""


def shapley_figure(panels: Sequence[ShapleyBars], draw: "Callable[[Axes], None] | None" = None) -> "Figure":
    """A panel of horizontal bars for each of one or more sets of values, on one scale, beside what ``draw`` draws."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heights = [ROW_HEIGHT * len(panel.values) + TITLE_HEIGHT * len(panel.title.splitlines()) for panel in panels]
    beside = 0.0 if draw is None else PICTURE_WIDTH
    size = (WIDTH + beside, max(sum(heights) + 0.6, 0.95 * beside))
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    bars: Any = figure
    if draw is not None:
        halves: Any = figure.subfigures(1, 2, width_ratios=[beside, WIDTH])
        shown, bars = halves[0].subplots(), halves[1]
        draw(shown)
        shown.set_axis_off()
    rows = bars.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    low, high = _limits(panels)
    for axes, panel in zip(rows, panels, strict=True):
        _draw(axes, panel)
        axes.set_xlim(low, high)
    rows[-1].set_xlabel(SCALE, fontsize=8)
    use_fonts_for(figure)
    return figure


def _limits(panels: Sequence[ShapleyBars]) -> tuple[float, float]:
    """With room for the numbers at the ends of the bars."""
    reach = [(np.abs(panel.error) if panel.error is not None else 0) for panel in panels]
    low = min(0.0, *(float((panel.values - r).min()) for panel, r in zip(panels, reach, strict=True)))
    high = max(0.0, *(float((panel.values + r).max()) for panel, r in zip(panels, reach, strict=True)))
    room = 0.16 * (high - low or 1)
    return low - (room if low < 0 else 0.02 * room), high + room


def _draw(axes: "Axes", panel: ShapleyBars) -> None:
    rows = np.arange(len(panel.values))
    error = np.zeros(len(rows)) if panel.error is None else panel.error
    for row, value, half in zip(rows, panel.values, error, strict=True):
        color, hatch = part_style(int(row))
        axes.barh(row, value, height=0.68, color=color, hatch=hatch, edgecolor="#333333", linewidth=0.6)
        if half:
            axes.plot([value - half, value + half], [row, row], color="#111111", linewidth=1)
        side = 1 if value >= 0 else -1
        style: dict[str, Any] = {"va": "center", "ha": "left" if side > 0 else "right", "fontsize": 8}
        axes.annotate(f"{value:+.2f}", (value + side * half, row), (3 * side, 0), textcoords="offset points", **style)
    axes.axvline(0, color="#333333", linewidth=0.8)
    axes.set_yticks(rows, [f"part {row}" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(labelsize=8, length=2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(panel.title, fontsize=9, loc="left", parse_math=False)
