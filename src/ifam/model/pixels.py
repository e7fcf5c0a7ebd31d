"""Which pixels of the selected patches show the object. Shapes: B images of H×W pixels, h×w tokens, K foreground parts.

A patch on the outline holds some of the surroundings too. The part map, enlarged to pixels, says where they begin.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FARTHEST = 1e6
"""a margin where no part is left to win: far beyond any other, and still a number between which to interpolate"""


def foreground_margin(part_logits: Tensor, survives: Tensor | None = None) -> Tensor:
    """By how much the best surviving part of a token beats the background and the parts that were removed: (B, h, w).

    ``part_logits``: (B, K+1, h, w), background last; ``survives``: (B, K) bool, all of them if None.
    """
    if survives is None:
        return part_logits[:, :-1].amax(1) - part_logits[:, -1]
    present = F.pad(survives, (0, 1), value=False)[:, :, None, None]
    best = part_logits.masked_fill(~present, -torch.inf).amax(1)
    rest = part_logits.masked_fill(present, -torch.inf).amax(1)
    return (best - rest).clamp(-FARTHEST, FARTHEST)


def enlarge(margin: Tensor, patch_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """A map (B, h, w) of tokens for every pixel, bilinearly between the centres of the patches: (B, H, W)."""
    height, width = patch_size
    size = (margin.shape[1] * height, margin.shape[2] * width)
    pixels = F.interpolate(margin[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return pixels[:, : image_size[0], : image_size[1]]


def only(images: Tensor, pixels: Tensor) -> Tensor:
    """``images`` (B, 3, H, W) with 0, the mean colour of normalised images, outside ``pixels`` (B, H, W) bool."""
    return torch.where(pixels[:, None], images, torch.zeros((), dtype=images.dtype, device=images.device))
