"""The two file formats: how a graph is written, and how a file is opened to be run."""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ifam.errors import ExportError, UsageError
from ifam.exporting.comparison import Exported
from ifam.exporting.graphs import ExportGraph
from ifam.exporting.int8 import SCOPES
from ifam.files import to_json

METADATA = "ifam.json"
"""where both kinds of file hold the description, as JSON: an extra file of .pt2, a metadata property of ONNX"""
ONNX_LIMIT = 2 * 1024**3
"""bytes: what a single protobuf file can hold"""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file."""

    suffix: str
    packages: tuple[str, ...]
    """beyond torch"""
    write: Callable[[ExportGraph, Path, Mapping[str, Any]], None]
    """the graph and its description into a file"""
    open: Callable[[Path], Exported]


def check_packages(format: Format) -> None:
    """Refuse before any work what could not be written or compared.

    Raises:
        UsageError: a package is missing.
    """
    missing = [name for name in format.packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"format: expected {', '.join(missing)} to be installed, got none; pip install 'ifam[export]'")


def _write_torch(graph: ExportGraph, path: Path, metadata: Mapping[str, Any]) -> None:
    with torch.no_grad():
        program = torch.export.export(graph, graph.everything(_example(graph)), dynamic_shapes=_any_number(graph))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # source lines, with their paths on this machine
    content = io.BytesIO()  # torch aborts the process where it cannot write to a file
    torch.export.save(program, content, extra_files={METADATA: to_json(metadata, ensure_ascii=False)})
    path.write_bytes(content.getbuffer())


def _open_torch(path: Path) -> Exported:
    module = torch.export.load(path).module()

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = module(*inputs)
        return outputs

    return run


def _write_onnx(graph: ExportGraph, path: Path, metadata: Mapping[str, Any]) -> None:
    size = sum(value.nbytes for value in graph.state_dict().values())
    if size > ONNX_LIMIT:
        raise ExportError(
            f"onnx: expected at most {ONNX_LIMIT:,} bytes of weights, which one file can hold, got {size:,}; "
            "choose --format torch"
        )
    with warnings.catch_warnings():
        # every input has this axis, which torch names after the first of them
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
        program = torch.onnx.export(
            graph,
            graph.everything(_example(graph)),
            dynamic_shapes=_any_number(graph),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
    assert program is not None
    program.model.metadata_props[METADATA] = to_json(metadata, ensure_ascii=False)
    for node in program.model.graph:
        scopes = node.metadata_props.get(SCOPES, "")
        node.metadata_props.clear()  # source lines, with their paths on this machine
        node.metadata_props[SCOPES] = scopes
    program.save(path)


def _open_onnx(path: Path) -> Exported:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))

    def run(*values: Tensor) -> dict[str, Tensor]:
        given = {name: value.numpy() for name, value in zip(inputs, values, strict=True)}
        return {name: torch.from_numpy(value) for name, value in zip(outputs, session.run(None, given), strict=True)}

    return run


def _example(graph: ExportGraph) -> Tensor:
    """Images to trace the graph with: two, since one would be taken for a constant."""
    return torch.zeros(2, 3, *graph.model.preprocessing.image_size)


def _any_number(graph: ExportGraph) -> tuple[dict[int, torch.export.Dim], ...]:
    """The first axis of every input is that of the images."""
    batch = torch.export.Dim("batch", min=1)
    return tuple({0: batch} for _ in graph.inputs)


FORMATS = {
    "onnx": Format(suffix=".onnx", packages=("onnx", "onnxscript", "onnxruntime"), write=_write_onnx, open=_open_onnx),
    "torch": Format(suffix=".pt2", packages=(), write=_write_torch, open=_open_torch),
}
