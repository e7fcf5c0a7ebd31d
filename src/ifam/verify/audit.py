"""Replace pixels outside and inside the mask, and compare the answers.

Shapes: N photographs, B of them in a batch, h×w token grid, C classes, R photographs that lend to each one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifam.config import Precision
from ifam.data.batch import Batch, reading_all, require_readable
from ifam.data.given_masks import give_masks
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable, table_of_files
from ifam.device import arithmetic, resolve_precision
from ifam.errors import UsageError
from ifam.metrics.bootstrap import Interval, accuracy_interval, bootstrap_interval
from ifam.metrics.parts import mask_intersection_union
from ifam.model.backbone import pixels_of
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.output import EncodedDiscovery, Prediction, Selection, require_numbers
from ifam.storage import description_sha256, weights_sha256
from ifam.verify.findings import Certificate, Changes, MaskAlone, Setting
from ifam.verify.lending import lend
from ifam.verify.photographs import Photographs, distinct
from ifam.verify.probes import mask_leakage

ROUNDS = 3
"""photographs that lend each one their pixels"""
SHUFFLES = 1000
"""of the answers, which say what chance does"""
LARGEST_SEED = 2**32 - 1
"""that scikit-learn takes"""

Progress = Callable[[int, int], None]


@torch.inference_mode()
@reading_all()
def verify(
    model: Classifier,
    images: Sequence[Path] | ImageTable | Photographs,
    *,
    sample: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    progress: Progress = lambda done, total: None,
) -> Certificate:
    """Audit ``model`` on photographs: what outside its masks counts, and what the masks decide on their own.

    Three photographs that the model answers differently lend each one their pixels. Nothing depends on the order of
    the photographs: they are taken in the order of their hashes, and the seed alone decides who lends.

    ``images``: paths, a table, which a model with annotated masks needs, or `Photographs`. ``sample``: at most so many
    of paths or of a table, those with the lowest hashes. ``batch_size``: images that are read at once.

    Raises:
        UsageError: a model without masks, fewer than two images, or a seed that cannot be.
        DataError: an image that cannot be read, or that is there twice.
        CheckpointError: scores that are not finite.
    """
    if not isinstance(model, IFAM | MaskedClassifier):
        raise UsageError(f"verify: expected a model with parts or masks, got a {type(model).__name__}, which has none")
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed: expected a number from 0 to {LARGEST_SEED}, got {seed}")
    if sample is not None and sample < 2:
        raise UsageError(f"sample: expected at least 2 photographs, got {sample}")
    known = images if isinstance(images, Photographs) else None
    if isinstance(images, Photographs):
        table = images.table
    else:
        table = images if isinstance(images, ImageTable) else table_of_files(images, model.class_names)
    if isinstance(model, MaskedClassifier):
        table = give_masks(table, model.masks, table.splits or ("test",))
    if len(table) < 2:
        raise UsageError(
            f"verify: expected two images or more, since each lends the other its background, got {len(table)}"
        )
    photographs = distinct(table, sample) if known is None else replace(known, table=table)
    where = torch.device(device)
    setting = Setting(
        seed=seed,
        precision=resolve_precision(precision, where.type),
        batch_size=batch_size,
        rounds=ROUNDS,
        evidence=model.evidence,
    )
    audit = _Audit(model.to(device).eval(), photographs, setting, workers, progress)
    with arithmetic(precision, where):
        audit.replace_pixels(lend(audit.look().numpy(), ROUNDS, seed=seed))
    return audit.certificate()


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a model selected in some images, and how it answers others when that selection is held."""

    mask: Tensor
    """(B, h, w) bool"""
    pixels: Tensor
    """(B, H, W) bool: what the answer may rest on, of a model without a guarantee the patches of the mask"""
    answer: Callable[[Tensor], Tensor]
    """(B, 3, H, W) to logits (B, C)"""


def hold(model: IFAM | MaskedClassifier, images: Tensor, given: Tensor | None) -> Held:
    """The selection in ``images``; ``given``: (B, H, W) bool, for a model that is told where to look."""
    if isinstance(model, MaskedClassifier):
        mask = model.select(images) if given is None else model.token_mask(given)
        found = model(images, mask, given)
        return Held(mask=mask, pixels=found.pixels, answer=lambda others: model(others, mask, given).logits)
    discovery = model.discover(images)
    selection = model.select(discovery)
    return Held(
        mask=selection.mask,
        pixels=model.evidence_pixels(selection, (images.shape[2], images.shape[3])),
        answer=lambda others: answer_held(model, others, discovery, selection),
    )


def answer_held(model: IFAM, images: Tensor, discovery: EncodedDiscovery, selection: Selection) -> Tensor:
    """Logits (B, C) of ``images`` when what was selected in other images is held: the claim that is checked.

    Without a second stage the parts are pooled from the tokens of ``images``, as late masking does.
    """
    if model.stage2 is not None:
        return model.second_stage(images, selection)
    return model.answer(images, model.discover(images), mask=selection.mask).logits


