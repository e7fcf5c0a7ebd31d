"""What each part is: the images that have most of it, and what the model scores without it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ifam.config import Precision
from ifam.data.batch import require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.explanations.explanation import to_photograph
from ifam.explanations.figures import overlay_parts
from ifam.model.two_stage import IFAM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PartExample:
    """One image of a part."""

    name: str
    image: Pixels
    """(H, W, 3): as the model sees it"""
    parts: NDArray[np.int64]
    """(h, w): K = background"""
    share: float
    """of the image that is this part"""


@dataclass(frozen=True, kw_only=True)
class PartGallery:
    """The images that have most of each part, largest share first, and each part's mean share over all images."""

    examples: Sequence[Sequence[PartExample]]
    mean_shares: Sequence[float]
    num_images: int


@torch.inference_mode()
def part_gallery(
    model: IFAM,
    table: ImageTable,
    *,
    split: str = "val",
    per_part: int = 6,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    progress: Callable[[int, int], None] | None = None,
) -> PartGallery:
    """Look through a split; only the best ``per_part`` images of each part are kept in memory."""
    data = ImageDataModule(
        table, model.preprocessing, augmentation="none", batch_size=batch_size, workers=workers, seed=0
    )
    samples = table.select(split).samples
    model = model.to(device).eval()
    best: list[list[PartExample]] = [[] for _ in range(model.num_parts)]
    totals = torch.zeros(model.num_parts, dtype=torch.float64)
    done = 0
    for batch in data.loader(split):
        require_readable(batch, skip_unreadable=False)
        with arithmetic(precision, torch.device(device)):
            discovery = model.discover(batch.images.to(device))
        parts = model.select(discovery).parts.cpu()
        shares = torch.stack([(parts == part).flatten(1).double().mean(1) for part in range(model.num_parts)], dim=1)
        totals += shares.sum(0)
        for part, found in enumerate(best):
            for row in shares[:, part].argsort(descending=True, stable=True)[:per_part].tolist():
                share = float(shares[row, part])
                if share == 0 or (len(found) == per_part and share <= found[-1].share):
                    break
                found.append(
                    PartExample(
                        name=samples[int(batch.indices[row])].name,
                        image=to_photograph(batch.images[row], model.preprocessing),
                        parts=parts[row].numpy(),
                        share=share,
                    )
                )
                found.sort(key=lambda example: -example.share)
                del found[per_part:]
        done += len(batch)
        if progress is not None:
            progress(done, len(samples))
    return PartGallery(examples=best, mean_shares=(totals / max(done, 1)).tolist(), num_images=done)


def gallery_figure(gallery: PartGallery, num_parts: int, notes: Mapping[int, str] | None = None) -> "Figure":
    """A row for each part: its number, mean share and note, and its images with that part alone in colour."""
    from matplotlib.figure import Figure

    columns = max(1, *(len(examples) for examples in gallery.examples))
    figure = Figure(figsize=(2.7 + 1.25 * columns, 1.35 * num_parts), dpi=110, layout="constrained")
    rows = figure.subplots(num_parts, columns + 1, squeeze=False, width_ratios=[2.1, *[1.0] * columns])
    for part, axes in enumerate(rows):
        for panel in axes:
            panel.set_axis_off()
        note = (notes or {}).get(part, "")
        heading = f"part {part}\n{gallery.mean_shares[part]:.1%} of the image\n{note}"
        axes[0].text(0, 0.5, heading, fontsize=8, va="center", transform=axes[0].transAxes, parse_math=False)
        for panel, example in zip(axes[1:], gallery.examples[part], strict=False):
            panel.imshow(_alone(example, part, num_parts))
    return figure


def _alone(example: PartExample, part: int, num_parts: int) -> Any:
    return overlay_parts(example.image, np.where(example.parts == part, part, num_parts), num_parts)
