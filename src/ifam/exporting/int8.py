"""Weights of the transformers as int8, activations as float32: onnxruntime's own rounding, block by block."""

import logging
from pathlib import Path
from typing import Any

from ifam.errors import UsageError

SCOPES = "pkg.torch.onnx.name_scopes"
"""where the nodes of an ONNX file say which layer they are of"""
BLOCK = 32
"""weights of one column that share a scale"""


def round_weights(path: Path) -> None:
    """Round the linear layers of the transformers in an ONNX file, in place.

    What decides between parts and between classes stays as it is: prototypes and classification layers are small, and
    a squared distance of 2,000 has no digits to lose. The file then needs onnxruntime's operator MatMulNBits.

    Raises:
        UsageError: there is no such layer.
    """
    import onnx

    model = onnx.load(path)
    others = [node.name for node in model.graph.node if ".blocks." not in _layer(node)]
    if len(others) == len(model.graph.node):
        raise UsageError("int8: expected a transformer, whose linear layers are rounded, got another network")
    quantizer = _quantizer()(model, bits=8, block_size=BLOCK, is_symmetric=True, nodes_to_exclude=others)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path), False)


def _layer(node: Any) -> str:
    scopes: list[str] = [entry.value for entry in node.metadata_props if entry.key == SCOPES]
    return "".join(scopes)


def _quantizer() -> Any:
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # or that module would set up the logging of the whole program
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import (  # type: ignore[import-untyped]
            MatMulNBitsQuantizer,
        )
    finally:
        root.removeHandler(handler)
    return MatMulNBitsQuantizer
