"""The opened transformer against timm's own forward pass."""

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ParallelThingsBlock
from torch import Tensor, nn

from ifam.model.backbone import Backbone, pixels_of, whole_patches

VARIANTS: dict[str, dict[str, Any]] = {
    "patch 8": {},
    "patch 14, registers, LayerScale": {
        "img_size": 42,
        "patch_size": 14,
        "reg_tokens": 4,
        "no_embed_class": True,
        "init_values": 0.5,
    },
    "patch 16, registers with positions": {"img_size": (32, 48), "patch_size": 16, "reg_tokens": 2},
    "class token without position": {"no_embed_class": True},
    "no positions": {"pos_embed": "none"},
    "query and key norm": {"qk_norm": True},
    "norm before the blocks": {"pre_norm": True},
    "norm of the attention": {"scale_attn_norm": True},
    "pooled by averaging": {"global_pool": "avg"},
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


def timms_tokens(vit: Any, images: Tensor, visible: Tensor | None = None) -> Tensor:
    """timm's layers, called as timm calls them; ``visible`` (B, N) are the keys that count."""
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    mask = None if visible is None else visible[:, None, None, :]
    for block in vit.blocks:
        tokens = block(tokens, attn_mask=mask)
    normalised: Tensor = vit.fc_norm(vit.norm(tokens))
    return normalised


@torch.inference_mode()
def test_all_tokens_are_timms(variant: dict[str, Any], make_vit: Any) -> None:
    vit = make_vit(**variant)
    images = torch.randn(2, 3, *vit.patch_embed.img_size)
    expected = timms_tokens(vit, images)
    torch.testing.assert_close(Backbone(vit)(images), expected, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_the_summary_is_the_class_token(make_vit: Any) -> None:
    vit, images = make_vit(reg_tokens=2), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(Backbone(vit).summary(images), vit(images), rtol=0, atol=2e-5)
    assert Backbone(make_vit(in_chans=4)).in_channels == 4


@torch.inference_mode()
def test_masked_tokens_are_timms_with_a_mask(variant: dict[str, Any], make_vit: Any) -> None:
    vit = make_vit(**variant)
    images = torch.randn(3, 3, *vit.patch_embed.img_size)
    backbone = Backbone(vit)
    mask = torch.rand(3, *backbone.grid(vit.patch_embed.img_size)) < 0.5
    visible = F.pad(mask.flatten(1), (backbone.num_prefix_tokens, 0), value=True)
    expected = timms_tokens(vit, images, visible)
    torch.testing.assert_close(backbone.forward_masked(images, mask), expected[:, 0], rtol=0, atol=2e-5)
    torch.testing.assert_close(backbone.forward_selected(images, mask), expected[:, 0], rtol=0, atol=2e-5)
    graded = backbone.forward_with_mask_gradient(images, mask.float())
    torch.testing.assert_close(graded, expected[:, 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (64, 16), (24, 40)], ids=str)
@torch.inference_mode()
def test_positions_follow_the_size_of_the_images(size: tuple[int, int], make_vit: Any) -> None:
    vit = make_vit(dynamic_img_size=True)
    images = torch.randn(2, 3, *size)
    expected = timms_tokens(vit, images)
    torch.testing.assert_close(Backbone(vit)(images), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("stored", "asked"), [((16, 64), (32, 32)), ((16, 64), (64, 16)), ((32, 32), (30, 44))])
@torch.inference_mode()
def test_stored_positions_equal_those_resized_at_call_time(
    stored: tuple[int, int], asked: tuple[int, int], make_vit: Any
) -> None:
    backbone = Backbone(make_vit(img_size=stored))
    images = torch.randn(2, 3, *asked)
    expected = backbone(images)
    backbone.set_image_size(asked)
    assert backbone.image_size == whole_patches(asked, backbone.patch_size)
    assert backbone.grid(asked) == tuple(backbone.vit.patch_embed.grid_size)
    torch.testing.assert_close(backbone(images), expected)


@torch.inference_mode()
def test_an_incomplete_patch_is_filled_with_the_mean_colour(make_vit: Any) -> None:
    backbone, images = Backbone(make_vit()), torch.randn(2, 3, 27, 30)
    assert backbone.grid((27, 30)) == (4, 4)
    torch.testing.assert_close(backbone(images), backbone(F.pad(images, (0, 2, 0, 5))))


@torch.inference_mode()
def test_rows_and_columns_of_patches_are_not_swapped(make_vit: Any) -> None:
    backbone = Backbone(make_vit(patch_size=(4, 8)))
    images = torch.zeros(1, 3, 32, 32)
    images[:, :, 9, 17] = 1  # third row of patches of 4, third column of patches of 8
    changed = backbone.patches(images).ne(0).any(-1).unflatten(1, backbone.grid((32, 32)))
    assert changed.nonzero().tolist() == [[0, 2, 2]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, "class token"),
        ({"patch_drop_rate": 0.1}, "patch dropout"),
        ({"attn_drop_rate": 0.1}, "attention dropout"),
        ({"drop_path_rate": 0.1}, "drop path"),
    ],
    ids=str,
)
def test_transformers_that_a_selection_could_not_follow_are_refused(
    changes: dict[str, Any], said: str, make_vit: Any, refuses_line: Any
) -> None:
    with refuses_line("backbone", said):
        Backbone(make_vit(**changes))


def test_other_layers_are_refused(make_vit: Any, refuses_line: Any) -> None:
    with refuses_line("another block"):
        Backbone(make_vit(block_fn=ParallelThingsBlock))
    vit = make_vit()
    vit.patch_embed = nn.Identity()
    with refuses_line("another patch embedding"):
        Backbone(vit)
    with refuses_line("got ResNet"):
        Backbone(timm.create_model("resnet10t", pretrained=False))


def test_a_distillation_token_is_refused(refuses_line: Any) -> None:
    vit = VisionTransformerDistilled(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3, num_classes=0)
    with refuses_line("token layout"):
        Backbone(vit)


def test_pixels_of_patches() -> None:
    """Of a grid whose last row and column of patches are cut short."""
    mask = torch.rand(3, 3, 2) < 0.5
    found = pixels_of(mask, (2, 3), (5, 4))
    assert found.shape == (3, 5, 4)
    for image in range(3):
        for row in range(5):
            for column in range(4):
                assert found[image, row, column] == mask[image, row // 2, column // 3]


@torch.inference_mode()
def test_the_mean_of_selected_patches_reads_no_other(variant: dict[str, Any], make_vit: Any) -> None:
    vit = make_vit(**variant)
    backbone, images = Backbone(vit), torch.randn(3, 3, *vit.patch_embed.img_size)
    mask = torch.rand(3, *backbone.grid((images.shape[2], images.shape[3]))) > 0.4
    mask[1] = False
    found = backbone.mean_of_selected(images, mask)
    visible = F.pad(mask.flatten(1), (backbone.num_prefix_tokens, 0), value=True)
    patches = timms_tokens(vit, images, visible)[:, backbone.num_prefix_tokens :]
    for row in (0, 2):
        expected = patches[row][mask[row].flatten()].mean(0)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=2e-5)
    assert not found[1].any()
    seen = pixels_of(mask, backbone.patch_size, (images.shape[2], images.shape[3]))[:, None]
    poisoned = torch.where(seen, images, torch.inf)
    assert torch.equal(backbone.mean_of_selected(poisoned, mask), found)
