"""Stage 1: tokens to parts (PDiscoFormer, ECCV 2024). Shapes: see `ifam.output`."""

import torch
from torch import Tensor

from ifam.errors import UsageError


def part_logits(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """−‖token − prototype‖² in float32 or wider: token norms² near 1,700 leave bfloat16 too few digits.

    ``tokens``: (B, h, w, D); ``prototypes``: (K+1, D). Returns (B, K+1, h, w).
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    with torch.autocast(tokens.device.type, enabled=False):
        x, p = tokens.to(wide), prototypes.to(wide)
        squared = x.square().sum(-1, keepdim=True) - 2 * x @ p.T + p.square().sum(-1)
    return -squared.permute(0, 3, 1, 2)


def lean_to_centre(prototypes: Tensor, tokens: Tensor, strength: float = 12.0) -> Tensor:
    """Prototypes whose foreground leans to what stands in the centre of images, and the background to their border.

    Random prototypes split the tokens along any direction, and training can settle on the background as the part. Here
    the foreground prototypes are shifted along the direction from the mean border token to the mean centre token, and
    the background prototype against it, so that at first the two sides differ by ``strength`` standard deviations of
    the logits over the tokens, with the decision half way. The random differences between the parts remain.

    ``prototypes``: (K+1, D); ``tokens``: (B, h, w, D) of training images. Returns (K+1, D).

    Raises:
        UsageError: a grid under 3×3, which has no border around a centre, or tokens that are all alike.
    """
    if min(tokens.shape[1:3]) < 3:
        raise UsageError(
            f"prototypes: expected a token grid of at least 3×3, got {tokens.shape[1]}×{tokens.shape[2]}; "
            "use larger images or a smaller patch"
        )
    wide = torch.promote_types(tokens.dtype, torch.float32)
    central = _central(tokens.shape[1], tokens.shape[2])
    flat, is_central = tokens.to(wide).flatten(1, 2), central.flatten().to(tokens.device)
    centre, border = flat[:, is_central].mean((0, 1)), flat[:, ~is_central].mean((0, 1))
    direction = torch.nn.functional.normalize(centre - border, dim=0)
    middle = (centre + border) @ direction / 2
    deviation = (flat @ direction).std()
    if not deviation > 0:
        raise UsageError("prototypes: expected training images whose tokens differ, got tokens that are all alike")
    step = strength / (4 * deviation)
    side = torch.ones(len(prototypes), 1, device=tokens.device, dtype=wide)
    side[-1] = -1
    return (prototypes.to(wide) + (middle + step * side) * direction).to(prototypes.dtype)


def _central(height: int, width: int) -> Tensor:
    """Bool (h, w): the inner half of each axis."""
    rows, columns = (((torch.arange(n) + 0.5) / n - 0.5).abs() <= 0.25 for n in (height, width))
    return rows[:, None] & columns


def gumbel_like(logits: Tensor) -> Tensor:
    """I.i.d. Gumbel(0, 1) noise from torch's generator."""
    return -torch.empty_like(logits).exponential_().clamp_min_(torch.finfo(logits.dtype).tiny).log()


def part_maps(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities over the K+1 parts of each token. ``logits``: (B, K+1, h, w), noise already added."""
    return (logits / temperature).softmax(1)


def part_features(maps: Tensor, tokens: Tensor) -> Tensor:
    """Mean over *all* positions of map times token: not divided by the part's mass.

    ``maps``: (B, K+1, h, w); ``tokens``: (B, h, w, D). Returns (B, D, K+1).
    """
    with torch.autocast(tokens.device.type, enabled=False):
        total = torch.einsum("bkhw,bhwd->bdk", maps, tokens.to(maps.dtype))
    return total / (maps.shape[-2] * maps.shape[-1])


def drop_parts(shape: tuple[int, int], probability: float, device: torch.device) -> Tensor:
    """Bool (B, K): which parts survive, each dropped on its own with ``probability``."""
    return torch.rand(shape, device=device) >= probability
