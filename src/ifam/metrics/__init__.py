"""Metrics as plain functions on tensors, and what gathers their inputs over batches."""

from ifam.metrics.accumulate import (
    Accumulator,
    ClassificationScore,
    ForegroundScore,
    classification_score,
    foreground_score,
)
from ifam.metrics.bootstrap import (
    Interval,
    accuracy_interval,
    auc_interval,
    bootstrap_interval,
    paired_auc_win_shares,
    paired_win_shares,
    worst_group_accuracy_interval,
    worst_group_auc_interval,
)
from ifam.metrics.calibration import (
    calibration_error_of_confidence,
    expected_calibration_error,
    fit_temperature,
)
from ifam.metrics.clustering import adjusted_rand_index, normalized_mutual_information, part_labels_at
from ifam.metrics.groups import GroupScore, binary_auc, group_accuracy, weighted_accuracy, worst_group_accuracy
from ifam.metrics.keypoints import (
    KeypointRegression,
    KeypointScore,
    PublishedKeypointRegression,
    inside_box,
    keypoint_error,
)
from ifam.metrics.parts import (
    foreground_intersection_union,
    mask_intersection_union,
    mean_image_iou,
    part_centroids,
    pooled_iou,
    seen_on_object,
)
from ifam.metrics.robust_auc import WorstGroupAuc, group_auc, worst_group_auc
from ifam.metrics.top_k import label_ranks, share_within, top_k_accuracy

__all__ = [
    "Accumulator",
    "ClassificationScore",
    "ForegroundScore",
    "GroupScore",
    "Interval",
    "KeypointRegression",
    "KeypointScore",
    "PublishedKeypointRegression",
    "WorstGroupAuc",
    "accuracy_interval",
    "adjusted_rand_index",
    "auc_interval",
    "binary_auc",
    "bootstrap_interval",
    "calibration_error_of_confidence",
    "classification_score",
    "expected_calibration_error",
    "fit_temperature",
    "foreground_intersection_union",
    "foreground_score",
    "group_accuracy",
    "group_auc",
    "inside_box",
    "keypoint_error",
    "label_ranks",
    "mask_intersection_union",
    "mean_image_iou",
    "normalized_mutual_information",
    "paired_auc_win_shares",
    "paired_win_shares",
    "part_centroids",
    "part_labels_at",
    "pooled_iou",
    "seen_on_object",
    "share_within",
    "top_k_accuracy",
    "weighted_accuracy",
    "worst_group_accuracy",
    "worst_group_accuracy_interval",
    "worst_group_auc",
    "worst_group_auc_interval",
]
