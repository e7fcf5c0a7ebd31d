"""The two file formats: how a graph is written, and how a file is opened to be run."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ifam.errors import ExportError, UsageError
from ifam.exporting.comparison import Exported
from ifam.exporting.graphs import ExportGraph

METADATA = "ifam.json"
"""name of the description inside a .pt2 file"""
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
    text = json.dumps(metadata, ensure_ascii=False)
    torch.export.save(_trace(graph), path, extra_files={METADATA: text})


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
    with _quiet():
        program = torch.onnx.export(
            _trace(graph),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
    assert program is not None
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    program.model.metadata_props.update(texts)
    program.save(path)


def _open_onnx(path: Path) -> Exported:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))

    def run(*values: Tensor) -> dict[str, Tensor]:
        given = {name: value.numpy() for name, value in zip(inputs, values, strict=True)}
        return {name: torch.from_numpy(value) for name, value in zip(outputs, session.run(None, given), strict=True)}

    return run


def _trace(graph: ExportGraph) -> torch.export.ExportedProgram:
    """The graph for any number of images."""
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in graph.inputs)
    images = torch.zeros(2, 3, *graph.model.preprocessing.image_size)
    with torch.no_grad():
        return torch.export.export(graph, graph.everything(images), dynamic_shapes=shapes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(torch|onnx|copyreg)")
            yield
    finally:
        logger.setLevel(level)


FORMATS = {
    "onnx": Format(suffix=".onnx", packages=("onnx", "onnxscript", "onnxruntime"), write=_write_onnx, open=_open_onnx),
    "torch": Format(suffix=".pt2", packages=(), write=_write_torch, open=_open_torch),
}
