"""The guarantee, checked on a model and on images: what outside the mask can change, and what the mask itself tells.

Shapes: B images, h×w token grid, C classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ifam.config import Precision
from ifam.data.batch import reading_all, require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import table_of_files
from ifam.device import arithmetic
from ifam.errors import UsageError
from ifam.metrics.bootstrap import bootstrap_interval
from ifam.metrics.parts import mask_intersection_union
from ifam.model.backbone import pixels_of
from ifam.model.two_stage import IFAM
from ifam.output import EncodedDiscovery, Selection

REPLACEMENTS = ("noise", "another photograph", "infinity")
"""of every pixel outside the mask"""
LARGEST_SEED = 2**32 - 1
"""that scikit-learn takes"""
FOLDS = 5
FEWEST_OF_A_CLASS = 2 * FOLDS


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What replacing pixels did to the logits."""

    images: int
    """with at least one changed bit"""
    bits: int
    largest: float
    """change of a logit; not finite where one is not"""


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """How well masks alone, as bits on the grid, tell what the model answers: logistic regression, cross-validated."""

    balanced_accuracy: float
    """mean over the classes of the share that is recognised"""
    low: float
    high: float
    """95 % of resamples of the images"""
    chance: float
    classes: tuple[str, ...]
    num_images: int

    @property
    def is_suspicious(self) -> bool:
        """Whether, surely, more than half of the way from chance to certainty is in the shape of the mask."""
        return self.low > (1 + self.chance) / 2


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was found; ``holds`` speaks of the pixels outside the mask only."""

    num_images: int
    outside: dict[str, Changes]
    """by what replaced the pixels outside the mask, which itself is held"""
    inside: Changes
    """by noise inside the mask: the control, in which nearly every image has to change"""
    with_evidence: int
    """images in which anything is selected: those that the control can change"""
    mask_iou: float
    """mean over images, between the mask and the one found anew when the outside is of another photograph"""
    answers_moved: float
    """share of the images whose answer changes then: what the guarantee does not cover"""
    leakage: Leakage | None
    """None if the answers are of one class, or of some too seldom"""

    @property
    def holds(self) -> bool:
        """No pixel outside the mask changed a bit, and the control shows that pixels can."""
        return all(changes.bits == 0 for changes in self.outside.values()) and self.inside.images > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, which has no number for what is not finite."""
        values = asdict(self) | {"holds": self.holds}
        for changes in (*values["outside"].values(), values["inside"]):
            changes["largest"] = changes["largest"] if math.isfinite(changes["largest"]) else None
        if self.leakage is not None:
            values["leakage"]["is_suspicious"] = self.leakage.is_suspicious
        return values


