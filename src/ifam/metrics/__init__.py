"""Metrics as plain functions on tensors, and what gathers their inputs over batches."""

from ifam.metrics.accumulate import (
    Accumulator,
    ClassificationScore,
    ForegroundScore,
    classification_score,
    foreground_score,
)
from ifam.metrics.bootstrap import Interval, accuracy_interval, bootstrap_interval, worst_group_accuracy_interval
from ifam.metrics.calibration import expected_calibration_error, fit_temperature
from ifam.metrics.clustering import adjusted_rand_index, normalized_mutual_information, part_labels_at
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
from ifam.metrics.robust_auc import WorstGroupAuc, group_auc, worst_group_auc
from ifam.metrics.top_k import top_k_accuracy

__all__ = [
    "Accumulator",
    "ClassificationScore",
    "ForegroundScore",
    "GroupScore",
    "Interval",
    "KeypointRegression",
    "KeypointScore",
    "WorstGroupAuc",
    "accuracy_interval",
    "adjusted_rand_index",
    "binary_auc",
    "bootstrap_interval",
    "classification_score",
    "expected_calibration_error",
    "fit_temperature",
    "foreground_intersection_union",
    "foreground_score",
    "group_accuracy",
    "group_auc",
    "keypoint_error",
    "mask_intersection_union",
    "mean_image_iou",
    "normalized_mutual_information",
    "part_centroids",
    "part_labels_at",
    "pooled_iou",
    "top_k_accuracy",
    "weighted_accuracy",
    "worst_group_accuracy",
    "worst_group_accuracy_interval",
    "worst_group_auc",
]
