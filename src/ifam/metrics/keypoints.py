"""How far annotated keypoints are from where the centroids of the discovered parts predict them, by two protocols."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ifam.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class KeypointRegression:
    """Linear least squares from part centroids to keypoints, for each keypoint over the images where it is visible.

    Centroids and keypoints are places in the image. The features of an image are the centroids of its active parts, 0
    for the others, which parts are active, and a constant. `PublishedKeypointRegression` is the paper's.
    """

    coefficients: Tensor  # (P, 3K+1, 2) float64
    fitted: Tensor  # (P,) bool: False for a keypoint that no training image shows

    @classmethod
    def fit(cls, centroids: Tensor, active: Tensor, keypoints: Tensor, visible: Tensor) -> Self:
        """``centroids`` (B, K, 2), ``active`` (B, K) bool, ``keypoints`` (B, P, 2), ``visible`` (B, P) bool."""
        _check_keypoints(centroids, keypoints, visible)
        seen = visible.cpu().bool().T[..., None]  # (P, B, 1)
        targets = keypoints.cpu().double().transpose(0, 1)
        # A row of zeros on both sides of the equation is a row left out.
        rows, targets = seen * _features(centroids, active), targets.where(seen, 0)
        # gelsd, because parts that are always or never active make the features rank deficient.
        coefficients = torch.linalg.lstsq(rows, targets, driver="gelsd").solution
        return cls(coefficients=coefficients, fitted=seen.any(1)[:, 0])

    def predict(self, centroids: Tensor, active: Tensor) -> Tensor:
        """Keypoints (B, P, 2) float64 in the unit of those fitted; NaN for a keypoint that was never visible there."""
        predicted = torch.einsum("bf,pfc->bpc", _features(centroids, active), self.coefficients)
        return predicted.where(self.fitted[:, None], torch.nan)


def _features(centroids: Tensor, active: Tensor) -> Tensor:
    """(B, 3K+1) float64: centroids with 0 where inactive, the activity flags, and 1."""
    active = active.cpu().double()
    located = (centroids.cpu().double() * active[..., None]).flatten(1)
    return torch.cat([located, active, torch.ones(len(active), 1, dtype=torch.float64)], dim=1)


@dataclass(frozen=True, kw_only=True)
class PublishedKeypointRegression:
    """The regression that the keypoint errors of the paper come from; its name is Kp there.

    Centroids and keypoints are places in the box of the object, see `inside_box`, which the model at test time does not
    know. For each keypoint, over the training images where it is visible: both are brought to mean 0 and deviation 1,
    the centroid of a part that is not active becomes 0, and least squares without a constant lead from one to another.
    """

    coefficients: Tensor  # (P, 2K, 2) float64
    centroid_scale: tuple[Tensor, Tensor]  # mean and deviation, (P, K, 2) each
    keypoint_scale: tuple[Tensor, Tensor]  # (P, 2) each
    fitted: Tensor  # (P,) bool: False for a keypoint that no training image shows

    @classmethod
    def fit(cls, centroids: Tensor, active: Tensor, keypoints: Tensor, visible: Tensor) -> Self:
        """``centroids`` (B, K, 2), ``active`` (B, K) bool, ``keypoints`` (B, P, 2), ``visible`` (B, P) bool."""
        _check_keypoints(centroids, keypoints, visible)
        visible, points = visible.cpu().bool(), keypoints.cpu().double()
        centroids, active = centroids.cpu().double(), active.cpu().bool()
        solved = [
            cls._solve(centroids[seen], active[seen], points[seen, number]) for number, seen in enumerate(visible.T)
        ]
        coefficients, centroid_means, centroid_deviations, means, deviations = map(
            torch.stack, zip(*solved, strict=True)
        )
        return cls(
            coefficients=coefficients,
            centroid_scale=(centroid_means, centroid_deviations),
            keypoint_scale=(means, deviations),
            fitted=visible.any(0),
        )

    @staticmethod
    def _solve(centroids: Tensor, active: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        """Of one keypoint."""
        (mean, deviation), (point_mean, point_deviation) = _scale(centroids), _scale(points)
        features = _standardised(centroids, active, mean, deviation)
        solution = torch.linalg.lstsq(features, (points - point_mean) / point_deviation, driver="gelsd").solution
        return solution, mean, deviation, point_mean, point_deviation

    def predict(self, centroids: Tensor, active: Tensor) -> Tensor:
        """Keypoints (B, P, 2) float64 in units of the box; NaN for a keypoint that was never visible in training."""
        centroids, active = centroids.cpu().double()[:, None], active.cpu().bool()[:, None]
        features = _standardised(centroids, active, *self.centroid_scale)
        mean, deviation = self.keypoint_scale
        predicted = torch.einsum("bpf,pfc->bpc", features, self.coefficients) * deviation + mean
        return predicted.where(self.fitted[:, None], torch.nan)


def _scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the first axis; a deviation of 1 where there is none, as scikit-learn has it."""
    if not len(values):
        return values.new_zeros(values.shape[1:]), values.new_ones(values.shape[1:])
    deviation = values.std(0, correction=0)
    return values.mean(0), deviation.where(deviation > 0, 1.0)


def _standardised(centroids: Tensor, active: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(…, 2K): 0, which is the mean, where a part is not active."""
    return (((centroids - mean) / deviation) * active[..., None]).flatten(-2)


def inside_box(points: Tensor, boxes: Tensor) -> Tensor:
    """Places in the box, (B, P, 2) float64: (0, 0) is its upper left corner, (1, 1) a side of it further.

    ``points`` (B, P, 2) and ``boxes`` (B, 4) as (x, y, width, height) in [0, 1] of the image. As in the published code,
    a corner outside the image moves to its border while the sides stay.
    """
    boxes = boxes.cpu().double()[:, None]
    return (points.cpu().double() - boxes[..., :2].clamp(0, 1)) / boxes[..., 2:]


def _check_keypoints(centroids: Tensor, keypoints: Tensor, visible: Tensor) -> None:
    if keypoints.shape[:2] != visible.shape or not 0 < len(keypoints) == len(centroids):
        raise UsageError(
            f"keypoints: expected ({len(centroids)}, P, 2) and visible ({len(centroids)}, P), at least one image,"
            f" got {tuple(keypoints.shape)} and {tuple(visible.shape)}"
        )


@dataclass(frozen=True, kw_only=True)
class KeypointScore:
    """Mean distance over ``count`` visible points; ``left_out`` more have no prediction."""

    error: float | None
    count: int
    left_out: int


def keypoint_error(predicted: Tensor, keypoints: Tensor, visible: Tensor, box_sizes: Tensor) -> KeypointScore:
    """Mean Euclidean distance over visible points, each axis first divided by the side of the box.

    ``predicted`` and ``keypoints`` (B, P, 2) and ``box_sizes`` (B, 2) as (width, height) in one unit: with keypoints
    in [0, 1] of the image, a box side is a share of the image side, and 1 where there is no box. An error of 0.1 is a
    tenth of the box.
    """
    if box_sizes.shape != (len(keypoints), 2) or bool((box_sizes <= 0).any()):
        raise UsageError(f"box sizes: expected ({len(keypoints)}, 2), positive, got {tuple(box_sizes.shape)}")
    offsets = (predicted.cpu().double() - keypoints.cpu().double()) / box_sizes.cpu().double()[:, None]
    distances = offsets.norm(dim=-1)[visible.cpu().bool()]
    known = distances[~distances.isnan()]
    error = float(known.mean()) if len(known) else None
    return KeypointScore(error=error, count=len(known), left_out=len(distances) - len(known))
