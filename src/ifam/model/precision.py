"""Where a model answers in float32 although a lower precision was asked for."""

from contextlib import AbstractContextManager, nullcontext

import torch


def float32_on_cpu(device: torch.device, *, training: bool) -> AbstractContextManager[object]:
    """Ends a CPU's autocast in eval mode, for small parts of the work whose rounding turns answers."""
    lowered = device.type == "cpu" and not training and torch.is_autocast_enabled("cpu")
    return torch.autocast("cpu", enabled=False) if lowered else nullcontext()
