"""One row: one explainer on one model, measured on photographs. Shapes: N photographs, B of a batch, h×w token grid."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ifam.benchmarks.faithfulness.explained import Explained, randomised
from ifam.benchmarks.faithfulness.explainers import Explainer, deep_lift_gap
from ifam.config import Precision
from ifam.data.batch import require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import DataError
from ifam.metrics.faithfulness import (
    curve_area,
    log_odds,
    pointing_hits,
    rank_correlation,
    ranked_masks,
    top_tokens,
)
from ifam.metrics.parts import mask_intersection_union, mean_image_iou
from ifam.model.backbone import pixels_of
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.preprocessing import Preprocessing

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
"""of the tokens, at which insertion and deletion are measured"""
EXAMPLES = 2
"""photographs whose maps are kept for the figure"""

Numbers = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Test images as the models see them, and how many tokens a map may keep of each."""

    images: Tensor
    """(N, 3, H, W), normalised"""
    areas: Tensor
    """(N,) tokens: what iFAM keeps, for every method alike"""
    masks: Tensor | None = None
    """(N, H, W) bool: the true ones, where the data has them"""

    def tokens(self, model: IFAM) -> int:
        """Of each image."""
        rows, columns = model.stage1.grid((self.images.shape[2], self.images.shape[3]))
        return rows * columns

    def batches(self, size: int) -> Iterator[slice]:
        """Where each batch lies."""
        return (slice(start, start + size) for start in range(0, len(self.images), size))

    def others(self, place: slice) -> Tensor:
        """For each photograph of a batch another one of it; for one that is alone there, the one before it."""
        images = self.images[place]
        return images.roll(1, 0) if len(images) > 1 else self.images.roll(1, 0)[place]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How much is measured, and how: part of every result."""

    images: int = 200
    """test photographs, drawn with ``seed``, as many of each group as there are"""
    curve_images: int = 40
    """the first of them, for insertion and deletion"""
    randomised_images: int = 20
    """the first of them, for the sanity check"""
    precision: Precision = "auto"
    batch_size: int = 10
    seed: int = 0


def sample(table: ImageTable, count: int, seed: int) -> ImageTable:
    """At most ``count`` test images, the groups in turn, so that any first few are of all groups.

    Raises:
        DataError: there are fewer than two, and each lends another its background.
    """
    test = table.select("test")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test.samples), generator=generator).tolist()
    seen: dict[int | None, int] = {}
    rounds = []
    for place in order:
        group = test.samples[place].group
        seen[group] = seen.get(group, -1) + 1
        rounds.append((seen[group], -1 if group is None else group, place))
    chosen = sorted(rounds)[:count]
    if len(chosen) < 2:
        raise DataError(
            f"{table.root}: expected two test images or more, since each lends another its background, got "
            f"{len(chosen)}; add images to the test split"
        )
    return replace(test, samples=tuple(test.samples[place] for _, _, place in chosen))


def read_photographs(table: ImageTable, preprocessing: Preprocessing) -> tuple[Tensor, Tensor | None]:
    """Images (N, 3, H, W) and true masks (N, H, W) of a sample."""
    data = ImageDataModule.at_test_time(table, preprocessing, batch_size=50, annotations=table.has_masks)
    batches = list(data.loader("test"))
    for batch in batches:
        require_readable(batch, skip_unreadable=False)
    masks = [batch.masks for batch in batches if batch.masks is not None]
    return torch.cat([batch.images for batch in batches]), torch.cat(masks) if masks else None


@torch.no_grad()
def areas_of(model: IFAM, images: Tensor, protocol: Protocol) -> Tensor:
    """Tokens that iFAM keeps of each image, (N,)."""
    found = []
    for batch in torch.split(images, protocol.batch_size):
        with arithmetic(protocol.precision, images.device):
            found.append(model(batch).mask.flatten(1).sum(1))
    return torch.cat(found)


def prepare(model: Classifier, photographs: Photographs, protocol: Protocol) -> list[Explained]:
    """The model before each batch of photographs."""
    model = model.eval().requires_grad_(False)
    found = []
    for place in photographs.batches(protocol.batch_size):
        with arithmetic(protocol.precision, photographs.images.device):
            found.append(Explained(model, photographs.images[place]))
    return found


def measure_row(
    subjects: Sequence[Explained],
    explainer: Explainer,
    photographs: Photographs,
    protocol: Protocol,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Every number of a row, and the maps of the first photographs for the figure. ``subjects``: see `prepare`."""
    maps: list[Tensor] = []
    parts: list[Mapping[str, Tensor]] = []
    seconds = 0.0
    for explained, place in zip(subjects, photographs.batches(protocol.batch_size), strict=True):
        images = photographs.images[place]
        with arithmetic(protocol.precision, images.device):
            started = time.perf_counter()
            maps.append(explainer.attribute(explained, images, explained.logits.argmax(1)).float())
            seconds += time.perf_counter() - started
            kept = top_tokens(maps[-1].abs(), photographs.areas[place])
            parts.append(after_replacement(explained, images, photographs.others(place), kept, protocol))
            curved = max(0, protocol.curve_images - place.start)
            parts.append(areas_under_curves(explained, images[:curved], maps[-1][:curved]))
        progress(min(place.stop, len(photographs.images)), len(photographs.images))
    names = dict.fromkeys(name for part in parts for name in part)
    numbers: Numbers = {
        name: float(torch.cat([part[name].double() for part in parts if name in part]).mean()) for name in names
    }
    found = torch.cat(maps)
    numbers |= against_masks(found, photographs)
    numbers["randomised"] = agreement_when_randomised(subjects, explainer, photographs, found, protocol)
    numbers["seconds"] = seconds / len(photographs.images)
    return {"numbers": numbers, "maps": [scaled(one) for one in found[:EXAMPLES]]}


