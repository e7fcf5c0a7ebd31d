"""What each part is: the images that have most of it, and what the model scores without it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifam.config import Precision
from ifam.data.batch import require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.explanations.explanation import to_photograph
from ifam.explanations.figures import overlay_parts
from ifam.explanations.fonts import use_fonts_for
from ifam.model.two_stage import IFAM
from ifam.preprocessing import Preprocessing

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


class GalleryBuilder:
    """A gallery in the making, batch by batch: only the best ``per_part`` images of each part are kept in memory."""

    def __init__(self, num_parts: int, preprocessing: Preprocessing, per_part: int) -> None:
        self._preprocessing, self._per_part = preprocessing, per_part
        self._best: list[list[PartExample]] = [[] for _ in range(num_parts)]
        self._totals = torch.zeros(num_parts, dtype=torch.float64)
        self._done = 0

    def add(self, images: Tensor, parts: Tensor, names: Sequence[str]) -> None:
        """``images`` (B, 3, H, W), normalised; ``parts`` (B, h, w) int, on the CPU."""
        shares = part_shares(parts, len(self._best))
        for part, found in enumerate(self._best):
            for row in shares[:, part].argsort(descending=True, stable=True)[: self._per_part].tolist():
                share = float(shares[row, part])
                if share == 0 or (len(found) == self._per_part and share <= found[-1].share):
                    break
                image = to_photograph(images[row], self._preprocessing)
                found.append(PartExample(name=names[row], image=image, parts=parts[row].numpy(), share=share))
                found.sort(key=lambda example: -example.share)
                del found[self._per_part :]
        self._totals += shares.sum(0)
        self._done += len(parts)

    def gallery(self) -> PartGallery:
        """Of everything that was added."""
        means = (self._totals / max(self._done, 1)).tolist()
        return PartGallery(examples=self._best, mean_shares=means, num_images=self._done)


def part_shares(parts: Tensor, num_parts: int) -> Tensor:
    """Share of each image that is each part, (B, K) float64. ``parts``: (B, h, w) int, K for the background."""
    return torch.stack([(parts == part).flatten(1).double().mean(1) for part in range(num_parts)], dim=1)


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
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PartGallery:
    """Look through a split.

    Raises:
        DataError: no such split, or an unreadable image.
    """
    data = ImageDataModule.at_test_time(table, model.preprocessing, batch_size=batch_size, workers=workers)
    samples = table.select(split).samples
    model = model.to(device).eval()
    builder = GalleryBuilder(model.num_parts, model.preprocessing, per_part)
    done = 0
    for batch in data.loader(split):
        require_readable(batch, skip_unreadable=skip_unreadable)
        if len(batch):
            with arithmetic(precision, torch.device(device)):
                discovery = model.discover(batch.images.to(device))
            names = [samples[index].name for index in batch.indices.tolist()]
            builder.add(batch.images, model.select(discovery).parts.cpu(), names)
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(samples))
    return builder.gallery()


def gallery_figure(gallery: PartGallery, num_parts: int, notes: Mapping[int, str] | None = None) -> "Figure":
    """A row for each part: its number, mean share and note, and its images with that part alone in colour."""
    from matplotlib.figure import Figure

    columns = max(1, *(len(examples) for examples in gallery.examples))
    figure = Figure(figsize=(1.75 + 1.25 * columns, 1.35 * num_parts), dpi=110, layout="constrained")
    rows = figure.subplots(num_parts, columns + 1, squeeze=False, width_ratios=[1.35, *[1.0] * columns])
    for part, axes in enumerate(rows):
        for panel in axes:
            panel.set_axis_off()
        share = f"{gallery.mean_shares[part]:.1%} of the image" if gallery.examples[part] else "in no image"
        heading = f"part {part}\n{share}\n{(notes or {}).get(part, '')}"
        axes[0].text(0, 0.5, heading, fontsize=8, va="center", transform=axes[0].transAxes, parse_math=False)
        for panel, example in zip(axes[1:], gallery.examples[part], strict=False):
            panel.imshow(part_alone(example, part, num_parts))
    use_fonts_for(figure)
    return figure


def part_alone(example: PartExample, part: int, num_parts: int) -> Pixels:
    """The image with that part alone in colour, (H, W, 3)."""
    return overlay_parts(example.image, np.where(example.parts == part, part, num_parts), num_parts)