class _Audit:
    """Everything that is seen, batch by batch."""

    def __init__(
        self,
        model: IFAM | MaskedClassifier,
        photographs: Photographs,
        setting: Setting,
        workers: int,
        progress: Progress,
    ) -> None:
        self.model, self.photographs, self.setting = model, photographs, setting
        self.workers, self.progress = workers, progress
        self.device = next(model.parameters()).device
        self.weights_sha256 = weights_sha256(model)
        self.differences: dict[str, list[tuple[int, float]]] = {}
        self.stays: dict[str, list[Tensor]] = {}
        self.overlaps: list[Tensor] = []
        self.moved: list[Tensor] = []
        self.followed: list[Tensor] = []

    def look(self) -> Tensor:
        """The answers (N,) to all photographs as they are; their masks are kept."""
        masks, answers = [], []
        for rows, batch in self._batches(np.arange(len(self.photographs))[:, None]):
            held = hold(self.model, batch.images, batch.given_masks)
            logits = held.answer(batch.images)
            require_numbers(Prediction(logits=logits))
            masks.append(held.mask.cpu())
            answers.append(logits.argmax(1).cpu())
            self.progress(int(rows[-1]) + 1, 2 * len(self.photographs))
        self.masks, self.answers = torch.cat(masks), torch.cat(answers)
        return self.answers

    def replace_pixels(self, lenders: NDArray[np.int64]) -> None:
        """Every replacement in every photograph. ``lenders``: (R, N) indices."""
        count, together = len(self.photographs), 1 + len(lenders)
        for rows, batch in self._batches(np.concatenate([np.arange(count)[None], lenders]).T):
            images, *lent = batch.images.view(-1, together, *batch.images.shape[1:]).unbind(1)
            given = None if batch.given_masks is None else batch.given_masks[::together]
            held = hold(self.model, images, given)
            seen = held.pixels[:, None]
            noise = torch.stack([self._noise(row, images[0]) for row in rows.tolist()]).to(images)
            logits = held.answer(images)
            self._outside(images, seen, held, logits, {"noise": noise, "another photograph": lent[0]})
            self._inside(images, seen, held, logits, {"other photographs": lent, "noise": [noise]})
            who = torch.from_numpy(lenders[:, rows])
            objects = [self._patches(self.masks[each], images) for each in who]
            backgrounds = backgrounds_alone(lent, objects)
            self._other_backgrounds(images, seen, held, logits.argmax(1), backgrounds, self.answers[who], given)
            self.progress(count + int(rows[-1]) + 1, 2 * count)

    def certificate(self) -> Certificate:
        """What all of it comes to."""
        found = {name: _changes(pairs) for name, pairs in self.differences.items()}
        inside = found.pop("inside")
        moved, followed, overlaps = (torch.cat(values) for values in (self.moved, self.followed, self.overlaps))
        stays = {name: torch.cat(values) for name, values in self.stays.items()}
        return Certificate(
            num_images=len(self.photographs),
            outside=found,
            inside=inside,
            with_evidence=int(self.masks.flatten(1).any(1).sum()),
            mask_alone={
                name: _mask_alone(answers, self.setting.seed) for name, answers in stays.items() if len(answers)
            },
            mask_iou=float(overlaps.mean()),
            answers_moved=float(moved.mean()),
            answers_moved_interval=_interval(moved, self.setting.seed),
            answers_followed=float(followed.mean()),
            answers_followed_interval=_interval(followed, self.setting.seed),
            leakage=mask_leakage(self.masks, self.answers, tuple(self.model.class_names), seed=self.setting.seed),
            weights_sha256=self.weights_sha256,
            description_sha256=description_sha256(self.model),
            photographs=self.photographs.facts,
            setting=self.setting,
        )

    def _batches(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """Photographs with those that lend to them, (N, 1 + R) indices; and which photographs they are."""
        size = max(1, self.setting.batch_size // rows.shape[1])
        table = self.photographs.take(rows.flatten().tolist())
        data = ImageDataModule.at_test_time(
            table, self.model.preprocessing, batch_size=size * rows.shape[1], workers=self.workers
        )
        for number, batch in enumerate(data.loader("test")):
            require_readable(batch, skip_unreadable=False)
            yield rows[number * size : (number + 1) * size, 0], batch.to(self.device)

    def _patches(self, masks: Tensor, images: Tensor) -> Tensor:
        """The pixels (B, 1, H, W) bool of patches of ``masks`` (B, h, w)."""
        size = (images.shape[2], images.shape[3])
        return pixels_of(masks, self.model.backbone.patch_size, size)[:, None].to(images.device)

    def _noise(self, row: int, like: Tensor) -> Tensor:
        """Normal noise that follows from the seed and the bytes of the photograph."""
        drawn = int(self.photographs.facts[row].sha256[:15], 16) + self.setting.seed
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(drawn))

    def _outside(self, images: Tensor, seen: Tensor, held: Held, logits: Tensor, others: Mapping[str, Tensor]) -> None:
        for name, other in (*others.items(), ("infinity", torch.full_like(images, torch.inf))):
            self._count_changes(name, logits, held.answer(torch.where(seen, images, other)))

    def _inside(
        self, images: Tensor, seen: Tensor, held: Held, logits: Tensor, others: Mapping[str, Sequence[Tensor]]
    ) -> None:
        """Nothing of the object is left; photographs without evidence, where nothing is replaced, do not count."""
        evidence = held.mask.flatten(1).any(1)
        for name, fillings in (*others.items(), ("grey", [torch.zeros_like(images)])):
            filled = [held.answer(torch.where(seen, filling, images)) for filling in fillings]
            answers = torch.stack([each.argmax(1) for each in (logits, *filled)], 1)
            self.stays.setdefault(name, []).append(answers[evidence].cpu())
            if name == "noise":
                self._count_changes("inside", logits, filled[0])

    def _other_backgrounds(
        self,
        images: Tensor,
        seen: Tensor,
        held: Held,
        answers: Tensor,
        lent: Sequence[Tensor],
        theirs: Tensor,
        given: Tensor | None,
    ) -> None:
        """Before each background the mask is found anew. ``theirs``: (R, B), the answers of those who lend."""
        overlaps, moved, followed = [], [], []
        for lender, their in zip(lent, theirs.to(self.device), strict=True):
            exchanged = torch.where(seen, images, lender)
            anew = hold(self.model, exchanged, given)
            both, either = mask_intersection_union(held.mask, anew.mask)
            now = anew.answer(exchanged).argmax(1)
            overlaps.append(torch.where(either > 0, both / either.clamp(min=1), 1.0))
            moved.append(now != answers)
            followed.append((now != answers) & (now == their))
        for values, found in ((self.overlaps, overlaps), (self.moved, moved), (self.followed, followed)):
            values.append(torch.stack(found, 1).double().cpu())

    def _count_changes(self, name: str, before: Tensor, after: Tensor) -> None:
        pairs = zip(changed_bits(before, after), largest_change(before, after), strict=True)
        self.differences.setdefault(name, []).extend(pairs)


def backgrounds_alone(lent: Sequence[Tensor], objects: Sequence[Tensor]) -> list[Tensor]:
    """Photographs (B, 3, H, W) without their own ``objects`` (B, 1, H, W) bool: a second object would be no background.

    In an object's place is the background of the next photograph that has none there, or 0, the mean colour.
    """
    found = []
    for turn in range(len(lent)):
        background = torch.zeros_like(lent[0])
        for place in reversed(range(turn, turn + len(lent))):
            other = place % len(lent)
            background = torch.where(objects[other], background, lent[other])
        found.append(background)
    return found


def _changes(pairs: Sequence[tuple[int, float]]) -> Changes:
    return Changes(
        images=sum(bits > 0 for bits, _ in pairs),
        bits=sum(bits for bits, _ in pairs),
        largest=float(np.max([change for _, change in pairs])),
    )


def _mask_alone(answers: Tensor, seed: int) -> MaskAlone:
    """``answers``: (N, 1 + fillings) int, before and after each filling."""
    before, after = answers[:, 0], answers[:, 1:]
    stays = (after == before[:, None]).double()
    random = torch.Generator().manual_seed(seed)
    shuffled = torch.stack(
        [
            (after == before[torch.randperm(len(before), generator=random), None]).double().mean()
            for _ in range(SHUFFLES)
        ]
    )
    return MaskAlone(
        stays=_interval(stays, seed),
        chance=float(shuffled.mean()),
        p_value=float((1 + (shuffled >= stays.mean()).sum()) / (1 + SHUFFLES)),
    )


def _interval(shares: Tensor, seed: int) -> Interval:
    """Of the mean of (N, R) over other samples of N images."""
    if len(torch.unique(shares)) == 1:  # resamples that all agree would say that it is certain
        return accuracy_interval(shares[:, 0].bool(), seed=seed)
    return bootstrap_interval(lambda each: float(each.mean()), shares.mean(1), seed=seed)


def changed_bits(before: Tensor, after: Tensor) -> list[int]:
    """How many bits of each row differ. Both (B, C), of one type."""
    one, other = (values.cpu().contiguous().view(torch.uint8).numpy() for values in (before, after))
    counts: list[int] = np.unpackbits(one ^ other, axis=1).sum(1).tolist()
    return counts


def largest_change(before: Tensor, after: Tensor) -> list[float]:
    """Of a logit in each row; not finite where one is not."""
    changes: list[float] = (before.double() - after.double()).abs().amax(1).tolist()
    return changes