@torch.no_grad()
def after_replacement(
    explained: Explained, images: Tensor, others: Tensor, kept: Tensor, protocol: Protocol
) -> dict[str, Tensor]:
    """What the whole model answers when all but the ``kept`` (B, h, w) is noise, or of the ``others`` (B, 3, H, W)."""
    seen = pixels_of(kept, explained.backbone.patch_size, (images.shape[2], images.shape[3]))[:, None]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(protocol.seed)).to(images)
    before, chosen = explained.logits, explained.logits.argmax(1)
    found = {}
    for name, other in (("noise", noise), ("photo", others)):
        after = explained.anew(torch.where(seen, images, other)).float()
        found[f"{name}_change"] = (log_odds(after, chosen) - log_odds(before, chosen)).abs()
        found[f"{name}_flips"] = after.argmax(1) != chosen
    return found


@torch.no_grad()
def areas_under_curves(explained: Explained, images: Tensor, maps: Tensor) -> dict[str, Tensor]:
    """Insertion and deletion by tokens that the last stage reads or not, none replaced by anything (B,)."""
    if not len(images):
        return {}
    chosen = explained.logits[: len(images)].argmax(1)
    ranked = ranked_masks(maps, SHARES)
    seen = explained.seen[: len(images), None]
    found = {}
    for name, masks in (("insertion", ranked), ("deletion", ~ranked)):
        logits = explained.classify(images, masks & seen).float()
        probabilities = logits.softmax(-1).gather(2, chosen[:, None, None].expand(-1, len(SHARES), 1))[..., 0]
        found[name] = curve_area(probabilities, SHARES)
    return found


def against_masks(maps: Tensor, photographs: Photographs) -> Numbers:
    """Pointing game, and IoU of the top area with the true mask (mean over images).

    Of signed maps without sign, as in `after_replacement`: what speaks against the answer is of interest as well.
    """
    if photographs.masks is None:
        return {"pointing": None, "iou": None}
    both, either = mask_intersection_union(top_tokens(maps.abs(), photographs.areas), photographs.masks)
    hits = pointing_hits(maps.abs(), photographs.masks)
    return {"pointing": float(hits.double().mean()), "iou": mean_image_iou(both, either)}


def agreement_when_randomised(
    subjects: Sequence[Explained], explainer: Explainer, photographs: Photographs, maps: Tensor, protocol: Protocol
) -> float:
    """Mean rank correlation of the maps with those of a model that knows nothing, for the same classes.

    The sanity check of Adebayo et al. (2018), all layers at once: a map that stays as it was does not explain the
    model. The tokens compared are those that the model reads, which are held: iFAM's mask alone would make maps alike.
    """
    other = randomised(subjects[0].model, protocol.seed)
    found = []
    for explained, place in zip(subjects, photographs.batches(protocol.batch_size), strict=True):
        if place.start < protocol.randomised_images:
            images = photographs.images[place]
            with arithmetic(protocol.precision, images.device):
                ignorant = Explained(other, images)
                ignorant.seen = explained.seen
                anew = explainer.attribute(ignorant, images, explained.logits.argmax(1)).float()
            found += [
                rank_correlation(before[seen][None], after[seen][None])
                for before, after, seen in zip(maps[place], anew, explained.seen, strict=True)
            ]
    return float(torch.cat(found)[: protocol.randomised_images].mean())


def deep_lift_note(subjects: Sequence[Explained], photographs: Photographs) -> float:
    """Median of `deep_lift_gap` over the first batch: why there is no row of it. In float32, which sums need."""
    explained = subjects[0]
    images = photographs.images[: len(explained.seen)]
    return float(deep_lift_gap(explained, images, explained.logits.argmax(1)).median())


def scaled(one: Tensor) -> list[list[float]]:
    """A map from 0 to 1 in three digits, as JSON keeps it."""
    low, high = float(one.min()), float(one.max())
    rows: list[list[float]] = ((one - low) / ((high - low) or 1.0)).tolist()
    return [[round(value, 3) for value in row] for row in rows]
