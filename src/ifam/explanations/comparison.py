"""Two classifiers on the same images: the one that sees everything, and iFAM with its reasons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ifam.data.transforms import test_transform
from ifam.explanations.explanation import explain, read_image
from ifam.explanations.figures import overlay_mask, overlay_parts
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.output import probabilities_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "#009E73", "#D55E00"


def comparison_figure(images: Mapping[str, Path], truths: Sequence[str], plain: Classifier, model: IFAM) -> "Figure":
    """A row for each image: the photograph, its parts, what stage 2 saw, and what both classifiers answer.

    ``images``: by the title of the row; ``truths``: their true classes.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(10, 2.3 * len(images)), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    rows = figure.subplots(len(images), 4, squeeze=False)
    for axes, (title, path), truth in zip(rows, images.items(), truths, strict=True):
        explanation = explain(model, path)
        pictures = {
            title: explanation.image,
            "parts": overlay_parts(explanation.image, explanation.parts, model.num_parts),
            f"seen by stage 2: {explanation.kept:.0%}": overlay_mask(explanation.image, explanation.pixels),
        }
        for panel, (name, picture) in zip(axes, pictures.items(), strict=False):
            panel.imshow(picture)
            panel.set_title(name, fontsize=9, loc="left", parse_math=False)
            panel.set_axis_off()
        answers = {"plain": _probabilities(plain, path), "iFAM": explanation.probabilities}
        _answers(axes[-1], answers, model.class_names, truth)
    return figure


@torch.inference_mode()
def _probabilities(model: Classifier, path: Path) -> Any:
    view = test_transform(model.preprocessing)(read_image(path))[None].to(next(model.parameters()).device)
    return probabilities_of(model(view))[0].cpu().numpy()


def _answers(axes: "Axes", answers: Mapping[str, Any], class_names: Sequence[str], truth: str) -> None:
    """One bar for each classifier: its answer and how sure it is, green where right."""
    for row, (name, probabilities) in enumerate(answers.items()):
        index = int(probabilities.argmax())
        color = RIGHT if class_names[index] == truth else WRONG
        axes.barh(row, 1, height=0.35, color="#E8E8E8")
        axes.barh(row, probabilities[index], height=0.35, color=color)
        verdict = "right" if color == RIGHT else "wrong"
        text = f"{name}: {class_names[index]} {probabilities[index]:.0%}, {verdict}"
        axes.text(0, row - 0.25, text, fontsize=9, va="bottom", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(answers) - 0.5, -0.9))
    axes.set_box_aspect(0.7)
    axes.set_title(f"truth: {truth}", fontsize=9, loc="left", parse_math=False)
    axes.set_axis_off()
