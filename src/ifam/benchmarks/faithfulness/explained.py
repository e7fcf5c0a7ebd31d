"""A classifier as explainers want it. Shapes: B images, h×w token grid, P prefix tokens, T packed tokens, C classes."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifam.errors import UsageError
from ifam.model.backbone import Backbone, pad_to_patches
from ifam.model.base import Classifier
from ifam.model.classifier import PlainClassifier, SummaryClassifier
from ifam.model.two_stage import IFAM


class Explained(nn.Module):
    """Images to logits (B, C), with the patches that the classifier reads held: iFAM's mask of ``images``, or all.

    So the explainers see one network, the last stage, on one path, the packed one, where what iFAM does not read gets
    exactly nothing. More images than there are masks are copies of all of them, one after another, as captum makes
    them.

    Raises:
        UsageError: a classifier whose tokens cannot be held.
    """

    def __init__(self, model: Classifier, images: Tensor) -> None:
        super().__init__()
        self.model = model
        self.classifier = last_stage(model)
        self.backbone = cast(Backbone, self.classifier.backbone)
        grid = self.backbone.grid((images.shape[2], images.shape[3]))
        with torch.no_grad():
            output = model(images)
        everything = images.new_ones(len(images), *grid).bool()
        self.seen: Tensor = output.mask if isinstance(model, IFAM) else everything
        """(B, h, w) bool"""
        in_pixels = isinstance(model, IFAM) and model.evidence == "pixels"
        self.pixels: Tensor | None = output.pixels if in_pixels else None
        """(B, H, W) bool: of a model with evidence in pixels"""
        self.logits: Tensor = output.logits.float()
        """(B, C): what the model answers to ``images``"""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(images, self.seen.repeat(len(images) // len(self.seen), 1, 1))

    def classify(self, images: Tensor, masks: Tensor) -> Tensor:
        """Logits of the last stage on the patches in ``masks`` (B, h, w), or (B, M, C) of M masks of each image.

        Of patches that the model itself selects with evidence in pixels, no other pixels are read here either.
        """
        pixels = self.pixels
        if pixels is not None:
            # copies of all images lie one after another; masks of one image beside each other
            pixels = pixels[: len(images)].repeat(-(-len(images) // len(pixels)), 1, 1)
            if masks.ndim == 4:
                pixels = pixels[:, None].expand(-1, masks.shape[1], -1, -1)
        return self.classifier.score(self.backbone.forward_selected(images, masks, pixels))

    def anew(self, images: Tensor) -> Tensor:
        """Logits of the whole model on any images: iFAM chooses its mask again."""
        logits: Tensor = self.model(images).logits
        return logits

    def on_grid(self, features: Tensor) -> Tensor:
        """What a layer gave for the packed tokens (1, T, D), where they lie: (B, D, h, w), 0 where nothing was read."""
        batch, prefix = len(self.seen), self.backbone.num_prefix_tokens
        is_patch = F.pad(self.seen.flatten(1), (prefix, 0), value=True)  # every token of every image, prefix first
        grid = features.new_zeros(batch, is_patch.shape[1], features.shape[2])
        grid[is_patch] = features[0]
        return grid[:, prefix:].view(*self.seen.shape, -1).permute(0, 3, 1, 2)

    @property
    def lengths(self) -> list[int]:
        """Packed tokens of each image."""
        counts: list[int] = (self.seen.flatten(1).sum(1) + self.backbone.num_prefix_tokens).tolist()
        return counts

    def per_patch(self, pixels: Tensor) -> Tensor:
        """Mean (B, h, w) over each patch of something on pixels (B, C, H, W), summed over channels."""
        patch = self.backbone.patch_size
        return F.avg_pool2d(pad_to_patches(pixels, patch).sum(1, keepdim=True), patch)[:, 0]


def last_stage(model: Classifier) -> SummaryClassifier:
    """The network that gives the logits.

    Raises:
        UsageError: its tokens cannot be held.
    """
    found = model.stage2 if isinstance(model, IFAM) and model.is_faithful else getattr(model, "classifier", None)
    if (
        not isinstance(model, IFAM | PlainClassifier)
        or found is None
        or not isinstance(found.backbone, Backbone)
        or found.readout != "class_token"
    ):
        raise UsageError(
            "faithfulness: expected iFAM with hard masks or a plain vision transformer that answers from its class "
            f"token, got a {type(model).__name__} of another kind"
        )
    return cast(SummaryClassifier, found)


def randomised(model: Classifier, seed: int) -> Classifier:
    """A copy in which the values of each weight tensor have changed places: its scale stays, what it learnt is gone."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copied
