"""Weights of the transformers as int8, activations as float32: onnxruntime's own rounding, block by block."""

from pathlib import Path

BLOCK = 32
"""weights of one column that share a scale"""


def round_weights(path: Path) -> None:
    """Round the linear layers of the transformer blocks of an ONNX file in place.

    What decides between parts and between classes stays as it is: prototypes and classification layers are small, and
    a squared distance of 2,000 leaves no digits to lose. The file then needs onnxruntime's operator MatMulNBits.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # type: ignore[import-untyped]
        MatMulNBitsQuantizer,
    )

    model = onnx.load(path)
    others = [node.name for node in model.graph.node if not _in_a_block(node)]
    quantizer = MatMulNBitsQuantizer(model, bits=8, block_size=BLOCK, is_symmetric=True, nodes_to_exclude=others)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path), False)


def _in_a_block(node: "NodeProto") -> bool:
    return True
