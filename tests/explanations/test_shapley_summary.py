from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ifam
from ifam.errors import UsageError
from ifam.explanations.shapley import ShapleyValues
from ifam.explanations.shapley_figure import ShapleyBars, shapley_figure
from ifam.explanations.shapley_summary import summarise_shapley


def some(seed: int, drawn: bool = False) -> ShapleyValues:
    generator = np.random.default_rng(seed)
    values, nothing = generator.normal(size=(4, 3)), generator.normal(size=3)
    return ShapleyValues(
        values=values,
        standard_error=np.full((4, 3), 0.3 if drawn else 0.0),
        everything=nothing + values.sum(0),
        nothing=nothing,
        is_exact=not drawn,
    )


def test_in_favour_of_a_class() -> None:
    found = some(0).in_favour_of(1)
    assert found.values.sum() == pytest.approx(found.everything - found.nothing)
    assert sum(some(0).in_favour_of(index).values for index in range(3)) == pytest.approx(np.zeros(4))
    lifted = some(0)
    lifted.values[2] += 7  # a part that raises all logits alike says nothing
    assert lifted.in_favour_of(1).values == pytest.approx(found.values)


def test_the_error_of_drawn_orders_is_not_understated() -> None:
    """The variance of a difference of logits is largest where their errors are opposite."""
    error = some(0, drawn=True).in_favour_of(0).standard_error
    assert error == pytest.approx(np.full(4, 0.3 * (1 - 1 / 3) + 2 * 0.3 / 3))


def test_averages() -> None:
    found = [some(seed) for seed in range(5)]
    labels, groups = [0, 0, 1, 1, 1], [0, 2, 2, -1, 0]
    summary = summarise_shapley(found, labels, groups, ("a", "b", "c"), ("x", "y", "z"))
    own = np.stack([values.in_favour_of(label).values for values, label in zip(found, labels, strict=True)])
    assert summary.overall.values == pytest.approx(own.mean(0))
    assert summary.overall.standard_error == pytest.approx(own.std(0, ddof=1) / np.sqrt(5))
    assert list(summary.classes) == ["a", "b"]
    assert list(summary.groups) == ["x", "z"]
    assert summary.classes["b"].values == pytest.approx(own[2:].mean(0))
    assert summary.groups["z"].values == pytest.approx(own[1:3].mean(0))
    for mean in (summary.overall, *summary.classes.values(), *summary.groups.values()):
        assert mean.values.sum() == pytest.approx(mean.everything - mean.nothing)
    assert summary.drawing_error == 0
    assert summarise_shapley([some(0, drawn=True)], [0], [-1], ("a",)).drawing_error > 0
    with pytest.raises(UsageError, match="got 0 images"):
        summarise_shapley([], [], [], ("a",))
    with pytest.raises(UsageError, match="got 5 images, 4 labels"):
        summarise_shapley(found, labels[1:], groups, ("a",))


def widths(axes: Any) -> list[float]:
    return [float(bar.get_width()) for bar in axes.patches]


def test_bars_are_the_values_on_one_scale() -> None:
    panels = [
        ShapleyBars(title="$a_b$", values=np.array([1.0, -0.5])),
        ShapleyBars(title="b", values=np.array([4.0, 0.0]), error=np.array([0.5, 0.0])),
    ]
    figure = shapley_figure(panels)
    first, second = figure.axes
    assert (widths(first), widths(second)) == ([1.0, -0.5], [4.0, 0.0])
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[0] < -0.5
    assert first.get_xlim()[1] > 4.5
    assert first.get_title(loc="left") == "$a_b$"
    assert [label.get_text() for label in second.get_yticklabels()] == ["part 0", "part 1"]
    figure.canvas.draw()


def test_of_one_image() -> None:
    torch.manual_seed(0)
    model = ifam.IFAM("vit_tiny_patch16_224", num_parts=4, num_classes=3, image_size=64, pretrained=False).eval()
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    explanation = ifam.explain(model, pixels)
    values = explanation.shapley()
    expected = values.in_favour_of(explanation.index).values
    picture, bars = explanation.plot_shapley().axes
    assert len(picture.images) == 1
    assert widths(bars) == pytest.approx(expected)
    assert widths(values.plot().axes[0]) == pytest.approx(expected)
    assert widths(values.plot(0).axes[0]) == pytest.approx(values.in_favour_of(0).values)
