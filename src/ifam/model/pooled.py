"""Any timm model as one feature vector per image: convolutional networks, and transformers without selectable tokens.

Shapes: B images, h×w last feature map, D width.
"""

from typing import Any

import torch
from timm.layers.helpers import to_2tuple
from torch import Tensor, nn

from ifam.errors import UsageError, first_line
from ifam.model.backbone import pad_to_patches, patch_size, resize, whole_patches

FAILURES = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""what timm's models raise for images that they cannot take"""


class PooledBackbone(nn.Module):
    """A timm model without its classification layer: its own pooling summarises the image.

    Args:
        model: made by ``timm.create_model``.
        image_size: (height, width) that it is ready for, where the model itself does not say; its default if None.

    Raises:
        UsageError: the model is no such one, cannot take images of that size, or does not pool.
    """

    model: Any  # its layers are chosen at run time

    def __init__(self, model: nn.Module, image_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        config = getattr(model, "pretrained_cfg", None) or {}
        if not {"architecture", "input_size"} <= config.keys():
            raise UsageError(
                f"backbone: expected a plain ViT or a model made by timm.create_model, got {type(model).__name__} "
                "without the name of its architecture; pass the timm name"
            )
        self.model = model
        self.model.reset_classifier(0)
        self.patch_size: tuple[int, int] = patch_size(model)
        self.in_channels: int = config["input_size"][0]
        self._own_size: tuple[int, int] = _stored_size(model) or tuple(config["input_size"][1:])
        self.image_size: tuple[int, int] = image_size or self._own_size
        self.width: int = self._measure(self.image_size)

    @property
    def name(self) -> str:
        """timm's, of the architecture."""
        name: str = self.model.pretrained_cfg["architecture"]
        return name

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: images are cast to it."""
        return next(self.parameters()).dtype

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, D)."""
        if self.training:
            self.train()  # it may have been frozen since; and some models cache in eval mode what only this forgets
        size = (images.shape[2], images.shape[3])
        try:
            features: Tensor = self.model(pad_to_patches(images, self.patch_size).to(self.dtype))
        except FAILURES as error:
            if size == self.image_size or isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._refusal(size, error) from error
        return features

    def summary(self, images: Tensor) -> Tensor:
        """One vector per image (B, D), as `Backbone.summary`."""
        features: Tensor = self(images)
        return features

    def set_image_size(self, image_size: tuple[int, int]) -> None:
        """Make it ready for images of (height, width) pixels; an incomplete last patch counts.

        Raises:
            UsageError: the model cannot take them.
        """
        resize(self.model, image_size)
        self._measure(image_size)
        self.image_size = image_size

    def train(self, mode: bool = True) -> "PooledBackbone":
        """As ever, but what is frozen stays in eval mode: its batch statistics do not move either."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    @property
    def last_features(self) -> nn.Module:
        """The layer whose output is the last feature map: for maps of what a classifier looks at.

        Raises:
            UsageError: timm names none.
        """
        try:
            layer: nn.Module = self.model.get_submodule(self.model.feature_info[-1]["module"])
        except (AttributeError, IndexError) as error:
            raise UsageError(f"backbone: expected one of which timm names the feature maps, got {self.name}") from error
        return layer

    def feature_grid(self, features: Tensor, images: Tensor) -> Tensor:
        """What `last_features` gave for ``images``, or its gradient, as (B, D, h, w).

        Raises:
            UsageError: it is no such map.
        """
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else features
        patches = features[:, getattr(self.model, "num_prefix_tokens", 0) :].transpose(1, 2)
        rows = round((patches.shape[2] * images.shape[2] / images.shape[3]) ** 0.5)
        if patches.shape[2] % rows:
            raise UsageError(f"backbone: expected one whose last features form a grid, got {self.name}")
        return patches.reshape(*patches.shape[:2], rows, -1)

    @torch.no_grad()
    def _measure(self, image_size: tuple[int, int]) -> int:
        """D, from one black image: timm says nowhere reliably which sizes a model takes, and how wide it is."""
        mode, parameter = self.training, next(self.parameters())
        image = parameter.new_zeros(1, self.in_channels, *whole_patches(image_size, self.patch_size))
        try:
            features = self.model.eval()(image)
        except FAILURES as error:
            raise self._refusal(image_size, error) from error
        finally:
            self.model.train()  # forgets what was cached in eval mode
            self.train(mode)
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise UsageError(f"backbone: expected a model that pools its features, got a {self.name} that does not")
        return features.shape[1]

    def _refusal(self, image_size: tuple[int, int], error: BaseException) -> UsageError:
        got, own = (f"{height} × {width}" for height, width in (image_size, self._own_size))
        return UsageError(
            f"image size: expected one that {self.name} can take, such as its own {own}, got {got}: {first_line(error)}"
        )


def same_structure(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models differ in their weights only: same layers, options and shapes."""
    return _structure(one) == _structure(other)


def _structure(module: nn.Module) -> list[Any]:
    layers = [(name, type(part), _options(part)) for name, part in module.named_modules()]
    return [layers, [(name, value.shape) for name, value in module.state_dict().items()]]


def _options(layer: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, tuple, type(None))
    return {name: value for name, value in vars(layer).items() if isinstance(value, plain) and name != "training"}


def _stored_size(model: nn.Module) -> tuple[int, int] | None:
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return None if size is None else tuple(to_2tuple(size))
