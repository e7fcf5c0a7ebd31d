"""Metrics as plain functions on tensors, and what gathers their inputs over batches."""

from ifam.metrics.accumulate import (
    Accumulator,
    ClassificationScore,
    ForegroundScore,
    classification_score,
    foreground_score,
)
from ifam.metrics.groups import GroupScore, binary_auc, group_accuracy, weighted_accuracy, worst_group_accuracy
from ifam.metrics.parts import (
    KeypointRegression,
    KeypointScore,
    foreground_intersection_union,
    keypoint_error,
    mask_intersection_union,
    mean_image_iou,
    part_centroids,
    pooled_iou,
)

__all__ = [
    "Accumulator",
    "ClassificationScore",
    "ForegroundScore",
    "GroupScore",
    "KeypointRegression",
    "KeypointScore",
    "binary_auc",
    "classification_score",
    "foreground_intersection_union",
    "foreground_score",
    "group_accuracy",
    "keypoint_error",
    "mask_intersection_union",
    "mean_image_iou",
    "part_centroids",
    "pooled_iou",
    "weighted_accuracy",
    "worst_group_accuracy",
]
