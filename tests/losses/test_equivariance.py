from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from ifam.losses.equivariance import MAX_ANGLE, MAX_SHIFT, SCALES, RigidTransform

TRANSFORMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "angle": {"angle": 37.0},
    "back": {"angle": -90.0},
    "shift right": {"shift": (0.1, 0.0)},
    "shift down": {"shift": (0.0, 0.1)},
    "scale": {"scale": 1.4},
    "all": {"angle": -72.0, "shift": (-0.11, 0.07), "scale": 0.8},
}
IDENTITY: dict[str, Any] = {"angle": 0.0, "shift": (0.0, 0.0), "scale": 1.0}


@pytest.fixture(params=TRANSFORMS)
def transform(request: pytest.FixtureRequest) -> RigidTransform:
    return RigidTransform(**IDENTITY | TRANSFORMS[request.param])


def smooth(height: int, width: int) -> Tensor:
    coarse = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)


@pytest.mark.parametrize("size", [(20, 20), (20, 30), (31, 18)], ids=str)
def test_apply_is_torchvisions_affine(transform: RigidTransform, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    right, down = transform.shift
    expected = affine(
        images,
        angle=transform.angle,
        translate=[right * size[1], down * size[0]],
        scale=transform.scale,
        shear=[0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    torch.testing.assert_close(transform.apply(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(60, 60), (60, 90)], ids=str)
def test_undo_brings_back_what_stayed_in_the_frame(transform: RigidTransform, size: tuple[int, int]) -> None:
    images = smooth(*size)
    there_and_back = transform.undo(transform.apply(images))
    stayed = transform.undo(transform.apply(torch.ones_like(images))) > 0.999
    assert stayed.double().mean() > 0.3
    assert (there_and_back - images)[stayed].abs().max() < 0.03
    assert (there_and_back - images)[stayed].abs().mean() < 0.003


def test_undo_moves_maps_of_another_resolution_by_the_same_share() -> None:
    transform = RigidTransform(angle=0.0, shift=(0.25, -0.125), scale=1.0)
    images = torch.zeros(1, 1, 64, 64)
    images[..., 24:32, 16:24] = 1
    view = transform.apply(images)
    assert view[0, 0].round(decimals=4).nonzero().float().mean(0).tolist() == [19.5, 35.5]
    maps = F.avg_pool2d(view, 8)
    assert transform.undo(maps)[0, 0].round(decimals=4).nonzero().tolist() == [[3, 2]]


def test_a_quarter_turn_is_clockwise_and_leaves_the_frame_empty_with_zeros() -> None:
    images = torch.zeros(1, 1, 5, 5)
    images[..., 0, 2] = 1  # top centre
    turned = RigidTransform(angle=90.0, shift=(0.0, 0.0), scale=1.0).apply(images)
    assert turned[0, 0].round(decimals=4).nonzero().tolist() == [[2, 4]]
    smaller = RigidTransform(angle=0.0, shift=(0.0, 0.0), scale=0.8).apply(torch.ones(1, 1, 20, 20))
    assert (smaller[..., 0, :] == 0).all()


def test_draws_lie_in_the_range_and_fill_it() -> None:
    draws = [RigidTransform.draw() for _ in range(500)]
    for values, (low, high) in (
        ([draw.angle for draw in draws], (-MAX_ANGLE, MAX_ANGLE)),
        ([draw.shift[0] for draw in draws], (-MAX_SHIFT, MAX_SHIFT)),
        ([draw.shift[1] for draw in draws], (-MAX_SHIFT, MAX_SHIFT)),
        ([draw.scale for draw in draws], SCALES),
    ):
        tenth = (high - low) / 10
        assert low <= min(values) < low + tenth
        assert high - tenth < max(values) <= high
    assert (MAX_ANGLE, MAX_SHIFT, SCALES) == (90.0, 0.11, (0.8, 1.4))


def test_draws_come_from_torchs_generator() -> None:
    torch.manual_seed(3)
    first, second = RigidTransform.draw(), RigidTransform.draw()
    assert first != second
    torch.manual_seed(3)
    assert RigidTransform.draw() == first


def test_undo_is_differentiable() -> None:
    transform = RigidTransform(**TRANSFORMS["all"])
    assert torch.autograd.gradcheck(transform.undo, torch.rand(1, 2, 4, 5, dtype=torch.float64).requires_grad_())
