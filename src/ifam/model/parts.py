"""Stage 1: tokens to parts (PDiscoFormer, ECCV 2024). Shapes: see `ifam.output`."""

import torch
from torch import Tensor

from ifam.errors import UsageError

SPLITS, SHRINKAGE = 5, 0.5
"""how often the tokens are split anew in search of the object, and how far their covariance is shrunk"""
ALL_ALIKE = "prototypes: expected training images whose tokens differ, got tokens that are all alike"


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
    _check_grid(tokens)
    wide = torch.promote_types(tokens.dtype, torch.float32)
    central = _central(tokens.shape[1], tokens.shape[2])
    flat, is_central = tokens.to(wide).flatten(1, 2), central.flatten().to(tokens.device)
    centre, border = flat[:, is_central].mean((0, 1)), flat[:, ~is_central].mean((0, 1))
    direction = torch.nn.functional.normalize(centre - border, dim=0)
    middle = (centre + border) @ direction / 2
    deviation = (flat @ direction).std()
    if not deviation > 0:
        raise UsageError(ALL_ALIKE)
    step = strength / (4 * deviation)
    side = torch.ones(len(prototypes), 1, device=tokens.device, dtype=wide)
    side[-1] = -1
    return (prototypes.to(wide) + (middle + step * side) * direction).to(prototypes.dtype)


def lean_to_object(prototypes: Tensor, tokens: Tensor, strength: float = 12.0) -> Tensor:
    """Prototypes whose foreground leans to what the images have in common against their surroundings.

    Co-segmentation without labels. What stands in the centre of images is only a first guess at their object. Fisher's
    linear discriminant, shrunk half way to a multiple of the identity, tells those tokens from the others; every image
    is then split anew where its own scores fall apart (Otsu's threshold), and the discriminant of that split is found,
    five times. The threshold of an image is its own, so that what differs from image to image, such as the tone of a
    skin, does not count. As in `lean_to_centre`, the two sides then differ by ``strength`` standard deviations of the
    logits; the random differences between several parts remain.

    ``prototypes``: (K+1, D); ``tokens``: (B, h, w, D) of training images. Returns (K+1, D).

    Raises:
        UsageError: see `lean_to_centre`.
    """
    _check_grid(tokens)
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32)).flatten(1, 2)
    mean = wide.mean((0, 1))
    centred = wide - mean
    is_object = _central(tokens.shape[1], tokens.shape[2]).flatten().to(tokens.device).expand(len(tokens), -1)
    for _ in range(1 + SPLITS):
        normal, middle = _discriminant(centred, is_object)
        scores = (centred - middle) @ normal
        is_object = scores > otsu_threshold(scores)[:, None]
    normal = normal * (strength / scores.std())
    side = torch.ones(len(prototypes), 1, device=tokens.device, dtype=wide.dtype)
    side[-1] = -1
    # of a single part the random direction would only tilt the decision
    start = prototypes.to(wide) if len(prototypes) > 2 else torch.zeros_like(prototypes, dtype=wide.dtype)
    # −‖x − a − s·n/4‖² of both sides differ by x·n for s = ±1
    return (start + mean + middle + side * normal / 4).to(prototypes.dtype)


def _discriminant(tokens: Tensor, is_object: Tensor) -> tuple[Tensor, Tensor]:
    """Fisher's, of centred tokens (B, N, D) split by ``is_object`` (B, N): its normal and a point on it, (D,) each."""
    flat, inside = tokens.flatten(0, 1), is_object.flatten().to(tokens.dtype)
    share = inside.mean()
    first, second = inside @ flat / inside.sum().clamp_min(1), (1 - inside) @ flat / (1 - inside).sum().clamp_min(1)
    within = flat.T @ flat / len(flat) - share * first.outer(first) - (1 - share) * second.outer(second)
    identity = torch.eye(len(within), device=within.device, dtype=within.dtype)
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * within.trace() / len(within) * identity
    normal: Tensor = torch.linalg.solve(shrunk.double(), (first - second).double()).to(tokens.dtype)
    return normal, (first + second) / 2


def otsu_threshold(scores: Tensor) -> Tensor:
    """Where each row (B, N) splits into two sides of least variance within: (B,). N. Otsu, IEEE Trans. SMC, 1979."""
    ordered = scores.sort(1).values
    number = scores.shape[1]
    below = torch.arange(1, number, device=scores.device)
    sums = ordered.cumsum(1)
    low, high = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (number - below)
    best = (below * (number - below) * (high - low).square()).argmax(1, keepdim=True)
    return (ordered.gather(1, best) + ordered.gather(1, best + 1))[:, 0] / 2


def _check_grid(tokens: Tensor) -> None:
    if min(tokens.shape[1:3]) < 3:
        raise UsageError(
            f"prototypes: expected a token grid of at least 3×3, got {tokens.shape[1]}×{tokens.shape[2]}; "
            "use larger images or a smaller patch"
        )
    if not (tokens - tokens[:1, :1, :1]).abs().max() > 0:
        raise UsageError(ALL_ALIKE)


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
