"""What an exported file says about itself: enough to feed it and to read its answer without this package."""

from typing import Any

from ifam import __version__
from ifam.exporting.graphs import ExportGraph, PartsGraph
from ifam.model_card import guarantee
from ifam.preprocessing import Preprocessing


def describe_export(graph: ExportGraph, *, sha256: str, int8: bool) -> dict[str, Any]:
    """Plain values by name. ``sha256``: of the weights."""
    model, preprocessing = graph.model, graph.model.preprocessing
    description = {
        "ifam_version": __version__,
        "model": type(model).__name__,
        "weights_sha256": sha256,
        "weights": "int8 in the linear layers of the transformers (MatMulNBits of onnxruntime), else float32"
        if int8
        else "float32",
        "class_names": model.class_names,
        **preprocessing.to_dict(),
        "preprocessing": describe_preprocessing(preprocessing),
        "inputs": dict(graph.inputs),
        "outputs": dict(graph.outputs),
        "guarantee": guarantee(model),
    }
    if isinstance(graph, PartsGraph):
        description["num_parts"] = graph.model.num_parts
        description["grid"] = list(graph.model.stage1.grid(preprocessing.image_size))
    return description


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """What is done to a photograph, in words."""
    height, width = preprocessing.image_size
    covered = " × ".join(f"{int(side / preprocessing.crop_ratio)}" for side in (height, width))
    cut = f"the {height} × {width} in the centre" if preprocessing.crop_ratio < 1 else "the centre"
    resize = {
        "crop": f"scaled, its sides in proportion, until it covers {covered} pixels, and {cut} cut out",
        "squash": f"scaled to {height} × {width} pixels, each side on its own",
    }[preprocessing.resize]
    return (
        f"upright, in RGB; {resize} (height × width; bicubic with antialiasing); divided by 255; minus mean, divided "
        "by std, channel by channel; channels first"
    )
