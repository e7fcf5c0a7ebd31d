"""From parts to the mask of stage 2, and the interventions on it.

Tokens carry the number of their part: 0 … K−1 foreground, K background. Shapes: see `ifam.output`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def assign_parts(part_logits: Tensor) -> Tensor:
    """The winning part of each token. ``part_logits``: (B, K+1, h, w); returns (B, h, w) int64."""
    return part_logits.argmax(1)


def remove_parts(parts: Tensor, removed: Sequence[int], background: int) -> Tensor:
    """Every token whose winning part is listed becomes background: it does not fall to its second-best part."""
    gone = torch.isin(parts, torch.tensor(list(removed), dtype=parts.dtype, device=parts.device))
    return parts.masked_fill(gone, background)


def remove_unsure_tokens(parts: Tensor, part_logits: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Tokens further from their prototype than the part's threshold (squared distance) become background.

    ``thresholds``: K values.
    """
    background = len(thresholds)
    distance = -part_logits.gather(1, parts[:, None]).squeeze(1)
    limit = torch.tensor([*thresholds, torch.inf], dtype=distance.dtype, device=distance.device)[parts]
    return parts.masked_fill(distance > limit, background)


def drop_from_mask(parts: Tensor, survives: Tensor) -> Tensor:
    """Part dropout as removal at test time: tokens of a dropped part become background.

    ``survives``: (B, K) bool, one draw per image and part.
    """
    background = survives.shape[1]
    with_background = F.pad(survives, (0, 1), value=True)
    alive = with_background.gather(1, parts.flatten(1)).view_as(parts)
    return parts.masked_fill(~alive, background)


def without_parts(part_logits: Tensor, survives: Tensor) -> Tensor:
    """Part dropout as in the published code: dropped parts cannot win, so that their tokens fall to the next part.

    ``part_logits``: (B, K+1, h, w); ``survives``: (B, K) bool.
    """
    dropped = torch.cat([~survives, survives.new_zeros(len(survives), 1)], dim=1)
    return part_logits.masked_fill(dropped[:, :, None, None], -torch.inf)


def maps_after_removal(part_maps: Tensor, mask: Tensor) -> Tensor:
    """Part maps (B, K+1, h, w), all background where a token of the foreground is not in ``mask`` (B, h, w) bool."""
    background = part_maps.shape[1] - 1
    removed = ~mask & (part_maps.argmax(1) < background)
    nothing = torch.zeros_like(part_maps)
    nothing[:, background] = 1
    return torch.where(removed[:, None], nothing, part_maps)


def straight_through(mask: Tensor, probability: Tensor) -> Tensor:
    """The hard ``mask`` forward, the gradient of ``probability`` backward. Both (B, h, w)."""
    return mask.to(probability.dtype) + (probability - probability.detach())
