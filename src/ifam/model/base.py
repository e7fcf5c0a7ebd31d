"""What every classifier of this package carries, so that a saved model is complete."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast, get_args
from unicodedata import category

import torch
from torch import Tensor, nn

from ifam.config import Evidence
from ifam.errors import UsageError
from ifam.model.backbone import Backbone
from ifam.model.build import AnyBackbone, Architecture, build_vit, describe, describe_pooled
from ifam.model.pooled import PooledBackbone
from ifam.preprocessing import Preprocessing

BackboneSpec = str | Path | nn.Module
"""a timm model name, a .safetensors file whose metadata names the architecture, or a timm model to copy"""

CONTROLS = ("Cc", "Zl", "Zp")
"""characters that control a terminal or end a line"""


class Classifier(nn.Module):
    """Class names, preprocessing and origin of a model over one or more copies of a backbone."""

    takes_any_backbone: ClassVar[bool] = False
    """Whether a network whose tokens cannot be selected will do."""

    def __init__(
        self,
        backbone: BackboneSpec,
        num_classes: int,
        image_size: int | tuple[int, int] | None,
        *,
        pretrained: bool,
        class_names: Sequence[str] | None,
        preprocessing: Preprocessing | None,
    ) -> None:
        super().__init__()
        at_least("num_classes", num_classes, 2)
        size = _image_size(image_size)
        start = build_vit(backbone, pretrained=pretrained, image_size=size, pooled=self.takes_any_backbone)
        self._initial = start.open(pooled=self.takes_any_backbone)
        self.backbone_name = start.name
        self.backbone_origin = start.origin
        self.num_classes = num_classes
        self.class_names = _class_names(class_names, num_classes)
        self.preprocessing = preprocessing or Preprocessing(
            image_size=size or self._initial.image_size, mean=start.mean, std=start.std
        )
        self.training_group_sizes: dict[str, int] = {}
        """Training images per group: the weights of the average accuracy."""

    def take_backbone(self, *, last: bool) -> Backbone:
        """A copy of the initial backbone for one stage; the ``last`` stage takes the original itself."""
        backbone = cast(Backbone, self._initial)  # whoever takes any backbone takes `_initial` itself
        if last:
            del self._initial
            return backbone
        return copy.deepcopy(backbone)

    def set_image_size(self, image_size: tuple[int, int]) -> None:
        """Store position embeddings and preprocessing for images of (height, width) pixels."""
        for module in self.modules():
            if isinstance(module, AnyBackbone):
                module.set_image_size(image_size)
        self.preprocessing = replace(self.preprocessing, image_size=image_size)

    @property
    def backbone(self) -> AnyBackbone:
        """One of the model's backbones, for its sizes."""
        return next(module for module in self.modules() if isinstance(module, AnyBackbone))

    @property
    def architecture(self) -> Architecture:
        """How to rebuild the backbone.

        Raises:
            UsageError: it came as an instance that constructor arguments, or its timm name, do not describe.
        """
        if self.backbone_name:
            return Architecture(name=self.backbone_name)
        backbone = self.backbone
        return describe_pooled(backbone) if isinstance(backbone, PooledBackbone) else describe(backbone.vit)

    @property
    def backbone_title(self) -> str:
        """A few words for the backbone: its architecture, and what its weights' own metadata say of them."""
        return f"{self.architecture_title}; {self.backbone_origin}"

    @property
    def architecture_title(self) -> str:
        """Timm's name of the backbone's architecture, or its size where it has none; no word of its weights."""
        if self.backbone_name:
            return self.backbone_name.split(".")[0]
        backbone = self.backbone
        if isinstance(backbone, PooledBackbone):
            return "a network of its own"
        height, width = backbone.patch_size
        vit: Any = backbone.vit
        return f"vision transformer, {len(vit.blocks)} blocks of width {vit.embed_dim}, patches of {width} × {height}"

    def check_images(self, images: Tensor) -> None:
        """Refuse what is not a batch of normalised images."""
        channels = self.backbone.in_channels
        if not isinstance(images, Tensor):
            raise UsageError(f"images: expected a tensor, got {type(images).__name__}; for files use ifam.explain")
        if images.ndim != 4 or images.shape[1] != channels or images.numel() == 0:
            raise UsageError(
                f"images: expected shape (B, {channels}, height, width), at least one image, got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise UsageError(f"images: expected normalised floating-point values, got {images.dtype}")


def at_least(name: str, value: int, least: int) -> None:
    """Refuse anything but a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def check_mask(mask: Tensor, shape: tuple[int, ...], name: str = "mask") -> None:
    """Refuse anything but a bool mask over the token grid."""
    if not isinstance(mask, Tensor):
        raise UsageError(f"{name}: expected a bool tensor of shape {shape}, got {type(mask).__name__}")
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise UsageError(f"{name}: expected bool of shape {shape}, got {mask.dtype} of shape {tuple(mask.shape)}")


def check_pixels(pixels: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse anything but a bool mask over the pixels, or none."""
    if pixels is not None:
        check_mask(pixels, shape, "pixels")


def check_evidence(evidence: str) -> None:
    """Refuse anything but what evidence may be taken in."""
    if evidence not in get_args(Evidence):
        raise UsageError(f"evidence: expected patches or pixels, got {evidence!r}")


def _image_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = size if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(sides) != 2:
        raise UsageError(f"image_size: expected one whole number or (height, width), got {size!r}")
    height, width = sides
    at_least("image_size", height, 1)
    at_least("image_size", width, 1)
    return height, width


def _class_names(names: Sequence[str] | None, num_classes: int) -> list[str]:
    if names is None:
        return [str(number) for number in range(num_classes)]
    if len(names) != num_classes:
        raise UsageError(f"class_names: expected {num_classes} names, got {len(names)}")
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"class_names: expected each name once, got {twice!r} twice; rename one")
    odd = next((name for name in names if not name or any(category(letter) in CONTROLS for letter in name)), None)
    if odd is not None:
        raise UsageError(f"class_names: expected letters on one line, got {odd!r}; rename the class")
    return list(names)