@torch.inference_mode()
@reading_all()
def verify(
    model: IFAM,
    paths: Sequence[Path],
    *,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Certificate:
    """Check the guarantee of ``model`` on photographs.

    Each lends the next of its batch its background, and the first of all a last one that is alone in its batch; so
    that the first batch has two, a ``batch_size`` of 1 is taken for 2.

    Raises:
        UsageError: not a model with parts, fewer than two images, or a seed that cannot be.
        DataError: an image that cannot be read.
    """
    if not isinstance(model, IFAM):
        raise UsageError(f"verify: expected a model with parts, got a {type(model).__name__}, which has none")
    if len(paths) < 2:
        raise UsageError(
            f"verify: expected two images or more, since each lends the other its background, got {len(paths)}"
        )
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed: expected a number from 0 to {LARGEST_SEED}, got {seed}")
    model = model.to(device).eval()
    generator = torch.Generator().manual_seed(seed)
    tally = _Tally()
    for images in _batches(model, paths, 2 if batch_size == 1 else batch_size, workers):
        with arithmetic(precision, torch.device(device)):
            tally.add(model, images.to(device), generator)
        progress(len(tally.moved), len(paths))
    return tally.certificate(tuple(model.class_names), seed)


class _Tally:
    """Everything that is seen, batch by batch."""

    def __init__(self) -> None:
        self.differences: dict[str, list[tuple[int, float]]] = {name: [] for name in (*REPLACEMENTS, "inside")}
        self.masks: list[Tensor] = []
        self.answers: list[Tensor] = []
        self.overlaps: list[float] = []
        self.moved: list[bool] = []
        self.first: Tensor | None = None

    def add(self, model: IFAM, images: Tensor, generator: torch.Generator) -> None:
        discovery = model.discover(images)
        selection = model.select(discovery)
        seen = pixels_of(selection.mask, model.stage1.patch_size, images)
        noise = torch.randn(images.shape, generator=generator).to(images)
        self.first = images[:1] if self.first is None else self.first
        neighbours = images.roll(1, 0) if len(images) > 1 else self.first
        others = {
            "noise": noise,
            "another photograph": neighbours,
            "infinity": torch.full_like(images, torch.inf),
        }
        logits = answer_held(model, images, discovery, selection)
        for name, other in others.items():
            replaced = torch.where(seen, images, other)
            self._compare(name, logits, answer_held(model, replaced, discovery, selection))
        self._compare("inside", logits, answer_held(model, torch.where(seen, noise, images), discovery, selection))
        anew = model(torch.where(seen, images, neighbours))
        both, either = mask_intersection_union(selection.mask, anew.mask)
        self.overlaps += torch.where(either > 0, both / either.clamp(min=1), 1.0).tolist()
        self.moved += (logits.argmax(1) != anew.logits.argmax(1)).tolist()
        self.masks.append(selection.mask.cpu())
        self.answers.append(logits.argmax(1).cpu())

    def _compare(self, name: str, before: Tensor, after: Tensor) -> None:
        self.differences[name] += list(zip(changed_bits(before, after), largest_change(before, after), strict=True))

    def certificate(self, class_names: tuple[str, ...], seed: int) -> Certificate:
        masks, answers = torch.cat(self.masks), torch.cat(self.answers)
        found = {
            name: Changes(
                images=sum(bits > 0 for bits, _ in pairs),
                bits=sum(bits for bits, _ in pairs),
                largest=float(np.max([change for _, change in pairs])),
            )
            for name, pairs in self.differences.items()
        }
        inside = found.pop("inside")
        return Certificate(
            num_images=len(masks),
            outside=found,
            inside=inside,
            with_evidence=int(masks.flatten(1).any(1).sum()),
            mask_iou=float(np.mean(self.overlaps)),
            answers_moved=float(np.mean(self.moved)),
            leakage=mask_leakage(masks, answers, class_names, seed=seed),
        )


def answer_held(model: IFAM, images: Tensor, discovery: EncodedDiscovery, selection: Selection) -> Tensor:
    """Logits (B, C) of ``images`` when what was selected in other images is held: the claim that is checked.

    Without a second stage the parts are pooled from the tokens of ``images``, as late masking does.
    """
    if model.stage2 is not None:
        return model.second_stage(images, selection)
    return model.answer(images, model.discover(images), mask=selection.mask).logits


def changed_bits(before: Tensor, after: Tensor) -> list[int]:
    """How many bits of each row differ. Both (B, C), of one type."""
    one, other = (values.cpu().contiguous().view(torch.uint8).numpy() for values in (before, after))
    counts: list[int] = np.unpackbits(one ^ other, axis=1).sum(1).tolist()
    return counts


def largest_change(before: Tensor, after: Tensor) -> list[float]:
    """Of a logit in each row; not finite where one is not."""
    changes: list[float] = (before.double() - after.double()).abs().amax(1).tolist()
    return changes


def mask_leakage(masks: Tensor, answers: Tensor, class_names: Sequence[str], *, seed: int) -> Leakage | None:
    """What the shape of the masks alone tells of the answers, by a classifier that sees nothing else.

    A selector could write the answer into its mask. Shapes that differ by nature between classes count too: the number
    is an upper bound for what is amiss. ``masks``: (N, h, w) bool; ``answers``: (N,) int.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    labels = answers.numpy()
    present, counts = np.unique(labels, return_counts=True)
    enough = np.isin(labels, present[counts >= FEWEST_OF_A_CLASS])
    features, labels = masks.flatten(1).numpy()[enough].astype(np.float32), labels[enough]
    classes = np.unique(labels)
    if len(classes) < 2:
        return None
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)  # type: ignore[no-untyped-call]
    regression = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")  # type: ignore[no-untyped-call]
    correct = torch.from_numpy(cross_val_predict(regression, features, labels, cv=folds) == labels)

    def balanced(correct: Tensor, labels: Tensor) -> float:
        return float(np.mean([correct[labels == label].double().mean() for label in classes.tolist()]))

    truth = torch.from_numpy(labels)
    interval = bootstrap_interval(balanced, correct, truth, seed=seed, within=truth)
    assert interval.estimate is not None
    assert interval.low is not None
    assert interval.high is not None
    return Leakage(
        balanced_accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        chance=1 / len(classes),
        classes=tuple(class_names[label] for label in classes),
        num_images=len(labels),
    )


def _batches(model: IFAM, paths: Sequence[Path], batch_size: int, workers: int) -> Iterator[Tensor]:
    table = table_of_files(paths, model.class_names)
    data = ImageDataModule.at_test_time(table, model.preprocessing, batch_size=batch_size, workers=workers)
    for batch in data.loader("test"):
        require_readable(batch, skip_unreadable=False)
        yield batch.images
