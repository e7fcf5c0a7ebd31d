from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray
from PIL import Image

from ifam.errors import IfamWarning, UsageError
from ifam.explanations import figures
from ifam.explanations.figures import (
    PART_COLORS,
    explanation_figure,
    overlay_mask,
    overlay_parts,
    part_style,
    picture_file,
    save_overlay,
    shortened,
)
from ifam.explanations.fonts import use_fonts_for

CELL = 20


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_letters_that_the_font_of_the_figures_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def titled(title: str) -> Figure:
        figure = Figure()
        figure.suptitle(title)
        use_fonts_for(figure)
        return figure

    plain, odd = titled("Möwe").texts[0], titled("ꜳ \U0001d63c").texts[0]  # sans-serif bold italic A: in STIXGeneral
    assert plain.get_fontfamily() == ["sans-serif"]
    assert odd.get_fontfamily()[0] == "sans-serif"
    assert len(odd.get_fontfamily()) > 1
    monkeypatch.setattr(fontManager, "ttflist", [])
    with pytest.warns(IfamWarning, match="no installed font has 日 本; install one"):
        titled("日本")


def inner(row: int, column: int) -> tuple[slice, slice]:
    """The pixels of a cell of 20 × 20 that lie off its borders and rims."""
    return slice(row * CELL + 4, row * CELL + CELL - 4), slice(column * CELL + 4, column * CELL + CELL - 4)


