"""Discovered parts beside annotated foreground masks, and where they lie."""

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


def seen_on_object(mask: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels per image that are seen and of the annotated object, and all that are seen; two (B,) int64.

    ``mask`` (B, h, w) bool: the patches that are seen; ``masks`` (B, H, W) bool: the object.
    """
    both, either = mask_intersection_union(mask, masks)
    return both, either - masks.bool().sum((1, 2)) + both


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
