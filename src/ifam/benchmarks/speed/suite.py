"""Which cases there are, on a CPU and on a GPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ifam.benchmarks.speed.around import loading, processes
from ifam.benchmarks.speed.cases import (
    Bench,
    Measurement,
    Setting,
    compiled_training,
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
    return _cases(
        {
            "inference": [base, *_evenly(base, 0.3), large, *_evenly(large, 0.1, 0.3, 0.5, 1.0)],
            "image-size": [replace(small, image_size=size, kept=(0.3,) * 2) for size in (224, 336, 448, 518)],
            "batch": [replace(small, kept=(0.3,) * batch) for batch in (1, 2, 4, 8, 16)],
            "parts": [replace(small, num_parts=k) for k in (1, 4, 16)],
            "precision": [base],
            "leave-one-out": [replace(small, kept=(0.3,) * 64)],
            "training": [trained],
            "compile": [trained, replace(trained, precision="bf16-mixed")],
            "memory": [replace(trained, image_size=518, kept=(0.3,) * 2)],
            "processes": [small, replace(small, precision="bf16-mixed")],
            "loading": [small],
        }
    )


def on_gpu() -> Mapping[str, Case]:
    """The published size, in bfloat16."""
    base = Setting(backbone="vit_base_patch14_reg4_dinov2", image_size=518, kept=(0.3,) * 64, precision="bf16-mixed")
    uneven = replace(base, kept=(1.0, *(0.3,) * 63))
    trained = replace(base, kept=(0.3,) * 16)
    return _cases(
        {
            "inference": [uneven, *_evenly(base, 0.1, 0.3, 0.5, 1.0)],
            "image-size": [replace(base, image_size=size) for size in (224, 336, 448, 518)],
            "batch": [replace(base, kept=(0.3,) * batch) for batch in (1, 4, 16, 64, 128)],
            "parts": [replace(base, num_parts=k) for k in (1, 4, 16)],
            "precision": [base],
            "leave-one-out": [base],
            "training": [trained],
            "compile": [trained],
            "memory": [trained],
            "loading": [trained],
        }
    )


def _cases(settings: Mapping[str, Sequence[Setting]]) -> Mapping[str, Case]:
    """What is asked in these settings, by the name of the case."""
    return {
        name: Case(title=title, measure=measure, settings=settings[name])
        for name, (title, measure) in _ASKED.items()
        if name in settings
    }


_ASKED: Mapping[str, tuple[str, Callable[[Setting, Bench], Measurement]]] = {
    "inference": ("Inference", inference),
    "image-size": ("Image size", inference),
    "batch": ("Batch size; latency at one image", inference),
    "parts": ("Number of parts", inference),
    "precision": ("bfloat16 against float32", precisions),
    "leave-one-out": ("Leave-one-out", leave_one_out),
    "training": ("Training step", training),
    "compile": ("Training step, compiled", compiled_training),
    "memory": ("Peak memory of a training step", training_memory),
    "processes": ("Several processes on one machine", processes),
    "loading": ("Loading training images", loading),
}
