"""What the discovered parts are compared with: annotated foreground masks and keypoints."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.errors import UsageError


def foreground_intersection_union(part_maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels per image in both, and in either, of the merged foreground parts and the annotated mask.

    ``part_maps`` (B, K+1, h, w), background last, upsampled bilinearly before the winner of each pixel is taken;
    ``masks`` (B, H, W) bool. Two (B,) int64.
    """
    _check_masks(masks, len(part_maps))
    upsampled = F.interpolate(part_maps.float(), size=masks.shape[1:], mode="bilinear", align_corners=False)
    return _intersection_union(upsampled.argmax(1) != part_maps.shape[1] - 1, masks)


def mask_intersection_union(mask: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a mask of tokens, as interventions leave it: ``mask`` (B, h, w) bool, one value per patch."""
    _check_masks(masks, len(mask))
    upsampled = F.interpolate(mask[:, None].float(), size=masks.shape[1:], mode="nearest-exact")
    return _intersection_union(upsampled[:, 0] > 0.5, masks)


def _check_masks(masks: Tensor, num_images: int) -> None:
    if masks.ndim != 3 or len(masks) != num_images:
        raise UsageError(f"masks: expected ({num_images}, H, W), one per image, got {tuple(masks.shape)}")


def _intersection_union(foreground: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    masks = masks.bool()
    return (foreground & masks).sum((1, 2)), (foreground | masks).sum((1, 2))


def pooled_iou(intersection: Tensor, union: Tensor) -> float | None:
    """Intersection over union of all pixels of all images, the published figure; None where there is no foreground."""
    total = int(union.sum())
    return int(intersection.sum()) / total if total else None


def mean_image_iou(intersection: Tensor, union: Tensor) -> float | None:
    """Mean of each image's own IoU; an image where both are empty counts 1. None where there is no image."""
    if not len(union):
        return None
    return float(torch.where(union > 0, intersection / union.clamp_min(1).double(), 1.0).mean())


def part_centroids(part_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where each foreground part is, and whether it is there.

    ``part_maps`` (B, K+1, h, w), background last. Returns soft centroids (B, K, 2) as (x, y) in [0, 1] of the image,
    token i of n lying at (i + 0.5) / n, and (B, K) bool: active where the maximum of the map exceeds 0.5.
    """
    maps = part_maps[:, :-1].float()
    height, width = maps.shape[2:]
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    mass = maps.sum((2, 3)).clamp_min(torch.finfo(maps.dtype).tiny)
    centroids = torch.stack([(maps.sum(2) * x).sum(2), (maps.sum(3) * y).sum(2)], dim=-1) / mass[..., None]
    return centroids, maps.amax((2, 3)) > 0.5


@dataclass(frozen=True, kw_only=True)
class KeypointRegression:
    """Linear least squares from part centroids to keypoints, for each keypoint over the images where it is visible."""

    coefficients: Tensor  # (P, 3K+1, 2) float64
    fitted: Tensor  # (P,) bool: False for a keypoint that no training image shows

    @classmethod
    def fit(cls, centroids: Tensor, active: Tensor, keypoints: Tensor, visible: Tensor) -> Self:
        """``centroids`` (B, K, 2), ``active`` (B, K) bool, ``keypoints`` (B, P, 2), ``visible`` (B, P) bool."""
        if keypoints.shape[:2] != visible.shape or not 0 < len(keypoints) == len(centroids):
            raise UsageError(
                f"keypoints: expected ({len(centroids)}, P, 2) and visible ({len(centroids)}, P), at least one image,"
                f" got {tuple(keypoints.shape)} and {tuple(visible.shape)}"
            )
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
