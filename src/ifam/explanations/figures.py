"""Pictures of an explanation: coloured parts, what stage 2 sees, and the figure that puts them side by side."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ifam.errors import UsageError
from ifam.explanations.fonts import use_fonts_for
from ifam.files import replacing
from ifam.outputs import MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Okabe and Ito (2008), without black, and a dark wine red that keeps its distance under red-green blindness.
PART_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#6A1B4D")
# The colours repeat from part 8 on, told apart by the direction of stripes; these are matplotlib's hatches.
PART_HATCHES = ("", "////", "\\\\\\\\", "xxxx")
LUMINANCE = np.array([0.299, 0.587, 0.114])
UNSELECTED_SATURATION, UNSELECTED_BRIGHTNESS = 0.4, 0.5
RIM = 1 / 12  # of a cell
HIDDEN_GREY, HATCH_GREY = 236, 214
TOP_CLASSES, LEGEND_COLUMNS, LONGEST_NAME = 5, 8, 28
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def part_style(part: int) -> tuple[str, str]:
    """Colour and hatch of a part, distinct for the first 32."""
    cycle, color = divmod(part, len(PART_COLORS))
    return PART_COLORS[color], PART_HATCHES[cycle % len(PART_HATCHES)]


def overlay_parts(image: ArrayLike, parts: ArrayLike, num_parts: int, alpha: float = 0.2) -> NDArray[np.uint8]:
    """The photograph with each part tinted and rimmed in its colour, white lines between, the rest darker and greyer.

    ``image`` (H, W, 3) uint8; ``parts`` (h, w) int, ``num_parts`` = background; ``alpha`` the share of the part's
    colour inside its rim. Returns (H, W, 3) uint8.
    """
    photograph, grid = _photograph(image), _parts(parts, num_parts)
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha: expected 0 to 1, got {alpha}")
    cells = _upsample(grid, photograph.shape)
    grey = (photograph @ LUMINANCE)[..., None]
    canvas = UNSELECTED_BRIGHTNESS * (grey + UNSELECTED_SATURATION * (photograph - grey))
    line = max(1, round(min(cells.shape) / 250))  # wider in large pictures, to survive being shown small
    side = min(pixels / number for pixels, number in zip(cells.shape, grid.shape, strict=True))  # of a cell
    rims = _near_another(cells, line + round(RIM * side))
    for part in np.unique(grid[grid < num_parts]):
        color, hatch = part_style(int(part))
        here = cells == part
        canvas[here] = (1 - alpha) * photograph[here] + alpha * _rgb(color)
        canvas[here & rims] = _rgb(color)
        canvas[here & _stripes(cells.shape, hatch)] = 255
    canvas[_near_another(cells, line, both_sides=False)] = 255
    return np.asarray(canvas.round(), dtype=np.uint8)


def overlay_mask(image: ArrayLike, mask: ArrayLike) -> NDArray[np.uint8]:
    """What stage 2 sees: the selected pixels as they are, light hatched grey for the others.

    ``image`` (H, W, 3) uint8; ``mask`` (h, w) bool. Returns (H, W, 3) uint8.
    """
    photograph, selected = _photograph(image), np.asarray(mask)
    if selected.dtype != bool or selected.ndim != 2:
        raise UsageError(f"mask: expected (h, w) bool, got {selected.shape} {selected.dtype}")
    shown = _upsample(selected, photograph.shape)[..., None]
    hatched = np.where(_stripes(photograph.shape, "////"), HATCH_GREY, HIDDEN_GREY)[..., None]
    return np.where(shown, photograph, hatched.astype(np.uint8))


def explanation_figure(
    image: ArrayLike,
    parts: ArrayLike,
    mask: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    kept: float,
    *,
    num_parts: int,
    title: str | None = None,
    seen: str = "seen by stage 2",
) -> "Figure":
    """The photograph, its parts, what stage 2 saw, and the most probable classes; made for 1,000 pixels of width.

    ``image`` (H, W, 3) uint8; ``parts`` (h, w) int; ``mask`` (h, w) bool; ``probabilities`` (C,); ``kept`` in 0–1.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    values = np.asarray(probabilities, dtype=float)
    if values.shape != (len(class_names),):
        raise UsageError(f"probabilities: expected one per class, ({len(class_names)},), got {values.shape}")
    photograph, grid = _photograph(image), _parts(parts, num_parts)
    panel = min(max(2.4 * photograph.shape[0] / photograph.shape[1], 1.9), 4)  # inches
    height = panel + 0.5 + 0.19 * -(-num_parts // LEGEND_COLUMNS) + (0.3 if title else 0)
    figure = Figure(figsize=(10, height), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.95))
    _show(axes[0], photograph, "photograph")
    show_parts(axes[1], photograph, grid, num_parts)
    _plain(axes[1], "parts")
    _show(axes[2], overlay_mask(photograph, mask), f"{seen}: {kept:.0%}")
    if not np.asarray(mask).any():
        axes[2].text(0.5, 0.5, "no evidence", transform=axes[2].transAxes, ha="center", va="center", weight="bold")
    _bars(axes[3], values, class_names)
    _legend(figure, grid, num_parts)
    if title:
        figure.suptitle(title, fontsize=11, weight="bold", parse_math=False)
    use_fonts_for(figure)
    return figure