def draw(parts: list[list[int]], num_parts: int, alpha: float = 0.5) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    grid = np.array(parts)
    image = photograph(CELL * grid.shape[0], CELL * grid.shape[1])
    return image, overlay_parts(image, grid, num_parts, alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_selected_pixels_are_blended_with_the_colour_of_their_part(alpha: float) -> None:
    image, overlay = draw([[0, 1, 2], [2, 2, 1]], num_parts=2, alpha=alpha)
    for row, column, part in [(0, 0, 0), (0, 1, 1), (1, 2, 1)]:
        color = 255 * np.array(to_rgb(PART_COLORS[part]))
        expected = (1 - alpha) * image[inner(row, column)] + alpha * color
        np.testing.assert_allclose(overlay[inner(row, column)], expected, atol=0.51)


def test_a_part_has_a_rim_of_its_colour_where_it_ends_and_none_within() -> None:
    _, overlay = draw([[0, 0, 1, 2]], num_parts=2, alpha=0.2)
    first, second = (255 * np.array(to_rgb(PART_COLORS[part])) for part in (0, 1))
    is_first, is_second = (np.abs(overlay - color).max(-1).max(0) < 1 for color in (first, second))
    assert np.flatnonzero(is_first).tolist() == [2 * CELL - 3, 2 * CELL - 2]  # then the white line
    around = [2 * CELL, 2 * CELL + 1, 2 * CELL + 2, 3 * CELL - 3, 3 * CELL - 2]
    assert np.flatnonzero(is_second).tolist() == around  # none in what is not selected


def test_unselected_pixels_are_darker_and_greyer_whatever_alpha_is() -> None:
    image, overlay = draw([[0, 1, 1]], num_parts=1)
    before, after = image[inner(0, 1)].astype(float), overlay[inner(0, 1)].astype(float)
    grey = before @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(after, 0.5 * (0.4 * before + 0.6 * grey[..., None]), atol=0.51)
    np.testing.assert_allclose(np.ptp(after, axis=-1), 0.2 * np.ptp(before, axis=-1), atol=1)
    assert np.array_equal(draw([[0, 1, 1]], num_parts=1, alpha=1)[1][inner(0, 1)], overlay[inner(0, 1)])


def test_borders_are_white_and_lie_between_different_parts_only() -> None:
    image = np.zeros((2 * CELL, 3 * CELL, 3), dtype=np.uint8)
    white = (overlay_parts(image, np.array([[0, 0, 1], [2, 2, 2]]), 2) == 255).all(-1)
    expected = np.zeros(white.shape, dtype=bool)
    expected[CELL - 1] = True
    expected[:CELL, 2 * CELL - 1] = True
    assert np.array_equal(white, expected)


def test_nothing_selected_has_no_border() -> None:
    image, overlay = draw([[3, 3], [3, 3]], num_parts=3)
    grey = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(overlay, 0.2 * image + 0.3 * grey[..., None], atol=0.51)


def test_cells_are_cut_where_the_grid_does_not_divide_the_image() -> None:
    image = np.zeros((7, 10, 3), dtype=np.uint8)
    seen = (overlay_mask(image, np.array([[True, False, True]])) == 0).all(-1)
    # Centres of pixels 0-2 lie in the first third, 3-6 in the second.
    assert np.array_equal(seen, np.broadcast_to([1, 1, 1, 0, 0, 0, 0, 1, 1, 1], (7, 10)).astype(bool))


def test_seen_pixels_are_untouched_and_the_others_do_not_depend_on_the_image() -> None:
    mask = np.array([[True, False], [False, True], [False, False]])
    image = photograph(3 * CELL, 2 * CELL)
    seen, negative = overlay_mask(image, mask), overlay_mask(255 - image, mask)
    pixels = mask.repeat(CELL, 0).repeat(CELL, 1)
    assert np.array_equal(seen[pixels], image[pixels])
    assert np.array_equal(seen[~pixels], negative[~pixels])
    hidden = seen[~pixels]
    assert (np.ptp(hidden, axis=-1) == 0).all()
    assert hidden.min() > 200
    assert 0.5 < (hidden[:, 0] == hidden.max()).mean() < 1  # a fine hatch


def test_sixteen_parts_are_distinct_on_a_uniform_image() -> None:
    parts = np.arange(16).reshape(4, 4)
    overlay = overlay_parts(np.full((4 * CELL, 4 * CELL, 3), 128, dtype=np.uint8), parts, 16)
    looks = {(tuple(cell[0]), len(cell)) for cell in map(colors, parts.flat, [overlay] * 16)}
    assert len(looks) == 16


def colors(part: int, overlay: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours within the cell of a part, darkest first: one, and white where the cell is hatched."""
    return np.unique(overlay[inner(*divmod(part, 4))].reshape(-1, 3), axis=0)


def test_the_first_eight_parts_are_plain_and_thirty_two_styles_are_distinct() -> None:
    assert [part_style(part) for part in range(8)] == [(color, "") for color in PART_COLORS]
    assert len({part_style(part) for part in range(32)}) == 32
    assert part_style(32) == part_style(0)


def linear_rgb(color: str) -> NDArray[np.float64]:
    encoded = np.array(to_rgb(color))
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


@pytest.mark.parametrize(("vision", "least"), [(np.eye(3), 25), (DEUTERANOPIA, 15)])
def test_colours_keep_their_distance(vision: NDArray[np.float64], least: float) -> None:
    seen = [to_lab((vision @ linear_rgb(color)).clip(0, 1)) for color in PART_COLORS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > least


def figure(shape: tuple[int, int] = (40, 60), num_parts: int = 3, num_classes: int = 7, **changes: object) -> Figure:
    grid = np.random.default_rng(1).integers(0, num_parts + 1, (4, 6))
    values = {
        "image": photograph(*shape),
        "parts": grid,
        "mask": grid < num_parts,
        "probabilities": np.linspace(0, 2 / num_classes, num_classes),
        "class_names": [f"class_{i}" for i in range(num_classes)],
        "kept": 0.25,
        "num_parts": num_parts,
    }
    return explanation_figure(**(values | changes))  # type: ignore[arg-type]


def texts(drawn: Figure) -> list[str]:
    found = [text.get_text() for axes in drawn.axes for text in axes.texts]
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    return found + titles + [text.get_text() for legend in drawn.legends for text in legend.get_texts()]


def test_four_panels_say_what_they_show() -> None:
    drawn = figure()
    assert len(drawn.axes) == 4
    shown = texts(drawn)
    assert "seen by stage 2: 25%" in shown
    assert "no evidence" not in shown
    assert [name for name in shown if name.startswith("class_")] == [f"class_{i}" for i in (6, 5, 4, 3, 2)]


def test_legend_gives_the_share_of_every_part() -> None:
    grid = np.array([[0, 0, 1, 3]])
    shown = texts(figure(parts=grid, mask=grid < 3))
    assert [text for text in shown if text.startswith("part ")] == ["part 0: 50%", "part 1: 25%", "part 2: 0%"]


def test_no_evidence_is_said() -> None:
    assert "no evidence" in texts(figure(mask=np.zeros((4, 6), dtype=bool), kept=0.0))


@pytest.mark.parametrize("num_parts", [1, 16])
@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (90, 30)])
def test_no_two_texts_overlap(shape: tuple[int, int], num_parts: int) -> None:
    drawn = figure(
        shape, num_parts, title="$5 a title", class_names=[f"{i} a name far too long to show" for i in range(7)]
    )
    FigureCanvasAgg(drawn).draw()
    width, height = drawn.canvas.get_width_height()
    assert width == 1000
    legend = drawn.legends[0].get_texts()
    artists = [text for axes in drawn.axes for text in [*axes.texts, axes.title, axes._left_title]] + legend  # type: ignore[attr-defined]
    boxes = [artist.get_window_extent() for artist in artists if artist.get_text()]
    numbers = len([text for text in drawn.axes[1].texts if text.get_text()])
    assert numbers
    assert len(boxes) == 10 + 4 + num_parts + numbers
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def test_tensors_are_accepted() -> None:
    grid = torch.tensor([[0, 1], [2, 2]])
    assert len(figure(parts=grid, mask=grid < 2, num_parts=2, probabilities=torch.rand(7)).axes) == 4


def test_saved_overlay_is_the_overlay_with_numbers(tmp_path: Path) -> None:
    grid = np.array([[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 2]])
    image = np.full((3 * CELL, 4 * CELL, 3), 128, dtype=np.uint8)
    save_overlay(tmp_path / "new" / "a.png", image, grid, 2)
    saved = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    rows, columns = np.nonzero((saved != overlay_parts(image, grid, 2)).any(-1))
    number_of = grid[rows // CELL, columns // CELL]
    assert set(number_of) == {0, 1}
    middles = [(part, (rows[number_of == part].mean(), columns[number_of == part].mean())) for part in (0, 1)]
    for part, middle in middles:
        np.testing.assert_allclose(middle, {0: (1.5 * CELL, 1.5 * CELL), 1: (0.5 * CELL, 3.5 * CELL)}[part], atol=2)


def write_half(path: Path) -> None:
    with picture_file(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_arguments_that_cannot_be(tmp_path: Path) -> None:
    image, parts = photograph(8, 8), np.array([[0, 1]])
    with pytest.raises(UsageError, match=r"\(H, W, 3\) uint8, got \(8, 8, 3\) float64"):
        overlay_parts(image / 255, parts, 1)
    with pytest.raises(UsageError, match=r"expected 0 to 1 \(background\), got 0 to 2"):
        overlay_parts(image, parts * 2, 1)
    with pytest.raises(UsageError, match="integers, got"):
        overlay_parts(image, parts / 2, 1)
    with pytest.raises(UsageError, match="alpha"):
        overlay_parts(image, parts, 1, alpha=50)
    with pytest.raises(UsageError, match="mask: expected"):
        overlay_mask(image, parts)
    with pytest.raises(UsageError, match="one per class"):
        figure(probabilities=[1.0])
    with pytest.raises(UsageError, match=r"a\.gif"):
        save_overlay(tmp_path / "a.gif", image, parts, 1)


def test_no_pyplot() -> None:
    assert "pyplot" not in Path(figures.__file__).read_text(encoding="utf-8")


def test_long_names_keep_beginning_and_end() -> None:
    assert shortened("gull", 4) == "gull"
    names = [f"Northern long-tailed seabird, adult in breeding plumage/{place}" for place in ("coast", "field")]
    short = [shortened(name, 20) for name in names]
    assert short == ["Northern l…age/coast", "Northern l…age/field"]
