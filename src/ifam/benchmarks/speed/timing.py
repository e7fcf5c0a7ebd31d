"""Seconds, bytes and operations of pieces of work."""

import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ifam.model.linear import linear

Work = Callable[[], object]


def in_turn(sides: Mapping[str, Work], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each side: all of them in every round, one after the other, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            wait(device)
            start = time.perf_counter()
            work()
            wait(device)
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def is_cuda(device: str) -> bool:
    """Whether it is a GPU, named with its number or without."""
    return torch.device(device).type == "cuda"


def wait(device: str) -> None:
    """For the work that the device still has before it."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Of each side."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def operations(work: Work) -> int:
    """Floating-point operations of the matrix products in ``work``, attention included."""
    counter = FlopCounterMode(display=False)
    onednn: Any = torch.backends.mkldnn
    enabled, onednn.enabled = onednn.enabled, False  # whose products the counter does not know
    try:
        with counter, sdpa_kernel(SDPBackend.MATH):
            work()
    finally:
        onednn.enabled = enabled
    total: int = counter.get_total_flops()
    return total


def matrix_product_rate(rows: int, width: int, dtype: torch.dtype, device: str, rounds: int = 5) -> float:
    """Operations a second of the product that transformers are made of: (rows, width) by (width, 4 · width)."""
    left = torch.randn(rows, width, device=device, dtype=dtype)
    right = torch.randn(4 * width, width, device=device, dtype=dtype)
    repeats = max(1, int(2e13 if is_cuda(device) else 2e10) // (8 * rows * width * width))

    def products() -> None:
        for _ in range(repeats):
            linear(left, right)

    seconds = in_turn({"product": products}, rounds, device)["product"]
    return repeats * 8 * rows * width * width / min(seconds)


def peak_memory(work: Callable[..., Work], arguments: tuple[Any, ...], device: str) -> int:
    """Bytes that ``work(*arguments)()`` needs at most beyond what was there before it.

    On a CPU, in a process of its own, of which the operating system keeps the highest resident size.
    """
    if is_cuda(device):
        prepared = work(*arguments)
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        prepared()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_here, args=(work, arguments, sender))
    process.start()
    sender.close()
    try:
        peak: int = receiver.recv()
    finally:
        process.join()
    return peak


def _measure_here(work: Callable[..., Work], arguments: tuple[Any, ...], sender: Any) -> None:
    prepared = work(*arguments)
    before = resident()
    prepared()
    sender.send(highest_resident() - before)


def resident() -> int:
    """Bytes of this process in memory, where the system says so; else at most so far."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        return highest_resident()
    return int(pages.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def highest_resident() -> int:
    """Bytes of this process in memory, at most so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
