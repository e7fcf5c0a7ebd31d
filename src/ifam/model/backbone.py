"""Any timm vision transformer, opened up so that tokens can be left out before the first block.

Shapes: B images, h×w grid, N = h·w patches, P prefix tokens (class and registers), D width, T tokens of a packed batch.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.helpers import to_2tuple
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ifam.errors import UsageError
from ifam.model.attention import masked_attention, packed_attention, soft_masked_attention
from ifam.model.block import CLASS_TOKEN, Attend, Readers, run_block
from ifam.model.linear import linear, take_over
from ifam.model.mask_gradient import Layout, Tokens, run_block_twice
from ifam.model.precision import float32_on_cpu

State = TypeVar("State")


class Backbone(nn.Module):
    """A timm ``VisionTransformer`` that returns its normalised tokens, of all patches or of the selected ones.

    Raises:
        UsageError: the transformer has no class token, or parts that a token selection could not follow.
    """

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        check_backbone(vit)
        vit.reset_classifier(0)
        take_over(vit)
        self.vit: Any = vit  # its layers are chosen at run time
        self.width: int = vit.embed_dim
        self.num_prefix_tokens: int = vit.num_prefix_tokens
        height, width = vit.patch_embed.patch_size
        self.patch_size: tuple[int, int] = (height, width)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels for which the position embeddings are stored."""
        height, width = self.vit.patch_embed.img_size
        return height, width

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        channels: int = self.vit.patch_embed.proj.in_channels
        return channels

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: images are cast to it."""
        dtype: torch.dtype = self.vit.patch_embed.proj.weight.dtype
        return dtype

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w): tokens of an image; an incomplete last row or column of patches counts."""
        return -(-image_size[0] // self.patch_size[0]), -(-image_size[1] // self.patch_size[1])

    def forward(self, images: Tensor) -> Tensor:
        """All tokens after the last norm, prefix first: (B, P + N, D)."""
        tokens = torch.cat(self.embed(images), dim=1)
        return self._encode(tokens, F.scaled_dot_product_attention)

    def summary(self, images: Tensor) -> Tensor:
        """One vector per image, the class token: (B, D)."""
        tokens = torch.cat(self.embed(images), dim=1)
        return self._encode(tokens, F.scaled_dot_product_attention, readers=CLASS_TOKEN)[:, 0]

    def summary_and_mean(self, images: Tensor) -> Tensor:
        """The class token and the mean of the patch tokens, side by side: (B, 2·D)."""
        tokens = self(images)
        return torch.cat([tokens[:, 0], tokens[:, self.num_prefix_tokens :].mean(1)], dim=1)

    def set_image_size(self, image_size: tuple[int, int]) -> None:
        """Store position embeddings for images of (height, width) pixels; an incomplete last patch counts."""
        resize(self.vit, image_size)

    def split(self, tokens: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(B, P + N, D) to the prefix (B, P, D) and the grid (B, h, w, D)."""
        # shape[0], not len(), which would fix the number of images in an exported graph
        prefix, patches = tokens.tensor_split([self.num_prefix_tokens], dim=1)
        return prefix, patches.view(patches.shape[0], *self.grid(image_size), self.width)

    @property
    def last_features(self) -> nn.Module:
        """The layer whose output is the input of the last attention: for maps of what a classifier looks at."""
        layer: nn.Module = self.vit.blocks[-1].norm1
        return layer

    def feature_grid(self, features: Tensor, images: Tensor) -> Tensor:
        """What `last_features` gave for ``images``, or its gradient, without the prefix: (B, D, h, w)."""
        return self.split(features, _size(images))[1].permute(0, 3, 1, 2)

    def forward_masked(self, images: Tensor, mask: Tensor, *, soft: bool = False) -> Tensor:
        """The class token of images of which the prefix and the selected patches only are attended to: (B, D).

        At the cost of all tokens, in one graph whatever the selection. ``mask``: (B, h, w) bool; with ``soft``, float
        in [0, 1], which has a gradient.
        """
        tokens = torch.cat(self.embed(images), dim=1)
        visible = F.pad(mask.flatten(1), (self.num_prefix_tokens, 0), value=1)
        attention = soft_masked_attention if soft else masked_attention
        return self._encode(tokens, lambda q, k, v: attention(q, k, v, visible), readers=CLASS_TOKEN)[:, 0]

    def forward_with_mask_gradient(self, images: Tensor, mask: Tensor, *, bounded: bool = False) -> Tensor:
        """`forward_selected` with a gradient for ``mask``, (B, h, w) float, 0 and 1; see `ifam.model.mask_gradient`."""
        layout = Layout.of(F.pad(mask.flatten(1), (self.num_prefix_tokens, 0), value=1.0), bounded=bounded)
        tokens = layout.split(self._before_blocks(torch.cat(self.embed(images), dim=1)))

        def run(block: Any, tokens: Tokens, last: bool) -> Tokens:
            return run_block_twice(block, tokens, layout, last=last)

        return self._after_blocks(self._through_blocks(tokens, run).selected)[0]

    def forward_selected(self, images: Tensor, mask: Tensor, pixels: Tensor | None = None) -> Tensor:
        """The class token of images of which only the patches in ``mask`` are ever read.

        All are packed behind one another without padding, so the cost follows the tokens selected.
        ``mask``: (B, h, w) bool, or (B, M, h, w) for M masks of each image; ``pixels``: (B, H, W) or (B, M, H, W) bool,
        outside which a patch is 0, the mean colour of normalised images. Returns (B, D) or (B, M, D).
        """
        packed, sizes = self._pack(images, mask.flatten(-2).flatten(0, -2), pixels)
        lengths, starts = sizes.tolist(), sizes.cumsum(0) - sizes
        class_tokens = self._encode(packed[None], lambda q, k, v: packed_attention(q, k, v, lengths), readers=starts)
        return class_tokens.view(*mask.shape[:-2], self.width)

    def mean_of_selected(self, images: Tensor, mask: Tensor) -> Tensor:
        """The mean of the normalised tokens of the patches in ``mask``, of images of which no other is ever read.

        ``mask``: (B, h, w) bool. Returns (B, D); zeros where nothing is selected.
        """
        packed, sizes = self._pack(images, mask.flatten(1))
        lengths, starts = sizes.tolist(), sizes.cumsum(0) - sizes
        tokens_TD = self._encode(packed[None], lambda q, k, v: packed_attention(q, k, v, lengths))[0].float()
        row = torch.arange(len(images), device=mask.device).repeat_interleave(mask.flatten(1).sum(1))
        is_patch = torch.ones(len(tokens_TD), dtype=torch.bool, device=mask.device)
        is_patch[starts[:, None] + torch.arange(self.num_prefix_tokens, device=mask.device)] = False
        total = tokens_TD.new_zeros(len(images), self.width).index_add_(0, row, tokens_TD[is_patch])
        return total / mask.flatten(1).sum(1, keepdim=True).clamp_min(1)

    def _pack(self, images: Tensor, selected: Tensor, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Prefix and ``selected`` (M, N) patches, row behind row: the tokens (T, D), and how many each row has, (M,).

        M is a multiple of the number of images, whose masks lie beside each other. ``pixels``: see `forward_selected`.
        """
        masks_per_image = max(1, len(selected) // max(1, len(images)))
        patches, positions = self.patches(images), self.positions(self.grid(_size(images)))
        row, place = selected.nonzero(as_tuple=True)
        patches = patches[row // masks_per_image, place]
        if pixels is not None:
            inside = self.patches(pixels.flatten(0, -3)[:, None].to(self.dtype))[row, place]
            patches = patches.where(inside.repeat(1, self.in_channels) > 0, 0)
        tokens_TD = self.project(patches) + positions[0, place]
        prefix_PD = self.prefix()[0]
        kept = selected.sum(1)
        # slots of prefix and patches in the packed batch: row by row, prefix first
        ends = (kept + self.num_prefix_tokens).cumsum(0)
        starts = ends - kept - self.num_prefix_tokens
        prefix_slots = (starts[:, None] + torch.arange(self.num_prefix_tokens, device=selected.device)).flatten()
        patch_slots = torch.arange(len(row), device=selected.device) + self.num_prefix_tokens * (row + 1)
        order = torch.cat([prefix_slots, patch_slots]).argsort()
        packed = torch.cat([prefix_PD.repeat(len(selected), 1), tokens_TD.to(prefix_PD.dtype)])[order]
        return packed, ends - starts

    def keys(self, images: Tensor) -> Tensor:
        """Keys of the last attention layer, heads side by side, without the prefix: (B, h, w, H · d)."""
        vit = self.vit
        tokens = self._before_blocks(torch.cat(self.embed(images), dim=1))
        *earlier, last = vit.blocks
        for block in earlier:
            tokens = block(tokens)
        keys = last.attn.qkv(last.norm1(tokens)).unflatten(-1, (3, last.attn.num_heads, last.attn.head_dim))[:, :, 1]
        patches: Tensor = last.attn.k_norm(keys).flatten(2)[:, self.num_prefix_tokens :]
        return patches.view(len(images), *self.grid(_size(images)), patches.shape[2])

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix tokens (B, P, D) and patch tokens with positions (B, N, D), before the first block."""
        patches = self.project(self.patches(images)) + self.positions(self.grid(_size(images)))
        return self.prefix().expand(images.shape[0], -1, -1), patches

    def patches(self, images: Tensor) -> Tensor:
        """Cut the images into patches: (B, N, channels · height · width), padded with zeros to whole patches."""
        height, width = self.patch_size
        rows, columns = self.grid(_size(images))
        images = pad_to_patches(images, self.patch_size)
        grid = images.reshape(*images.shape[:2], rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        return grid.flatten(3).flatten(1, 2).to(self.dtype)

    def project(self, patches: Tensor) -> Tensor:
        """Patches (..., channels · height · width) to tokens (..., D).

        A matrix product instead of a convolution: its rows cannot leak into one another, where a bfloat16 convolution
        on CPU carries infinities from one patch to the next. In eval mode on a CPU in float32 whatever autocast says:
        next to no work, and a fifth of the noise that bfloat16 brings to the part maps.
        """
        embed = self.vit.patch_embed
        with float32_on_cpu(patches.device, training=self.training):
            tokens: Tensor = embed.norm(linear(patches, embed.proj.weight.flatten(1), embed.proj.bias))
        return tokens

    def prefix(self) -> Tensor:
        """Class and register tokens with their positions: (1, P, D)."""
        vit = self.vit
        tokens: Tensor = vit.cls_token
        if vit.reg_token is not None:
            tokens = torch.cat([tokens, vit.reg_token], dim=1)
        if vit.pos_embed is None or vit.no_embed_class:
            return tokens
        placed: Tensor = tokens + vit.pos_embed[:, : self.num_prefix_tokens]
        return placed

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings of the patches (1, N, D), resized where the grid is not the stored one."""
        vit = self.vit
        if vit.pos_embed is None:
            return self.prefix().new_zeros(1, 1, self.width).expand(1, grid[0] * grid[1], -1)
        patches: Tensor = vit.pos_embed if vit.no_embed_class else vit.pos_embed[:, self.num_prefix_tokens :]
        if grid == tuple(vit.patch_embed.grid_size):
            return patches
        resized: Tensor = resample_abs_pos_embed(
            patches, new_size=list(grid), old_size=list(vit.patch_embed.grid_size), num_prefix_tokens=0
        )
        return resized

    def _encode(self, tokens: Tensor, attend: Attend, readers: Readers | None = None) -> Tensor:
        """(B, N, D) through all blocks; with ``readers``, n places of tokens, those alone come out: (B, n, D)."""

        def run(block: Any, tokens: Tensor, last: bool) -> Tensor:
            return run_block(block, tokens, attend, readers if last else None)

        return self._after_blocks(self._through_blocks(self._before_blocks(tokens), run))

    def _before_blocks(self, tokens: Tensor) -> Tensor:
        normalised: Tensor = self.vit.norm_pre(self.vit.pos_drop(tokens))
        return normalised

    def _through_blocks(self, state: State, run: Callable[[Any, State, bool], State]) -> State:
        """``run(block, state, is the last)`` of one block after the other."""
        vit = self.vit
        for number, block in enumerate(vit.blocks, start=1):
            last = number == len(vit.blocks)
            if vit.grad_checkpointing and torch.is_grad_enabled():
                state = checkpoint(run, block, state, last, use_reentrant=False)
            else:
                state = run(block, state, last)
        return state

    def _after_blocks(self, tokens: Tensor) -> Tensor:
        # timm moves the last norm to fc_norm where it pools by averaging
        normalised: Tensor = self.vit.fc_norm(self.vit.norm(tokens))
        return normalised


def patch_size(model: Any) -> tuple[int, int]:
    """(height, width) in pixels of which the images of a timm model are whole multiples: (1, 1) without a fixed grid.

    Where a model merges its patches from stage to stage, that is one patch of the last stage; less where a model cuts
    the last patches of its own images short.
    """
    if not hasattr(model, "set_input_size"):
        return 1, 1
    height, width = to_2tuple(getattr(getattr(model, "patch_embed", None), "patch_size", 1))
    stride = max(stage["reduction"] for stage in model.feature_info)
    own = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", ())
    side = math.gcd(stride, *own[1:])
    return (height, width) if side == max(height, width) else (side, side)


def resize(model: Any, image_size: tuple[int, int]) -> None:
    """Make the fixed grid of a timm model, if it has one, fit images of (height, width) pixels."""
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=whole_patches(image_size, patch_size(model)))


def whole_patches(image_size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """(height, width) with the last patches made whole."""
    return -(-image_size[0] // patch[0]) * patch[0], -(-image_size[1] // patch[1]) * patch[1]


def pad_to_patches(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) with zeros below and to the right, up to whole patches."""
    height, width = whole_patches(_size(images), patch)
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def pixels_of(mask: Tensor, patch: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """The pixels (B, H, W) bool of images of ``image_size`` in the patches of ``mask`` (B, h, w) bool."""
    pixels = mask.repeat_interleave(patch[0], 1).repeat_interleave(patch[1], 2)
    return pixels[:, : image_size[0], : image_size[1]]


def check_backbone(vit: object) -> None:
    """Refuse, in one line, transformers whose tokens cannot be selected independently.

    Raises:
        UsageError: see above.
    """
    reason = refusal(vit)
    if reason is not None:
        raise UsageError(f"backbone: expected {reason}")


def refusal(vit: object) -> str | None:
    """What is expected of a transformer whose tokens are to be selected, and missing; None if nothing is."""
    if not isinstance(vit, VisionTransformer):
        return (
            f"a timm VisionTransformer, got {type(vit).__name__}; choose a plain ViT such as "
            "vit_base_patch14_reg4_dinov2"
        )
    if vit.cls_token is None:
        return "a class token, which stage 2 classifies from; this model has none"
    standard: list[Any] = [block for block in vit.blocks if type(block) is Block and type(block.attn) is Attention]
    refusals = {
        "token layout": type(vit)._pos_embed is not VisionTransformer._pos_embed,  # a distillation token, for instance
        "patch embedding": type(vit.patch_embed) is not PatchEmbed,
        "block": len(standard) < len(vit.blocks),
        "patch dropout": not isinstance(vit.patch_drop, nn.Identity),
        "attention dropout": any(block.attn.attn_drop.p > 0 for block in standard),
        "drop path": any(not isinstance(block.drop_path1, nn.Identity) for block in standard),
    }
    refused = [name for name, present in refusals.items() if present]
    return f"timm's standard ViT layers, got another {' and '.join(refused)}" if refused else None


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
