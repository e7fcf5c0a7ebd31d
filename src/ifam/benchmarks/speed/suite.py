"""Which cases there are, on a CPU and on a GPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ifam.benchmarks.speed.cases import (
    Bench,
    Measurement,
    Setting,
    inference,
    leave_one_out,
    precisions,
    training,
    training_memory,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question, asked in several settings."""

    title: str
    measure: Callable[[Setting, Bench], Measurement]
    settings: Sequence[Setting]


def _evenly(base: Setting, *shares: float) -> list[Setting]:
    """The same share in every image of the batch."""
    return [replace(base, kept=(share,) * len(base.kept)) for share in shares]


def on_cpu() -> Mapping[str, Case]:
    """Sizes that two cores do in seconds."""
    base = Setting(backbone="vit_base_patch14_reg4_dinov2", image_size=224, kept=(1.0, *(0.3,) * 7))
    large = Setting(backbone="vit_small_patch14_reg4_dinov2", image_size=518, kept=(1.0, 0.1))
    small = replace(large, image_size=224, kept=(0.3,) * 8)
    trained = replace(small, backbone="vit_small_patch14_dinov2")
    return {
        "inference": Case(
            title="Inference",
            measure=inference,
            settings=[base, *_evenly(base, 0.3), large, *_evenly(large, 0.1, 0.3, 0.5, 1.0)],
        ),
        "image-size": Case(
            title="Image size",
            measure=inference,
            settings=[replace(small, image_size=size, kept=(0.3,) * 2) for size in (224, 336, 448, 518)],
        ),
        "batch": Case(
            title="Batch size; latency at one image",
            measure=inference,
            settings=[replace(small, kept=(0.3,) * batch) for batch in (1, 2, 4, 8, 16)],
        ),
        "parts": Case(
            title="Number of parts",
            measure=inference,
            settings=[replace(small, num_parts=k) for k in (1, 4, 16)],
        ),
        "precision": Case(title="bfloat16 against float32", measure=precisions, settings=[base]),
        "leave-one-out": Case(
            title="Leave-one-out", measure=leave_one_out, settings=[replace(small, kept=(0.3,) * 64)]
        ),
        "training": Case(title="Training step", measure=training, settings=[trained]),
        "memory": Case(
            title="Peak memory of a training step",
            measure=training_memory,
            settings=[replace(trained, image_size=518, kept=(0.3,) * 2)],
        ),
    }


def on_gpu() -> Mapping[str, Case]:
    """The published size, in bfloat16."""
    base = Setting(backbone="vit_base_patch14_reg4_dinov2", image_size=518, kept=(0.3,) * 64, precision="bf16-mixed")
    uneven = replace(base, kept=(1.0, *(0.3,) * 63))
    return {
        "inference": Case(title="Inference", measure=inference, settings=[uneven, *_evenly(base, 0.1, 0.3, 0.5, 1.0)]),
        "image-size": Case(
            title="Image size",
            measure=inference,
            settings=[replace(base, image_size=size) for size in (224, 336, 448, 518)],
        ),
        "batch": Case(
            title="Batch size; latency at one image",
            measure=inference,
            settings=[replace(base, kept=(0.3,) * batch) for batch in (1, 4, 16, 64, 128)],
        ),
        "parts": Case(
            title="Number of parts", measure=inference, settings=[replace(base, num_parts=k) for k in (1, 4, 16)]
        ),
        "precision": Case(title="bfloat16 against float32", measure=precisions, settings=[base]),
        "leave-one-out": Case(title="Leave-one-out", measure=leave_one_out, settings=[base]),
        "training": Case(title="Training step", measure=training, settings=[replace(base, kept=(0.3,) * 16)]),
        "memory": Case(
            title="Peak memory of a training step",
            measure=training_memory,
            settings=[replace(base, kept=(0.3,) * 16)],
        ),
    }
