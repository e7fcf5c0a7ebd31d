"""Thresholds for token removal, from the training split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ifam.config import QUANTILES, Precision
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import CheckpointError, DataError, UsageError
from ifam.model import mask as masking
from ifam.model.two_stage import IFAM
from ifam.output import REMEDY
from ifam.processes import ALONE, Processes


@torch.inference_mode()
def calibrate(
    model: IFAM,
    table: ImageTable,
    *,
    quantiles: Sequence[float] = QUANTILES,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    processes: Processes = ALONE,
) -> dict[float, list[float]]:
    """Store, for each part, the quantiles of the squared distance to its prototype over the tokens assigned to it.

    Test transform, no noise. Images that cannot be read are left out. Several ``processes`` share the images.

    Raises:
        UsageError: a quantile outside 0–1.
        DataError: no training split, or none of its images can be read.
        CheckpointError: distances that are no numbers.
    """
    outside = [q for q in quantiles if not 0 <= q <= 1]
    if outside:
        raise UsageError(f"quantiles: expected shares from 0 to 1, got {outside[0]}")
    model = model.to(device).eval()
    data = ImageDataModule.at_test_time(
        table, model.preprocessing, batch_size=batch_size, workers=workers, processes=processes
    )
    distances: list[list[Tensor]] = [[] for _ in range(model.num_parts)]
    for batch in data.loader("train"):
        if len(batch) == 0:
            continue
        with arithmetic(precision, torch.device(device)):
            logits = model.discover(batch.images.to(device)).part_logits
        if not logits.isfinite().all():
            raise CheckpointError(f"model: expected finite distances to its prototypes, got others; {REMEDY}")
        parts = masking.assign_parts(logits)
        for part, found in enumerate(distances):
            found.append(-logits[:, part][parts == part].cpu())
    everywhere = processes.gather([torch.cat(found) if found else torch.empty(0) for found in distances])
    if not sum(processes.gather(len(distances[0]))):
        raise DataError(f"{table.root}: expected training images that can be read, got none; see ifam doctor")
    model.token_thresholds = token_thresholds([torch.cat(found) for found in zip(*everywhere, strict=True)], quantiles)
    return model.token_thresholds


def token_thresholds(distances: Sequence[Tensor], quantiles: Sequence[float]) -> dict[float, list[float]]:
    """For each quantile one threshold per part; a part without tokens gets 0 and keeps none.

    ``distances``: for each part, the squared distances of its tokens.
    """
    return {q: [_quantile(values, q) for values in distances] for q in quantiles}


def _quantile(values: Tensor, q: float) -> float:
    """Linear interpolation as in ``torch.quantile``, which refuses more than 2²⁴ values."""
    if len(values) == 0:
        return 0.0
    ordered = values.double().sort().values
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (position - low) * (ordered[high] - ordered[low]))
