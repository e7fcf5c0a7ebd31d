"""Scores of a model on one split of a data set, by group."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ifam.config import Precision
from ifam.data.batch import Batch, require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import DataError, UsageError
from ifam.metrics.accumulate import Accumulator, classification_score, foreground_score
from ifam.metrics.parts import KeypointRegression, foreground_intersection_union, keypoint_error, part_centroids
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.output import Output, Prediction

Progress = Callable[[int, int], None]
"""(images done, images in all)"""


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """Accuracy of a group in 0–1, None where it has no image, and its number of images."""

    accuracy: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracies in 0–1; None where the data does not allow the number."""

    num_samples: int
    accuracy: float
    average_accuracy: float | None
    """weighted by the training group sizes, as on Waterbirds"""
    worst_group_accuracy: float | None
    groups: Mapping[str, GroupResult]
    auc: float | None
    mean_kept: float | None
    """share of the tokens that stage 2 saw"""
    no_evidence: int | None
    """images in which nothing was selected"""
    foreground_iou: float | None
    """pooled over the pixels of all images, as published"""
    foreground_iou_per_image: float | None
    """mean over images"""
    keypoint_error: float | None = None
    """mean distance in units of the box, or of the image where there is none"""
    keypoint_count: int | None = None

    def numbers(self) -> dict[str, float]:
        """The plain numbers that are known."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int | float)}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A score, the split it was taken on, and what was switched off."""

    split: str
    interventions: Mapping[str, Any] = field(default_factory=dict)
    unreadable: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def record(output: Prediction, batch: Batch) -> dict[str, Tensor]:
    """What the score needs to know of each image of a batch."""
    logits = output.logits.float()
    values = {
        "label": batch.labels,
        "group": batch.groups,
        "prediction": logits.argmax(1),
        "margin": logits[:, 1] - logits[:, 0],
    }
    if isinstance(output, Output):
        maps = maps_after_interventions(output)
        values["kept"] = output.kept
        values["centroid"], values["active"] = part_centroids(maps)
        if batch.masks is not None:
            values["intersection"], values["union"] = foreground_intersection_union(maps, batch.masks)
    if batch.keypoints is not None and batch.visible is not None and batch.box_sizes is not None:
        height, width = batch.images.shape[-2:]
        size = torch.tensor([width, height], device=batch.keypoints.device)
        values |= {"keypoint": batch.keypoints / size, "visible": batch.visible, "box": batch.box_sizes / size}
    return values


def maps_after_interventions(output: Output) -> Tensor:
    """The part maps (B, K+1, h, w), all background where an intervention removed the token."""
    background = output.part_maps.shape[1] - 1
    removed = ~output.mask & (output.part_maps.argmax(1) < background)
    nothing = torch.zeros_like(output.part_maps)
    nothing[:, background] = 1
    return torch.where(removed[:, None], nothing, output.part_maps)


def summarise(
    records: Accumulator, group_names: Sequence[str], training_group_sizes: Mapping[str, int], *, num_classes: int
) -> Score:
    """The score of everything recorded."""
    if records.num_samples == 0:
        raise DataError("evaluation: expected at least one image that can be read, got none; see ifam doctor")
    weights = [training_group_sizes.get(name, 0) for name in group_names]
    score = classification_score(
        records["prediction"],
        records["label"],
        records["group"],
        num_groups=len(group_names),
        training_group_sizes=weights if any(weights) else None,
        margins=records["margin"] if num_classes == 2 else None,
    )
    assert score.accuracy is not None
    seen = "kept" in records
    foreground = foreground_score(records["intersection"], records["union"]) if "union" in records else None
    return Score(
        num_samples=score.num_samples,
        accuracy=score.accuracy,
        average_accuracy=score.average_accuracy,
        worst_group_accuracy=score.worst_group_accuracy,
        groups={
            name: GroupResult(accuracy=group.accuracy, count=group.count)
            for name, group in zip(group_names, score.groups, strict=True)
        },
        auc=score.auc,
        mean_kept=float(records["kept"].mean()) if seen else None,
        no_evidence=int((records["kept"] == 0).sum()) if seen else None,
        foreground_iou=foreground.pooled_iou if foreground else None,
        foreground_iou_per_image=foreground.mean_image_iou if foreground else None,
    )


def evaluate(
    model: Classifier,
    table: ImageTable,
    *,
    split: str = "test",
    remove_parts: Sequence[int] = (),
    token_quantile: float | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on a split, with interventions if asked.

    The keypoint error needs the training split as well, on which the regression from part centroids is fitted.

    Raises:
        DataError: classes that the model does not know, no such split, or an unreadable image.
    """
    table = table.align(model.class_names).align_groups(tuple(model.training_group_sizes))
    data = ImageDataModule(
        table,
        model.preprocessing,
        augmentation="none",
        batch_size=batch_size,
        workers=workers,
        seed=0,
        annotations=True,
    )
    interventions = interventions_on(model, remove_parts, token_quantile)
    model = model.to(device).eval()
    unreadable: list[str] = []

    def run(name: str) -> Accumulator:
        total = len(table.select(name))
        return collect(
            model,
            data.loader(name),
            interventions=interventions,
            progress=None if progress is None else lambda done: progress(done, total),
            unreadable=unreadable,
            precision=precision,
            skip_unreadable=skip_unreadable,
        )

    records = run(split)
    score = summarise(records, table.group_names, model.training_group_sizes, num_classes=model.num_classes)
    keypoints: dict[str, Any] = {}
    if "centroid" in records and "keypoint" in records and split != "train" and _shows_keypoints(table, "train"):
        keypoints = _keypoint_numbers(run("train"), records)
    return Evaluation(**(vars(score) | keypoints), split=split, interventions=interventions, unreadable=unreadable)


def interventions_on(model: Classifier, remove_parts: Sequence[int], token_quantile: float | None) -> dict[str, Any]:
    """Arguments of the model's call; none for a plain classifier.

    Raises:
        UsageError: they would change nothing in what this model predicts.
    """
    if isinstance(model, IFAM) and model.stage2 is not None:
        return {"remove_parts": list(remove_parts), "token_quantile": token_quantile}
    if len(remove_parts) or token_quantile is not None:
        raise UsageError(
            "interventions: expected a model with a second stage, which sees the selected tokens only, got one without"
        )
    return {}


@torch.inference_mode()
def collect(
    model: Classifier,
    loader: Iterable[Batch],
    *,
    interventions: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
    unreadable: list[str],
    precision: Precision = "32-true",
    skip_unreadable: bool = False,
) -> Accumulator:
    """The records of every image of a loader, each once."""
    device = next(model.parameters()).device
    records = Accumulator()
    done = 0
    for batch in loader:
        require_readable(batch, skip_unreadable=skip_unreadable)
        unreadable.extend(image.message for image in batch.unreadable)
        if len(batch):
            batch = batch.to(device)
            with arithmetic(precision, device):
                output = model(batch.images, **interventions)
            records.update(**record(output, batch))
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done)
    return records


def _shows_keypoints(table: ImageTable, split: str) -> bool:
    return split in table.splits and table.select(split).has_keypoints


def _keypoint_numbers(train: Accumulator, test: Accumulator) -> dict[str, Any]:
    regression = KeypointRegression.fit(train["centroid"], train["active"], train["keypoint"], train["visible"])
    predicted = regression.predict(test["centroid"], test["active"])
    score = keypoint_error(predicted, test["keypoint"], test["visible"], test["box"])
    return {"keypoint_error": score.error, "keypoint_count": score.count}
