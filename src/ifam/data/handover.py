"""How a batch comes from a loader process to the main one: in memory of its own, wherever the system has such memory.

Torch hands tensors over in /dev/shm, of which containers have 64 MB unless asked for more; a batch that finds no room
there is lost while the main process waits for it. Anonymous files in memory (``memfd``) know no such limit. And what is
sent of a batch is so short that it arrives whole or not at all, also from a process that is killed while it sends.
"""

import io
import mmap
import os
import pickle
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ifam.data.batch import Batch, Item, Unreadable, collate
from ifam.data.workers import worker_ended
from ifam.errors import first_line

ALIGNED = 64
"""bytes, as torch places tensors"""


def collate_and_hand_over(items: Sequence[Item | Unreadable]) -> "Batch | Parcel":
    """The batch of the items; of a loader process a parcel, which is the batch when the main process opens it."""
    batch = collate(items)
    return Parcel(batch) if get_worker_info() is not None and hasattr(os, "memfd_create") else batch


class Parcel:
    """Any value with its tensors, written to memory here and now, so that what fails is an error of this call."""

    def __init__(self, value: object) -> None:
        text, tensors = io.BytesIO(), list[pickle.PickleBuffer]()
        _Pickler(text, protocol=5, buffer_callback=tensors.append).dump(value)
        with open(os.memfd_create("batch"), "wb") as file:
            self.spans = [_append(file, piece) for piece in (text.getbuffer(), *(each.raw() for each in tensors))]
            file.flush()
            self.memory: Any = reduction.DupFd(file.fileno())

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return unpack, (self.memory, self.spans)


def unpack(memory: Any, spans: Sequence[tuple[int, int]]) -> object:
    """What was packed. Its tensors lie in the memory of the parcel, which goes with the last of them.

    Raises:
        WorkerError: the process that packed it was killed before it handed the memory over.
    """
    try:
        descriptor = memory.detach()
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # before the system says that it has ended
        raise worker_ended(first_line(error)) from error
    try:
        content = memoryview(mmap.mmap(descriptor, 0))
    finally:
        os.close(descriptor)
    text, *tensors = (content[start:stop] for start, stop in spans)
    return pickle.loads(text, buffers=tensors)


class _Pickler(pickle.Pickler):
    """Tensors by way of arrays, whose pixels it leaves out of the text."""

    def reducer_override(self, value: object) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _append(file: Any, piece: memoryview) -> tuple[int, int]:
    """Where it starts and where it ends."""
    start = -(-file.tell() // ALIGNED) * ALIGNED
    file.seek(start)
    file.write(piece)
    return start, start + piece.nbytes
