"""Where the work runs, and in which arithmetic."""

import os
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import TYPE_CHECKING

from ifam import __version__
from ifam.config import FixedPrecision, Precision
from ifam.errors import UsageError
from ifam.processes import started

if TYPE_CHECKING:
    import torch


PACKAGES = ("torch", "torchvision", "timm")
MEMORY = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "THP_MEM_ALLOC_ENABLE": "1"}


def arrange_memory() -> None:
    """Say how torch uses memory on CPUs, before it is loaded; what the environment says already stays.

    oneDNN makes kernels for each shape. Packed batches have a shape of their own nearly every time, and each takes some
    MB: by default up to 1,024 kernels are kept, hundreds of MB. And Linux hands out the memory of large tensors in
    pages of 2 MB instead of 4 KB, which costs the system a quarter of the time.
    """
    for name, value in MEMORY.items():
        os.environ.setdefault(name, value)


def pick_device(name: str) -> str:
    """A device of this machine; ``auto`` means the GPU if there is one; of several processes each gets its own.

    Raises:
        UsageError: a device that this machine does not have.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    processes = started(talking=False)
    if name == "cuda" and processes.several:
        name = f"cuda:{processes.local_rank}"
    try:
        found = torch.empty(0, device=name).device.type
    except (RuntimeError, AssertionError):  # the latter from a torch without CUDA
        found = None
    if found not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device: expected auto, cpu, cuda or mps on a machine that has it, got {name!r}")
    return name


def resolve_precision(precision: Precision, device: str) -> FixedPrecision:
    """What "auto" means on this machine: bfloat16 where it is fast, float32 elsewhere.

    Raises:
        UsageError: float16 on a CPU.
    """
    import torch

    if precision == "16-mixed" and device == "cpu":
        raise UsageError("precision: expected auto, 32-true or bf16-mixed on a CPU, got 16-mixed")
    if precision != "auto":
        return precision
    on_gpu = device != "cpu" and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return "bf16-mixed" if fast else "32-true"


def arithmetic(precision: Precision, device: "torch.device") -> AbstractContextManager[object]:
    """A block of inference in that precision."""
    import torch

    kinds = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = kinds[resolve_precision(precision, device.type)]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def describe_machine(device: "str | torch.device", precision: Precision) -> Mapping[str, str]:
    """Versions, device and precision of what is computed here, by name."""
    import torch

    kind = torch.device(device).type
    return {
        "ifam": __version__,
        **{name: version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device)
        if kind == "cuda"
        else f"{kind}, {torch.get_num_threads()} threads",
        "precision": resolve_precision(precision, kind),
    }
