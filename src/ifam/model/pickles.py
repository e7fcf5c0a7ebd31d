"""PyTorch's own files, which are pickles: read without executing what they may hold."""

import pickle
import warnings
import zipfile
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
        if _unpacks(path):
            raise CheckpointError(f"{path}: expected a file of torch.save, got one that unpacks to more than it is")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which torch has for odd files, before it refuses them
            return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of tensors only, got a pickle that would run code or is damaged; "
            "it was not executed: ask its author for .safetensors"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise anything, IndexError for one
        raise CheckpointError(f"{path}: expected a whole PyTorch checkpoint, got a damaged file") from error


def _unpacks(path: Path) -> bool:
    """Whether it is a zip with more in it than its bytes: torch compresses nothing, but would unpack it all."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