def save_overlay(path: str | Path, image: ArrayLike, parts: ArrayLike, num_parts: int) -> None:
    """Write ``overlay_parts`` with the number of each part on it, as a PNG or JPEG file, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture = Image.fromarray(overlay_parts(image, parts, num_parts))
    _number_parts(picture, _parts(parts, num_parts), num_parts)
    about = PngInfo()
    about.add_text("Software", MARK)
    with picture_file(path) as temporary:
        picture.save(temporary, pnginfo=about, comment=MARK)  # of a PNG, and of a JPEG


def picture_file(path: str | Path) -> AbstractContextManager[Path]:
    """`ifam.files.replacing` for a picture.

    Raises:
        UsageError: the name does not end as a picture's.
    """
    check_picture(path)
    return replacing(path, durable=False)


def check_picture(path: str | Path) -> None:
    """Refuse, before the work, a name that does not end as a picture's.

    Raises:
        UsageError: see above.
    """
    if Path(path).suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"picture: expected a name ending in {', '.join(PICTURE_SUFFIXES)}, got {str(path)!r}")


def _photograph(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(f"image: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    return pixels


def _parts(parts: ArrayLike, num_parts: int) -> NDArray[np.integer[Any]]:
    grid = np.asarray(parts)
    if grid.ndim != 2 or not grid.size or not np.issubdtype(grid.dtype, np.integer):
        raise UsageError(f"parts: expected (h, w) integers, got {grid.shape} {grid.dtype}")
    if grid.min() < 0 or grid.max() > num_parts:
        raise UsageError(f"parts: expected 0 to {num_parts} (background), got {grid.min()} to {grid.max()}")
    return grid


def _upsample(grid: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The cell under the centre of each pixel."""
    rows, columns = (
        ((np.arange(n) + 0.5) * cells / n).astype(int) for n, cells in zip(shape, grid.shape, strict=False)
    )
    return grid[np.ix_(rows, columns)]


