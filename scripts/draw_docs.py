"""Draw the figures of the documentation that show structure: docs/two-stages.svg and docs/layers.svg.

    python scripts/draw_docs.py

The layers are those of tests/test_layers.py, which holds the imports to them.
"""

import ast
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ifam.explanations.figures import PART_COLORS

ROOT = Path(__file__).parents[1]
ORANGE, SKY, GREEN, BLUE = PART_COLORS[0], PART_COLORS[1], PART_COLORS[2], PART_COLORS[4]
GREY, INK = "#F2F2F2", "#222222"
WIDTH = 4.8  # inches, so that letters of 10 points are still that on a telephone
# text as text, to be searched and read aloud; nothing in the files that changes from run to run
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "ifam", "font.size": 10, "font.family": "sans-serif"}


def canvas(rows: float) -> tuple[Figure, Axes]:
    """An empty drawing of a tenth of an inch as unit, the origin at the upper left."""
    figure = Figure(figsize=(WIDTH, rows / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10 * WIDTH), ylim=(rows, 0))
    axes.set_axis_off()
    return figure, axes


def box(axes: Axes, left: float, top: float, width: float, height: float, text: str, color: str = GREY) -> None:
    """A box with a text in its middle; colours are pale, so that the text can be read on each."""
    shape = FancyBboxPatch(
        (left, top), width, height, boxstyle="round,pad=0,rounding_size=0.6", facecolor=f"{color}55", edgecolor=INK
    )
    axes.add_patch(shape)
    axes.text(left + width / 2, top + height / 2, text, ha="center", va="center", color=INK, linespacing=1.35)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> None:
    """From a point to another."""
    style = {"arrowstyle": "-|>", "color": INK, "linestyle": "--" if dashed else "-", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def two_stages() -> Figure:
    """What happens to one image."""
    figure, axes = canvas(46)
    box(axes, 1, 1, 46, 4, "image: h × w patches")
    for left, name in ((1, "stage 1: which parts?"), (26, "stage 2: which class?")):
        axes.text(left + 3.5, 8, name, va="center", weight="bold", color=INK)
    box(axes, 1, 10.5, 21, 5, "vision transformer,\nfrozen", SKY)
    box(axes, 1, 18.5, 21, 6.5, "distance of each token to\nK + 1 prototypes", SKY)
    box(axes, 1, 28, 21, 5, "winning part\nof each token", ORANGE)
    box(axes, 1, 36, 21, 8.5, "you may switch off parts\nand unsure tokens,\nor give a mask")
    box(axes, 26, 36, 21, 8.5, "mask: a bit per token,\n1 for foreground parts", ORANGE)
    box(axes, 26, 26.5, 21, 6.5, "the patches in the mask,\nnothing else", GREEN)
    box(axes, 26, 18.5, 21, 5, "vision transformer,\nfine-tuned", BLUE)
    box(axes, 26, 10.5, 21, 5, "logits", BLUE)
    arrow(axes, (3, 5), (3, 10.5))
    for y, end in ((15.5, 18.5), (25, 28), (33, 36)):
        arrow(axes, (11.5, y), (11.5, end))
    arrow(axes, (22, 40.25), (26, 40.25))
    for y, end in ((36, 33), (26.5, 23.5), (18.5, 15.5)):
        arrow(axes, (36.5, y), (36.5, end))
    axes.plot([24, 24], [5, 29.75], color=INK, linewidth=1.5)
    arrow(axes, (24, 29.75), (26, 29.75))
    return figure


def layers() -> Figure:
    """The packages and modules of this library, each above those that it may use."""
    found = read_layers(ROOT / "tests/test_layers.py")
    lines = [wrapped(names) for names in reversed(found)]
    heights = [2.2 + 1.8 * text.count("\n") + 1.2 for text in lines]
    figure, axes = canvas(sum(heights) + 1.2 * len(lines) + 1)
    top = 1.0
    for number, (text, height) in enumerate(zip(lines, heights, strict=True)):
        if number:
            arrow(axes, (24, top), (24, top - 1.2))
        box(axes, 1, top, 46, height, text, (GREY, SKY)[number % 2])
        top += height + 1.2
    return figure


def read_layers(path: Path) -> list[tuple[str, ...]]:
    """The tuple LAYERS of a module, lowest first."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = (node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS")
    return list(ast.literal_eval(next(named).value))


def wrapped(names: tuple[str, ...], width: int = 46) -> str:
    """The names with commas, in lines of at most ``width`` letters."""
    return "\n".join(textwrap.wrap(", ".join(names), width))


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        for name, figure in (("two-stages", two_stages()), ("layers", layers())):
            figure.savefig(ROOT / f"docs/{name}.svg", metadata={"Date": None, "Creator": None})
