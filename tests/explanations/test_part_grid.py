"""Pictures of the same images side by side: what stands in each panel, and the script that draws several runs."""

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import write_scenes
from matplotlib.figure import Figure

from ifam.data.read import read_table
from ifam.errors import UsageError
from ifam.explanations.explanation import explain
from ifam.explanations.figures import overlay_parts
from ifam.explanations.part_grid import across_models_figure, token_removal_figure
from ifam.model.two_stage import IFAM
from ifam.storage import save

SCRIPT = Path(__file__).parents[2] / "benchmarks/across_parts.py"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [sample.path for sample in read_table(write_scenes(tmp_path / "data")).select("test").samples[:2]]


def panels(figure: Figure) -> list[list[Any]]:
    """What is drawn, in two rows."""
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    half = len(drawn) // 2
    return [drawn[:half], drawn[half:]]


def thresholds(model: IFAM, paths: list[Path]) -> None:
    """Between the distances of the tokens of the first image, so that each quantile removes more."""
    distances = np.sort(-explain(model, paths[0])._discovery.part_logits[0, :-1].amax(0).numpy().ravel())
    model.token_thresholds = {0.9: [float(distances[2])] * 3, 0.99: [float(distances[6])] * 3}


def test_before_and_after_unsure_tokens_go(make_model: Any, paths: list[Path]) -> None:
    model = make_model(num_classes=2, image_size=48)
    thresholds(model, paths)
    figure = token_removal_figure(model, paths)
    headings = [axis.get_title() for axis in figure.axes[:4]]
    assert headings == ["photograph", "parts", "without tokens\nbeyond q = 0.99", "without tokens\nbeyond q = 0.9"]
    kept = set()
    for path, row in zip(paths, panels(figure), strict=True):
        found = explain(model, path)
        np.testing.assert_array_equal(row[0], found.image)
        for panel, quantile in zip(row[1:], (None, 0.99, 0.9), strict=True):
            after = found if quantile is None else found.without(token_quantile=quantile)
            np.testing.assert_array_equal(panel, overlay_parts(after.image, after.parts, 3))
            kept.add(after.kept)
    assert len(kept) > 1, "something was removed"
    model.token_thresholds = {}
    with pytest.raises(UsageError, match="ifam calibrate"):
        token_removal_figure(model, paths)
    with pytest.raises(UsageError, match="expected images"):
        across_models_figure({"a": model}, [])


def test_the_same_images_across_numbers_of_parts(
    make_model: Any, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {f"K = {k}": make_model(num_classes=2, num_parts=k, image_size=48) for k in (1, 4, 8)}
    rows = panels(across_models_figure(models, paths))
    for path, row in zip(paths, rows, strict=True):
        for panel, model in zip(row[1:], models.values(), strict=True):
            np.testing.assert_array_equal(panel, overlay_parts(row[0], explain(model, path).parts, model.num_parts))
    folders = [tmp_path / f"run{number}" for number in range(3)]
    for folder, model in zip(folders, models.values(), strict=True):
        save(model, folder)
    arguments = [str(tmp_path / "data"), *map(str, folders), "--figure", str(tmp_path / "across.png"), "--images", "2"]
    monkeypatch.setattr(sys, "argv", ["across_parts.py", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert (tmp_path / "across.png").stat().st_size > 10_000