def _stripes(shape: tuple[int, ...], hatch: str) -> NDArray[np.bool_]:
    """The diagonal lines of a hatch over a picture, (H, W) bool."""
    period = max(6, round(min(shape[:2]) / 36))
    y, x = np.ogrid[: shape[0], : shape[1]]
    lines = np.zeros(shape[:2], dtype=bool)
    for character, diagonal in (("/", y + x), ("\\", y - x)):
        if character in hatch or "x" in hatch:
            lines |= diagonal % period < max(1, period // 6)
    return lines


def _near_another(cells: NDArray[Any], reach: int, *, both_sides: bool = True) -> NDArray[np.bool_]:
    """Pixels at most ``reach`` above or left of another part, or on both sides of where two parts meet, (H, W) bool."""
    near = np.zeros(cells.shape, dtype=bool)
    for step in range(1, 1 + reach):
        below, right = cells[:-step] != cells[step:], cells[:, :-step] != cells[:, step:]
        near[:-step] |= below
        near[:, :-step] |= right
        if both_sides:
            near[step:] |= below
            near[:, step:] |= right
    return near


def _rgb(color: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(color.removeprefix("#")), dtype=np.uint8)


def show_parts(axes: "Axes", image: ArrayLike, parts: ArrayLike, num_parts: int) -> None:
    """`overlay_parts` with the number of each part on it, in axes of matplotlib."""
    from matplotlib.patheffects import withStroke

    photograph, outline = _photograph(image), [withStroke(linewidth=2, foreground="black")]
    axes.imshow(overlay_parts(photograph, parts, num_parts), interpolation="antialiased")
    for part, place in _places(_parts(parts, num_parts), num_parts, photograph.shape):
        axes.text(*place, str(part), color="white", size=8, ha="center", va="center", path_effects=outline)


def _number_parts(picture: "Image", grid: NDArray[Any], num_parts: int) -> None:
    """Write its number on each part."""
    from PIL import ImageDraw, ImageFont

    size = max(10, round(min(picture.size) / 18))
    for part, place in _places(grid, num_parts, (picture.height, picture.width)):
        ImageDraw.Draw(picture).text(
            place,
            str(part),
            fill="white",
            stroke_fill="black",
            stroke_width=max(1, size // 10),
            font=ImageFont.load_default(size),
            anchor="mm",
        )


def _places(grid: NDArray[Any], num_parts: int, shape: tuple[int, ...]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Each part and the (x, y) of the middle of its cell that is nearest to its centre, in a picture (H, W, …)."""
    for part in np.unique(grid[grid < num_parts]):
        cells = np.argwhere(grid == part) + 0.5
        row, column = cells[np.linalg.norm(cells - cells.mean(0), axis=1).argmin()]
        yield int(part), (column / grid.shape[1] * shape[1], row / grid.shape[0] * shape[0])


def _show(axes: "Axes", picture: NDArray[np.uint8], title: str) -> None:
    axes.imshow(picture, interpolation="antialiased")
    _plain(axes, title)


def _plain(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_axis_off()
    axes.set_anchor("NW")


def _bars(axes: "Axes", probabilities: NDArray[Any], class_names: Sequence[str]) -> None:
    """The most probable classes, each name above its bar, so that long names do not squeeze the bars."""
    top = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES]
    rows = range(len(top))
    axes.barh(rows, np.ones(len(top)), height=0.3, color="#E8E8E8")
    axes.barh(rows, probabilities[top], height=0.3, color=["#0072B2"] + ["#8FB8D6"] * (len(top) - 1))
    for row, index in zip(rows, top, strict=True):
        style: dict[str, Any] = {"fontsize": 8, "weight": "bold" if row == 0 else "normal"}
        name = shortened(class_names[index], LONGEST_NAME)
        axes.text(0, row - 0.2, name, va="bottom", parse_math=False, clip_on=True, **style)
        axes.text(1.3, row, f"{probabilities[index]:.1%}", ha="right", va="center", **style)
    axes.set(xlim=(0, 1.3), ylim=(TOP_CLASSES - 0.6, -0.7))
    axes.set_box_aspect(0.8)
    _plain(axes, "prediction")


def shortened(name: str, length: int) -> str:
    """At most so many letters of it: its beginning and its end, by which long names differ."""
    if len(name) <= length:
        return name
    end = (length - 1) // 2
    return f"{name[: length - 1 - end]}…{name[len(name) - end :]}"


def _legend(figure: "Figure", grid: NDArray[Any], num_parts: int) -> None:
    """Number and share of the image of every part, below the pictures."""
    from matplotlib.patches import Patch

    handles = []
    for part in range(num_parts):
        color, hatch = part_style(part)
        label = f"part {part}: {np.mean(grid == part):.0%}"
        handles.append(Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0, label=label))
    figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS, fontsize=8, frameon=False)
