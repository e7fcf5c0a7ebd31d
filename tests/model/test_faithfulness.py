"""Given the mask, stage 2 is a function of the selected patches only: bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ifam.model.two_stage import IFAM

BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"img_size": 42, "patch_size": 14, "reg_tokens": 4, "no_embed_class": True, "init_values": 0.5},
    "wide": {"img_size": (24, 40)},
    "oblong patch": {"img_size": (24, 32), "patch_size": (12, 8)},
}
SIZES = {"plain": (32, 32), "registers": (45, 30), "wide": (24, 40), "oblong patch": (30, 30)}
FILLS = {"noise": 0.0, "inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}
DRAWS = 25


@pytest.fixture(params=BACKBONES)
def name(request: pytest.FixtureRequest) -> str:
    backbone: str = request.param
    return backbone


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


def pixel_mask(model: IFAM, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) bool: pixels of the selected patches; an incomplete last patch is cut."""
    height, width = model.stage1.patch_size
    rows = torch.arange(size[0]) // height
    columns = torch.arange(size[1]) // width
    return mask[:, rows][:, :, columns][:, None]


def draw_mask(model: IFAM, size: tuple[int, int], share: float) -> Tensor:
    return torch.rand(1, *model.stage1.grid(size)) < share


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_pixels_outside_the_mask_change_no_bit(name: str, dtype: torch.dtype, fill: str, make_model: Any) -> None:
    model, size = make_model(BACKBONES[name]).to(dtype), SIZES[name]
    for draw in range(DRAWS):
        images, mask = torch.randn(1, 3, *size), draw_mask(model, size, share=draw / DRAWS)
        outside = torch.randn_like(images) * 100 if fill == "noise" else torch.full_like(images, FILLS[fill])
        changed = torch.where(pixel_mask(model, mask, size), images, outside)
        logits = model.classify(images, mask)
        assert logits.dtype == dtype
        assert logits.isfinite().all()
        assert torch.equal(bits(model.classify(changed, mask)), bits(logits))


@torch.inference_mode()
def test_every_pixel_inside_the_mask_counts(name: str, make_model: Any) -> None:
    model, size = make_model(BACKBONES[name]), SIZES[name]
    images, mask = torch.randn(1, 3, *size), draw_mask(model, size, share=0.5)
    logits = model.classify(images, mask)
    for row, column in pixel_mask(model, mask, size)[0, 0].nonzero()[:: size[1] // 3].tolist():
        changed = images.clone()
        changed[0, :, row, column] += 1
        assert not torch.equal(model.classify(changed, mask), logits)


@torch.inference_mode()
def test_positions_of_the_selected_patches_count(name: str, make_model: Any) -> None:
    model, size = make_model(BACKBONES[name]), SIZES[name]
    images = torch.ones(1, 3, *size)
    first, last = (torch.zeros(1, *model.stage1.grid(size), dtype=torch.bool) for _ in range(2))
    first[0, 0, 0] = last[0, 1, 1] = True  # the same pixels at two places
    assert not torch.allclose(model.classify(images, first), model.classify(images, last))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@torch.inference_mode()
def test_dropping_tokens_equals_masking_keys(name: str, share: float, make_model: Any) -> None:
    model, size = make_model(BACKBONES[name]), SIZES[name]
    images = torch.randn(4, 3, *size)
    mask = torch.rand(4, *model.stage1.grid(size)) < share
    dense = model.stage2.forward_masked(images, mask)
    torch.testing.assert_close(model.classify(images, mask), dense, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_other_images_of_the_batch_change_nothing(name: str, make_model: Any) -> None:
    model, size = make_model(BACKBONES[name]), SIZES[name]
    images, mask = torch.randn(5, 3, *size), torch.rand(5, *model.stage1.grid(size)) < 0.5
    mask[1], mask[2] = False, True  # mixed counts, an empty one among them
    together = model.classify(images, mask)
    for i in range(5):
        alone = model.classify(images[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-5)
    infected = images.clone()
    infected[3] = float("nan")
    others = [0, 1, 2, 4]
    assert torch.equal(bits(model.classify(infected, mask)[others]), bits(together[others]))
