"""The figure: maps of several methods side by side, and bars of the measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from ifam.benchmarks.faithfulness.explainers import EXPLAINERS, OWN
from ifam.benchmarks.faithfulness.report import MODELS, Row, grouped
from ifam.files import replacing
from ifam.outputs import mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"ifam-1": "#0072B2", "erm": "#E69F00"}
CHANCE = "#B0B0B0"
BARS = {
    "photo_flips": "answers that change when\nall else is of another photograph ↓",
    "iou": "IoU of the top area\nwith the true mask ↑",
    "insertion": "insertion ↑",
    "deletion": "deletion ↓",
    "randomised": "agreement with the map of\na randomised model → 0",
    "difference": "block images: accuracy\ntrained on top − bottom tokens ↑",
}


def draw(rows: Sequence[Row], photographs: Sequence[Any], path: Path) -> None:
    """Write the figure. ``photographs``: (H, W, 3) uint8, those whose maps the rows hold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = _panels(rows)
    groups = grouped(rows)
    width, lines = 1.35 * (1 + max(1, *map(len, shown.values()))), len(photographs) * len(shown)
    height = 3 * 0.22 * len(groups)
    figure = Figure(figsize=(max(width, 11), 1.5 * lines + height + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.5 * lines + 0.3, height + 1.2))
    above, below = halves
    _draw_maps(above, shown, photographs)
    names = [name for name in BARS if any(row.numbers.get(name) is not None for row in rows)]
    axes = below.subplots(-(-len(names) // 3), 3, squeeze=False).flatten()
    for number, panel in enumerate(axes):
        if number < len(names):
            _draw_bars(panel, groups, names[number], labelled=number % 3 == 0)
        else:
            panel.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", **mark_of(path))


def _panels(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """By model, the row of each method whose maps are shown: those of the first seed."""
    with_maps = [row for row in rows if row.maps]
    shown: dict[str, dict[str, Row]] = {}
    for (model, method), group in grouped(with_maps).items():
        shown.setdefault(model, {})[method] = min(group, key=lambda row: row.seed)
    return shown


def _draw_maps(figure: Any, shown: Mapping[str, Mapping[str, Row]], photographs: Sequence[Any]) -> None:
    methods = [method for method in EXPLAINERS if any(method in of_model for of_model in shown.values())]
    methods = [method for method in methods if method != "chance"]
    lines = [(model, number) for number in range(len(photographs)) for model in shown]
    axes = figure.subplots(max(1, len(lines)), 1 + len(methods), squeeze=False)
    for (model, number), panels in zip(lines, axes, strict=False):
        for panel in panels:
            panel.set_axis_off()
        panels[0].imshow(photographs[number])
        panels[0].set_title(MODELS.get(model, model), fontsize=9, loc="left", color=COLORS[model], weight="bold")
        for method, panel in zip(methods, panels[1:], strict=True):
            if method in shown[model]:
                panel.imshow(photographs[number], alpha=0.35)
                panel.imshow(
                    np.asarray(shown[model][method].maps[number]),
                    cmap="cividis",
                    alpha=0.75,
                    extent=panels[0].images[0].get_extent(),
                    interpolation="nearest",
                )
                panel.set_title("own map" if method == OWN else _short(method), fontsize=8, loc="left")


def _draw_bars(axes: "Axes", groups: Mapping[tuple[str, str], Sequence[Row]], name: str, *, labelled: bool) -> None:
    labels = []
    for place, ((model, method), group) in enumerate(groups.items()):
        values = [value for row in group if (value := row.numbers.get(name)) is not None]
        labels.append("iFAM's own map" if method == OWN else f"{_short(method)} on {MODELS.get(model, model)}")
        if values:
            mean = fmean(values)
            spread = [[mean - min(values)], [max(values) - mean]]
            hatch = "//" if method == OWN else ""
            color = CHANCE if method == "chance" else COLORS[model]
            axes.barh(place, mean, color=color, hatch=hatch, edgecolor="white", linewidth=0, xerr=spread)
    axes.set_yticks(range(len(labels)), labels if labelled else [""] * len(labels), fontsize=7)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=7)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_title(BARS[name], fontsize=8, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(method: str) -> str:
    return {"guided-backprop": "guided", "input-x-gradient": "input × grad.", "integrated-gradients": "IG"}.get(
        method, method.replace("-", " ").replace("grad cam", "Grad-CAM").replace("lrp", "LRP")
    )
