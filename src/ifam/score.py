"""What the score of a split needs to know of each image, and the score of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ifam.data.batch import Batch
from ifam.errors import DataError
from ifam.metrics.accumulate import Accumulator, classification_score, foreground_score
from ifam.metrics.bootstrap import (
    accuracy_interval,
    auc_interval,
    worst_group_accuracy_interval,
    worst_group_auc_interval,
)
from ifam.metrics.calibration import calibration_error_of_confidence
from ifam.metrics.clustering import adjusted_rand_index, normalized_mutual_information, part_labels_at
from ifam.metrics.parts import (
    foreground_intersection_union,
    mask_intersection_union,
    part_centroids,
    seen_on_object,
)
from ifam.metrics.robust_auc import worst_group_auc
from ifam.metrics.top_k import label_ranks, share_within
from ifam.model.mask import maps_after_removal
from ifam.output import MaskedPrediction, Output, Prediction, are_numbers

TOP = 5


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """Accuracy of a group in 0–1, None where it has no image, and its number of images."""

    accuracy: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """Accuracy of a class in 0–1, None where it has no image, its number of images, and how often it was answered."""

    accuracy: float | None
    count: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class GroupPair:
    """Between which images the worst-group AUC was found."""

    positives: str
    """group of the images of class 1"""
    negatives: str
    """group of the images of class 0"""
    num_positives: int
    num_negatives: int
    comparisons: int
    """pairs of groups of which this is the lowest"""


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
    """share of the image inside the mask"""
    no_evidence: int | None
    """images in which nothing was selected"""
    foreground_iou: float | None
    """pooled over the pixels of all images, as published"""
    foreground_iou_per_image: float | None
    """mean over images"""
    seen_on_object: float | None = None
    """share of what is inside the model's mask that lies on the annotated object, pooled over pixels"""
    object_seen: float | None = None
    """share of the annotated object that is inside the model's mask"""
    top5_accuracy: float | None = None
    """share of images whose class is among the five best; of more than five classes"""
    worst_group_auc: float | None = None
    """of two classes: the lowest AUC of the positives of one group against the negatives of one group"""
    worst_group_auc_between: GroupPair | None = None
    calibration_error: float | None = None
    """mean gap between the probability of the predicted class and its accuracy, over 15 bins"""
    part_nmi: float | None = None
    """normalised mutual information of keypoints and the parts found at their places, in 0–1"""
    part_ari: float | None = None
    """adjusted Rand index of the same"""
    keypoint_error: float | None = None
    """mean distance in units of the box, or of the image where there is none; see `ifam.metrics.KeypointRegression`"""
    keypoint_error_published: float | None = None
    """the same by the published protocol, see `ifam.metrics.PublishedKeypointRegression`"""
    keypoint_count: int | None = None
    not_finite: int | None = None
    """images whose scores are no numbers, and count as wrong; None where there are none"""

    def numbers(self) -> dict[str, float]:
        """The plain numbers that are known."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int | float)}


def record(
    output: Prediction,
    batch: Batch,
    *,
    class_map: Tensor | None = None,
    temperature: float | None = None,
    keep_logits: bool = False,
) -> dict[str, Tensor]:
    """What the score needs to know of each image of a batch; further arguments as for ``record_classes``.

    Where its scores are no numbers, the predicted class of an image is −1, which is never right.
    """
    values = record_classes(output.logits, batch, class_map=class_map, temperature=temperature, keep_logits=keep_logits)
    values["finite"] = are_numbers(output)
    values["prediction"] = values["prediction"].where(values["finite"], -1)
    if isinstance(output, Output):
        maps = maps_after_removal(output.part_maps, output.mask)
        values["kept"] = output.kept
        values["centroid"], values["active"] = part_centroids(maps)
        values["token"] = torch.tensor([1 / maps.shape[3], 1 / maps.shape[2]], device=maps.device).expand(len(maps), 2)
        if batch.masks is not None:
            values["intersection"], values["union"] = foreground_intersection_union(maps, batch.masks)
            values |= _seen(output.mask, batch.masks)
        if batch.keypoints is not None:
            height, width = batch.images.shape[-2:]
            values["keypoint_part"] = part_labels_at(maps, batch.keypoints, (height, width))
    if isinstance(output, MaskedPrediction):
        values["kept"] = output.kept
        if batch.masks is not None:
            values["intersection"], values["union"] = mask_intersection_union(output.mask, batch.masks)
            values |= _seen(output.mask, batch.masks)
    if batch.keypoints is not None and batch.visible is not None and batch.boxes is not None:
        height, width = batch.images.shape[-2:]
        size = torch.tensor([width, height], device=batch.keypoints.device)
        values |= {"keypoint": batch.keypoints / size, "visible": batch.visible, "box": batch.boxes / size.repeat(2)}
    return values


def _seen(mask: Tensor, masks: Tensor) -> dict[str, Tensor]:
    both, seen = seen_on_object(mask, masks)
    return {"seen_on_object": both, "seen": seen, "object": masks.bool().sum((1, 2))}


def record_classes(
    logits: Tensor,
    batch: Batch,
    *,
    class_map: Tensor | None = None,
    temperature: float | None = None,
    keep_logits: bool = False,
) -> dict[str, Tensor]:
    """What the logits (B, C) say of each image: a few numbers, so that a split of many classes fits in memory.

    ``class_map`` (C,) int: the class of the data for each class of the model, −1 for none; then only the predicted
    class is known. ``temperature``: adds the confidence of logits / temperature. ``keep_logits``: the logits too.
    """
    logits = logits.float()
    prediction = logits.argmax(1)
    values = {"index": batch.indices, "label": batch.labels, "group": batch.groups}
    if class_map is not None:
        return values | {"prediction": class_map.to(prediction.device)[prediction]}
    values |= {
        "prediction": prediction,
        "margin": logits[:, 1] - logits[:, 0],
        "rank": label_ranks(logits, batch.labels),
        "confidence": logits.softmax(1).amax(1),
    }
    if temperature is not None:
        values["confidence_scaled"] = (logits / temperature).softmax(1).amax(1)
    if keep_logits:
        values["logits"] = logits
    return values


def summarise(
    records: Accumulator, group_names: Sequence[str], training_group_sizes: Mapping[str, int], *, num_classes: int
) -> Score:
    """The score of everything recorded."""
    if records.num_samples == 0:
        raise DataError("evaluation: expected at least one image that can be read, got none; see ifam doctor")
    lost = int((~records["finite"]).sum()) if "finite" in records else 0
    weights = [training_group_sizes.get(name, 0) for name in group_names]
    score = classification_score(
        records["prediction"],
        records["label"],
        records["group"],
        num_groups=len(group_names),
        training_group_sizes=weights if any(weights) else None,
        margins=records["margin"] if num_classes == 2 and not lost else None,
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
        top5_accuracy=share_within(records["rank"], TOP) if num_classes > TOP and "rank" in records else None,
        calibration_error=calibration_error(records, "confidence"),
        not_finite=lost or None,
        **(_worst_group_auc(records, group_names) if num_classes == 2 and not lost else {}),
        **(_part_agreement(records) if "keypoint_part" in records else {}),
        **(_on_object(records) if "seen_on_object" in records else {}),
    )


def outcomes(records: Accumulator, class_names: Sequence[str], group_names: Sequence[str]) -> dict[str, Any]:
    """How often each class was there, was right and was the answer, in all and by group, named as fields."""
    answers, labels, groups = records["prediction"], records["label"], records["group"]
    count, right, answered = (
        torch.bincount(of[of >= 0], minlength=len(class_names)).tolist()
        for of in (labels, labels[answers == labels], answers)
    )
    classes = {
        name: ClassResult(accuracy=right[i] / count[i] if count[i] else None, count=count[i], answers=answered[i])
        for i, name in enumerate(class_names)
    }
    by_group: dict[str, dict[str, int]] = {}
    known = (groups >= 0) & (answers >= 0)
    pairs, times = torch.unique(torch.stack([groups[known], answers[known]], 1), dim=0, return_counts=True)
    for (group, answer), number in zip(pairs.tolist(), times.tolist(), strict=True):
        by_group.setdefault(group_names[group], {})[class_names[answer]] = number
    return {"classes": classes, "answers": by_group}


def calibration_error(records: Accumulator, confidence: str) -> float | None:
    """The calibration error of a recorded confidence; None where it was not recorded, or is NaN for an image."""
    if confidence not in records or bool(records[confidence].isnan().any()):
        return None
    return calibration_error_of_confidence(records[confidence], records["prediction"] == records["label"])


def accuracy_intervals(records: Accumulator, num_groups: int) -> dict[str, Any]:
    """95 % intervals of accuracy and, where groups are known, of worst-group accuracy, named as fields."""
    correct, groups = records["prediction"] == records["label"], records["group"]
    intervals = {"accuracy_interval": accuracy_interval(correct, seed=0)}
    if bool((groups >= 0).any()):
        intervals["worst_group_accuracy_interval"] = worst_group_accuracy_interval(correct, groups, num_groups, seed=0)
    return intervals


def auc_intervals(records: Accumulator, num_groups: int) -> dict[str, Any]:
    """The same for the AUCs of two classes; some milliseconds per group and resample of many images."""
    margins, labels, groups = records["margin"], records["label"], records["group"]
    intervals = {"auc_interval": auc_interval(margins, labels, seed=0)}
    if bool((groups >= 0).any()):
        intervals["worst_group_auc_interval"] = worst_group_auc_interval(margins, labels, groups, num_groups, seed=0)
    return intervals


def _worst_group_auc(records: Accumulator, group_names: Sequence[str]) -> dict[str, Any]:
    labels, groups = records["label"], records["group"]
    worst = worst_group_auc(records["margin"], labels, groups, len(group_names))
    if worst.positive_group is None or worst.negative_group is None:
        return {}
    between = GroupPair(
        positives=group_names[worst.positive_group],
        negatives=group_names[worst.negative_group],
        num_positives=int(((groups == worst.positive_group) & (labels == 1)).sum()),
        num_negatives=int(((groups == worst.negative_group) & (labels == 0)).sum()),
        comparisons=worst.count,
    )
    return {"worst_group_auc": worst.auc, "worst_group_auc_between": between}


def _part_agreement(records: Accumulator) -> dict[str, Any]:
    """Over the visible keypoints of all images together, see `ifam.metrics.clustering`."""
    visible = records["visible"]
    parts = records["keypoint_part"][visible]
    names = torch.arange(visible.shape[1]).expand_as(visible)[visible]
    return {
        "part_nmi": normalized_mutual_information(parts, names),
        "part_ari": adjusted_rand_index(parts, names),
    }


def _on_object(records: Accumulator) -> dict[str, Any]:
    both, seen, of_object = (int(records[name].sum()) for name in ("seen_on_object", "seen", "object"))
    return {
        "seen_on_object": both / seen if seen else None,
        "object_seen": both / of_object if of_object else None,
    }
