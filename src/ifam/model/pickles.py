"""PyTorch's own files, which are pickles: read without executing what they may hold."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ifam.errors import CheckpointError


def read_pickle(path: Path, *, mmap: bool = False) -> Any:
    """What a ``.pt`` or ``.ckpt`` file holds, on the CPU; ``mmap``: tensors stay on the disk until they are used.

    Raises:
        CheckpointError: the file is missing or damaged, or is a pickle that would run code: it is not run.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a checkpoint, found no file; check the path")
    try:
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of tensors only, got a pickle that would run code or is damaged; "
            "it was not executed: ask its author for .safetensors"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise anything, IndexError for one
        raise CheckpointError(f"{path}: expected a whole PyTorch checkpoint, got a damaged file") from error
