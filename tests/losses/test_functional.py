"""Each loss against a slow reading of its definition, and the values that it must have."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ifam.losses import functional as losses

B, K, H, W, D = 2, 3, 4, 6, 5
POSITIONS = list(itertools.product(range(H), range(W)))


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(B, K + 1, H, W, dtype=torch.float64).mul(2).softmax(1)


def averaged(image: Tensor) -> Tensor:
    """3×3 averages without padding."""
    h, w = image.shape
    return torch.stack([torch.stack([image[y : y + 3, x : x + 3].mean() for x in range(w - 2)]) for y in range(h - 2)])


def naive_total_variation(maps: Tensor) -> float:
    total = 0.0
    for b, k, (y, x) in itertools.product(range(B), range(K + 1), POSITIONS):
        if y + 1 < H:
            total += abs(maps[b, k, y + 1, x] - maps[b, k, y, x]).item()
        if x + 1 < W:
            total += abs(maps[b, k, y, x + 1] - maps[b, k, y, x]).item()
    return total / (B * H * W)


def naive_entropy(maps: Tensor) -> float:
    values = maps.flatten().tolist()
    return sum(-p * math.log(p) for p in values) / (B * H * W)


def naive_concentration(maps: Tensor) -> float:
    total = 0.0
    for b, k in itertools.product(range(B), range(K)):
        p = {(y, x): maps[b, k, y, x].item() for y, x in POSITIONS}
        mass = sum(p.values())
        row, column = (sum(p[at] * at[axis] for at in POSITIONS) / mass for axis in (0, 1))
        total += sum(p[y, x] * (((y - row) / H) ** 2 + ((x - column) / W) ** 2) for y, x in POSITIONS)
    return total / (B * K * H * W)


def naive_foreground(maps: Tensor) -> float:
    highest = [max(averaged(maps[b, k]).max().item() for b in range(B)) for k in range(K)]
    return 1 - sum(highest) / K


def naive_soft_constraint(maps: Tensor) -> float:
    absent = [1 - max(averaged(maps[b, k]).max().item() for b in range(B)) for k in range(K)]
    return sum(a * (1 - 0.9 * a) for a in absent) / K


def naive_tanh(maps: Tensor) -> float:
    present = [math.tanh(sum(averaged(maps[b, k]).max().item() for b in range(B))) for k in range(K)]
    return -sum(math.log(p) for p in present) / K


def naive_soft_tanh(maps: Tensor) -> float:
    present = [math.tanh(sum(averaged(maps[b, k]).max().item() for b in range(B))) for k in range(K)]
    return 1 - sum(present) / K


def naive_background(maps: Tensor) -> float:
    rows, columns = H - 2, W - 2
    radius = {
        (y, x): (2 * y / (rows - 1) - 1) ** 2 + (2 * x / (columns - 1) - 1) ** 2
        for y, x in itertools.product(range(rows), range(columns))
    }
    largest = max(radius.values())
    total = 0.0
    for b in range(B):
        background = averaged(maps[b, K])
        total -= math.log(max(background[at].item() * radius[at] / largest for at in radius))
    return total / B


NAIVE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], float]]] = {
    "total variation": (losses.total_variation, naive_total_variation),
    "entropy": (losses.entropy, naive_entropy),
    "concentration": (losses.concentration, naive_concentration),
    "foreground": (losses.foreground_presence, naive_foreground),
    "foreground, soft constraint": (
        lambda maps: losses.foreground_presence(maps, "soft_constraint"),
        naive_soft_constraint,
    ),
    "foreground, tanh": (lambda maps: losses.foreground_presence(maps, "tanh"), naive_tanh),
    "foreground, soft tanh": (lambda maps: losses.foreground_presence(maps, "soft_tanh"), naive_soft_tanh),
    "background": (losses.background_presence, naive_background),
    "background, log": (
        lambda maps: losses.background_presence(maps, "log"),
        lambda maps: -maps[:, K].mean((1, 2)).log().mean().item(),
    ),
    "background, linear": (
        lambda maps: losses.background_presence(maps, "linear"),
        lambda maps: 1 - maps[:, K].mean().item(),
    ),
    "background, mse": (
        lambda maps: losses.background_presence(maps, "mse"),
        lambda maps: (1 - maps[:, K].mean((1, 2))).pow(2).mean().item(),
    ),
}


@pytest.mark.parametrize("name", NAIVE)
def test_definition(name: str, maps: Tensor) -> None:
    loss, naive = NAIVE[name]
    assert loss(maps).shape == ()
    assert loss(maps).item() == pytest.approx(naive(maps), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in NAIVE if name != "foreground, soft constraint"])
def test_gradient(name: str, maps: Tensor) -> None:
    assert torch.autograd.gradcheck(NAIVE[name][0], maps.requires_grad_())


def test_soft_constraint_pulls_less_on_parts_that_are_present() -> None:
    maps = torch.full((1, 3, 3, 3), 0.2)
    maps[:, 1] = 0.7
    maps.requires_grad_()
    losses.foreground_presence(maps, "soft_constraint").backward()
    assert maps.grad is not None
    pull = maps.grad.sum((0, 2, 3))
    torch.testing.assert_close(pull, torch.tensor([-(1 - 0.9 * 0.8) / 2, -(1 - 0.9 * 0.3) / 2, 0.0]))


# The gradient stays finite where softmax has underflowed, which distances of hundreds do in float32.


@pytest.mark.parametrize("value", [0.0, 1e-42, 1e-37])
@pytest.mark.parametrize("name", NAIVE)
def test_gradient_is_finite_where_parts_are_absent(name: str, value: float) -> None:
    maps = torch.full((B, K + 1, H, W), value)
    maps[:, 0] = 1
    maps.requires_grad_()
    NAIVE[name][0](maps).backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_gradient_reaches_the_distances_through_tiny_probabilities() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = -80
    logits.requires_grad_()
    losses.background_presence(logits.softmax(1)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].sum().item() == pytest.approx(-1, rel=1e-3)


# values that must be


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_total_variation_of_constant_maps_is_0(value: float) -> None:
    assert losses.total_variation(torch.full((2, 4, 5, 6), value)) == 0


@pytest.mark.parametrize("parts", [2, 5, 9])
def test_entropy_between_certain_and_uniform(parts: int) -> None:
    uniform = torch.full((2, parts, 4, 3), 1 / parts)
    assert losses.entropy(uniform).item() == pytest.approx(math.log(parts))
    certain = torch.zeros(2, parts, 4, 3)
    certain[:, 1] = 1
    assert losses.entropy(certain).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_orthogonality_of_orthogonal_and_of_identical_features(parts: int) -> None:
    orthogonal = torch.eye(64)[:, :parts] * torch.rand(3, 1, parts).add(0.1)
    assert losses.orthogonality(orthogonal).item() == pytest.approx(0, abs=1e-6)
    identical = torch.randn(3, 64, 1) * torch.rand(3, 1, parts).add(0.1)
    assert losses.orthogonality(identical).item() == pytest.approx((parts - 1) / parts, rel=1e-5)


def test_orthogonality_of_a_known_angle() -> None:
    features = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])  # columns at 45 degrees
    assert losses.orthogonality(features).item() == pytest.approx(2 * 0.5 / 4)


def test_orthogonality_gradient() -> None:
    assert torch.autograd.gradcheck(
        losses.orthogonality, torch.randn(2, D, K + 1, dtype=torch.float64).requires_grad_()
    )


def test_equivariance_of_equal_and_of_disjoint_maps(maps: Tensor) -> None:
    assert losses.equivariance(maps, maps * 3).item() == pytest.approx(0, abs=1e-12)
    left, right = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    left[..., :2], right[..., 2:] = 1, 1
    assert losses.equivariance(left, right) == 1


def test_equivariance_ignores_the_background_and_means_over_parts_and_images(maps: Tensor) -> None:
    other = torch.rand_like(maps)
    expected = 0.0
    for b, k in itertools.product(range(B), range(K)):
        dot = sum(maps[b, k, y, x] * other[b, k, y, x] for y, x in POSITIONS)
        expected += float(dot / maps[b, k].norm() / other[b, k].norm()) / (B * K)
    assert losses.equivariance(maps, other).item() == pytest.approx(1 - expected, rel=1e-12)
    other[:, -1] = 0
    assert losses.equivariance(maps, other).item() == pytest.approx(1 - expected, rel=1e-12)


def test_equivariance_gradient(maps: Tensor) -> None:
    other = torch.rand_like(maps)
    assert torch.autograd.gradcheck(losses.equivariance, (maps.requires_grad_(), other.requires_grad_()))


@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_equivariance_of_maps_that_left_the_frame(value: float) -> None:
    maps, back = torch.full((1, 3, 4, 4), value).requires_grad_(), torch.zeros(1, 3, 4, 4)
    loss = losses.equivariance(maps, back)
    assert loss == 1
    (gradient,) = torch.autograd.grad(loss, maps)
    assert gradient.isfinite().all()


def test_concentration_of_a_point_is_0() -> None:
    maps = torch.zeros(1, 2, 5, 7)
    maps[0, 0, 3, 2] = 1
    assert losses.concentration(maps).item() == pytest.approx(0, abs=1e-12)


def test_concentration_measures_each_axis_in_its_own_length() -> None:
    rows, columns = torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 4, 8)
    rows[0, 0, [0, 2], 0] = 0.5  # half of the height apart
    columns[0, 0, 0, [0, 4]] = 0.5  # half of the width apart
    for maps in (rows, columns):
        assert losses.concentration(maps).item() == pytest.approx(0.25**2 / 32)


def test_presence_is_satisfied_by_one_image_for_parts_and_by_each_image_for_background() -> None:
    maps = torch.zeros(2, 3, 5, 5)
    maps[0, 0, :3, :3], maps[1, 1, 2:, 2:] = 1, 1
    assert losses.foreground_presence(maps) == 0
    maps[:, 2, :3, 2:] = 1  # an upper right corner
    assert losses.background_presence(maps) == 0
    maps[1, 2] = 0
    assert losses.background_presence(maps) > 40


def test_every_image_shows_its_object_once_half_of_a_neighbourhood_is_object() -> None:
    maps = torch.zeros(2, 3, 5, 5)
    maps[:, 2] = 1
    maps[0, :, :2, :3], maps[0, 0, :2, :3] = 0, 1  # 6 of 9 tokens
    assert losses.object_presence(maps[:1]) == 0
    assert losses.object_presence(maps) > 40  # the second image has none
    maps[1, :, 2, 2], maps[1, 1, 2, 2] = 0, 1
    alone = losses.object_presence(maps[1:])
    assert alone.item() == pytest.approx(-math.log(2 / 9))
    torch.testing.assert_close(losses.object_presence(maps), alone / 2)


def test_background_in_the_centre_is_no_background() -> None:
    maps = torch.zeros(1, 2, 5, 5)
    maps[0, 1, 1:4, 1:4] = 1
    centre = losses.background_presence(maps)
    border = losses.background_presence(maps.roll((1, 1), dims=(2, 3)))
    assert border == 0
    # the averages of the four corners hold 4 of the 9 tokens
    assert centre.item() == pytest.approx(-math.log(4 / 9))


@pytest.mark.parametrize("size", [(3, 3), (3, 5), (5, 3)])
def test_smallest_grids(size: tuple[int, int]) -> None:
    full = torch.ones(1, 2, *size)
    assert losses.foreground_presence(full) == 0
    assert losses.background_presence(full) == 0


def test_background_invariance_is_the_cross_entropy_with_the_parts_of_the_photograph() -> None:
    logits, borrowed = torch.randn(4, 3, 5, 5, requires_grad=True), torch.randn(4, 3, 5, 5, requires_grad=True)
    chosen = borrowed.log_softmax(1).gather(1, logits.argmax(1, keepdim=True))
    found = losses.background_invariance(borrowed, logits)
    torch.testing.assert_close(found, -chosen.mean())
    found.backward()
    assert logits.grad is None
    assert borrowed.grad is not None
    assert losses.background_invariance(100 * F.one_hot(logits.argmax(1)).permute(0, 3, 1, 2), logits) == 0


@pytest.mark.parametrize("size", [(2, 8), (8, 2), (1, 1)])
@pytest.mark.parametrize("loss", [losses.foreground_presence, losses.background_presence, losses.object_presence])
def test_grids_under_3_by_3(size: tuple[int, int], loss: Callable[[Tensor], Tensor], refuses_line: Any) -> None:
    with refuses_line("at least 3×3", f"{size[0]}×{size[1]}"):
        loss(torch.ones(1, 2, *size))


@pytest.mark.parametrize("loss", [losses.foreground_presence, losses.background_presence])
def test_unknown_variants(loss: Callable[..., Tensor], refuses_line: Any) -> None:
    with refuses_line("presence", "tanh" if loss is losses.foreground_presence else "mse", "'odd'"):
        loss(torch.ones(1, 2, 4, 4), "odd")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 6), st.integers(3, 6), st.integers(2, 5))
def test_ranges_and_symmetries(seed: int, height: int, width: int, parts: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, parts, height, width, generator=generator, dtype=torch.float64).mul(3).softmax(1)
    for loss in (losses.total_variation, losses.entropy, losses.concentration, losses.background_presence):
        for view in (maps.flip(-1), maps.flip(-2), maps.mT, maps.flip(0)):
            assert loss(view).item() == pytest.approx(loss(maps).item(), rel=1e-9)
    assert 0 <= losses.entropy(maps) <= math.log(parts) + 1e-9
    assert 0 <= losses.foreground_presence(maps) <= 1
    assert 0 <= losses.equivariance(maps, maps.flip(-1)) <= 1
    assert losses.background_presence(maps) >= 0
