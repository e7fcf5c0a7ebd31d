"""``ifam.export``: a model as one file for other programs, compared with the model before it is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ifam.data.transforms import test_transform
from ifam.errors import ExportError, IfamError, UsageError, first_line
from ifam.exporting.comparison import Comparison, compare
from ifam.exporting.formats import FORMATS, METADATA, Format, check_packages
from ifam.exporting.graphs import ExportGraph, make_graph
from ifam.exporting.int8 import round_weights
from ifam.exporting.metadata import describe_export
from ifam.files import NO_ROOM, replacing
from ifam.model.base import Classifier
from ifam.outputs import containing, make_room_for
from ifam.preprocessing import Preprocessing
from ifam.scenes.scene import Recipe, draw
from ifam.storage import weights_sha256

BATCHES = (1, 3, 8)
"""of drawn images, to compare on"""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A file that was written, and how it compares with the model."""

    path: Path
    num_bytes: int
    comparison: Comparison
    """in float32"""
    rounded: Comparison | None = None
    """of the file itself, where its weights were rounded to int8 afterwards"""


def export(model: Classifier, path: str | Path, format: str = "onnx", *, int8: bool = False) -> ExportResult:
    """Write ``model`` to one file that runs without this package, for any number of images of the model's own size.

    Inputs and outputs are named, see `ifam.exporting.graphs`: of a model with parts, images and which parts are on, to
    logits, mask, parts, part maps and share kept. Preprocessing, class names and what is guaranteed stand in its
    metadata, see `ifam.exporting.metadata`. Only a file that says the same as the model appears at ``path``: both are
    run on drawn images, in batches of 1, 3 and 8, with all parts on, none, and some.

    ``format``: "onnx" (run by onnxruntime) or "torch" (``torch.export``). ``int8``: of an ONNX file, rounds the
    weights of the transformers afterwards; how much that changes is in the result.

    Raises:
        UsageError: a format, file name or model that cannot be, or a missing package.
        ExportError: the file says something else than the model.

    Example:
        >>> import ifam, tempfile
        >>> model = ifam.IFAM("vit_tiny_patch16_224", num_parts=2, num_classes=2, image_size=64, pretrained=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = ifam.export(model, f"{folder}/model.pt2", format="torch")
        >>> result.comparison.moved
        0
    """
    path = Path(path)
    kind = _check(path, format, int8=int8)
    graph = make_graph(model)
    description = describe_export(graph, sha256=weights_sha256(model), int8=int8)
    images = drawn_images(model.preprocessing, max(BATCHES))
    batches = [images[:size] for size in BATCHES]
    with replacing(path) as temporary:
        _write(kind, graph, temporary, description)
        comparison = compare(graph, kind.open(temporary), batches)
        comparison.require_equal(str(path))
        rounded = None
        if int8:
            round_weights(temporary)
            rounded = compare(graph, kind.open(temporary), batches, hold_masks=False)
        num_bytes = temporary.stat().st_size
    return ExportResult(path=path, num_bytes=num_bytes, comparison=comparison, rounded=rounded)


def _write(kind: Format, graph: ExportGraph, path: Path, description: Mapping[str, Any]) -> None:
    try:
        kind.write(graph, path, description)
    except IfamError:
        raise
    except Exception as error:  # torch's exporters raise many kinds
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise ExportError(
            f"export: expected a model that torch can export, got {type(error).__name__}: {first_line(error)}; try the "
            "other format"
        ) from error


def drawn_images(preprocessing: Preprocessing, number: int) -> Tensor:
    """Animals before places, always the same, as a model sees them: (number, 3, H, W)."""
    view = test_transform(preprocessing)
    return torch.stack(
        [
            view(draw(Recipe(label=index % 2, place=index // 2 % 2, animal=(index,), background=(index,))).image)
            for index in range(number)
        ]
    )


def _check(path: Path, format: str, *, int8: bool) -> Format:
    """Refuse before any work what cannot be."""
    if format not in FORMATS:
        raise UsageError(f"format: expected {' or '.join(FORMATS)}, got {format!r}")
    kind = FORMATS[format]
    if path.suffix != kind.suffix:
        raise UsageError(f"out: expected a name ending in {kind.suffix} for the format {format}, got {str(path)!r}")
    if int8 and format != "onnx":
        raise UsageError(f"int8: expected the format onnx, got {format}")
    check_packages(kind)
    make_room_for(path, containing(METADATA))
    return kind
