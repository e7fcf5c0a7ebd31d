"""What the background of images tells about their class: the only warning of a shortcut where no groups are known.

Shapes: B images, h×w token grid, D width.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ifam.data.batch import Batch
from ifam.data.table import ImageTable, Sample
from ifam.evaluate import Evaluation, evaluate
from ifam.metrics.accumulate import Accumulator
from ifam.model.backbone import Backbone
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.output import MaskedPrediction, Output, Prediction
from ifam.probe import FEWEST_OF_A_CLASS, Probe, linear_probe
from ifam.processes import ALONE, Processes

MOST_IMAGES, MOST_CLASSES = 500, 10


@dataclass(frozen=True, kw_only=True)
class Background:
    """How well the background alone tells the class, or the reason why that was not measured."""

    split: str
    """where the images are from"""
    probe: Probe | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class BackgroundObserver:
    """Sees batches as `ifam.evaluate.Observe`, and encodes the patches of the background alone.

    Background is what is outside the model's mask and, where it is annotated, outside the object. The transformer of
    stage 1 encodes these patches and never reads the others: the tokens that stage 1 itself has outside its mask have
    read the object through attention, and would tell the class by that. The features of an image are the mean of its
    tokens. Of copies of one image the first counts, so that no fold is tested on what it was fitted on.
    """

    def __init__(self, model: Classifier, samples: Sequence[Sample]) -> None:
        self._backbone = _encoder(model)
        self.wanted = drawn(samples) if self._backbone is not None else set[int]()
        """rows of the samples that it takes"""
        self._class_names = model.class_names
        self._seen: set[bytes] = set()
        self.records = Accumulator()
        """index, label and features of each image, from this process alone"""

    def __call__(self, batch: Batch, output: Prediction, values: Mapping[str, Tensor]) -> None:
        """Take the images of a batch that were drawn."""
        rows = [row for row, index in enumerate(batch.indices.tolist()) if index in self.wanted]
        rows = [row for row in rows if self._is_new(batch.images[row])]
        if not rows or self._backbone is None or not isinstance(output, Output | MaskedPrediction):
            return
        outside = ~output.mask[rows]
        if batch.masks is not None:
            outside &= ~_touches(batch.masks[rows], self._backbone.patch_size)
        features = self._backbone.mean_of_selected(batch.images[rows], outside)
        self.records.update(
            index=batch.indices[rows],
            label=batch.labels[rows],
            features=features.float(),
            # of an image without a mask, the object is part of the background
            usable=output.mask[rows].flatten(1).any(1) & outside.flatten(1).any(1) & features.isfinite().all(1),
        )

    def background(self, split: str, records: Sequence[Accumulator] | None = None) -> Background:
        """What was found; ``records``: those of all processes, of this one alone if None."""
        if self._backbone is None:
            return Background(split=split, reason="the model has no mask, which would say what background is")
        whole = Accumulator.of_all([self.records] if records is None else records)
        few = f"it takes {FEWEST_OF_A_CLASS} different images of two classes with background beside a mask"
        if not whole.num_samples:
            return Background(split=split, reason=few)
        usable = whole["usable"]
        probe = linear_probe(whole["features"][usable], whole["label"][usable], self._class_names)
        return Background(split=split, probe=probe, reason="" if probe else few)

    def _is_new(self, image: Tensor) -> bool:
        digest = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest()
        known = digest in self._seen
        self._seen.add(digest)
        return not known


def evaluate_with_background(
    model: Classifier,
    table: ImageTable,
    *,
    split: str = "test",
    check_background: bool = True,
    processes: Processes = ALONE,
    **options: Any,
) -> tuple[Evaluation, Background | None]:
    """The evaluation on a split and, unless switched off, what the background of its images tells, in one pass.

    Further arguments and errors: see `ifam.evaluate.evaluate`.
    """
    if not check_background:
        return evaluate(model, table, split=split, processes=processes, **options), None
    observer = BackgroundObserver(model, table.select(split).samples)
    evaluation = evaluate(model, table, split=split, processes=processes, observe=observer, **options)
    return evaluation, observer.background(split, processes.gather(observer.records))


def drawn(samples: Sequence[Sample], *, seed: int = 0) -> set[int]:
    """Rows of at most `MOST_IMAGES` samples, as many of each class as there are, of at most `MOST_CLASSES`.

    None where fewer than two classes have enough images.
    """
    by_label: dict[int, list[int]] = {}
    for row, sample in enumerate(samples):
        by_label.setdefault(sample.label, []).append(row)
    enough = sorted(label for label, rows in by_label.items() if len(rows) >= FEWEST_OF_A_CLASS)
    draw = random.Random(seed)
    classes = draw.sample(enough, min(len(enough), MOST_CLASSES))
    if len(classes) < 2:
        return set()
    most = MOST_IMAGES // len(classes)
    return {row for label in classes for row in draw.sample(by_label[label], min(len(by_label[label]), most))}


def _encoder(model: Classifier) -> Backbone | None:
    """The transformer that encodes patches of a model with masks."""
    if isinstance(model, IFAM):
        return model.stage1
    return model.classifier.backbone if isinstance(model, MaskedClassifier) else None


def _touches(masks: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """The patches (B, h, w) bool that hold any pixel of ``masks`` (B, H, W) bool."""
    height, width = patch_size
    padded = F.pad(masks.float(), (0, -masks.shape[2] % width, 0, -masks.shape[1] % height))
    return F.max_pool2d(padded[:, None], (height, width))[:, 0] > 0
