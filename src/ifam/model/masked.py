"""One transformer with masks from elsewhere, applied early or late: what iFAM's own masks are compared with."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.config import Evidence, TokenCutFeatures
from ifam.errors import UsageError
from ifam.model.backbone import pixels_of
from ifam.model.base import BackboneSpec, Classifier, check_evidence, check_mask, check_pixels
from ifam.model.classifier import TokenClassifier
from ifam.model.tokencut import THRESHOLD, token_cut
from ifam.output import MaskedPrediction
from ifam.preprocessing import Preprocessing

Masking = Literal["early", "late"]


class MaskedClassifier(Classifier):
    """Classifies from the patches of a mask that it is given, or that TokenCut finds.

    Early: the transformer sees the selected patches only, as stage 2 of iFAM does. Late: it sees the whole image, and
    the tokens of the selected patches are averaged, so that what they have read elsewhere comes along.

    Args:
        masking: early or late.
        masks: where the masks come from. "tokencut": from the features of the backbone as it was before training, kept
            in the model; anything else names a source outside the model, and every call needs a ``mask``.
        coverage: a patch counts as selected where a mask in pixels covers at least this share of it.
        tokencut_features: what TokenCut compares: normalised "tokens", or "keys" of the last attention, as published.
        tokencut_threshold: cosine similarity from which on it takes two patches for alike.
        evidence: of early masking, "pixels": at test time of the selected patches only the pixels inside the mask,
            where it is given in pixels.

    The other arguments and errors: see `ifam.IFAM`.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        num_classes: int,
        image_size: int | tuple[int, int] | None = None,
        *,
        masking: Masking,
        masks: str = "annotated",
        coverage: float = 0.5,
        tokencut_features: TokenCutFeatures = "tokens",
        tokencut_threshold: float = THRESHOLD,
        evidence: Evidence = "patches",
        pretrained: bool = True,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            image_size,
            pretrained=pretrained,
            class_names=class_names,
            preprocessing=preprocessing,
        )
        if masking not in get_args(Masking):
            raise UsageError(f"masking: expected early or late, got {masking!r}")
        check_evidence(evidence)
        if evidence == "pixels" and (masking == "late" or masks == "tokencut"):
            raise UsageError(
                f"evidence: expected patches with {masking} masking and masks from {masks}, got pixels, which takes "
                "early masking and masks given in pixels"
            )
        self.masking, self.masks, self.coverage, self.evidence = masking, masks, coverage, evidence
        self.tokencut_features, self.tokencut_threshold = tokencut_features, tokencut_threshold
        self.selector = self.take_backbone(last=False).requires_grad_(False) if masks == "tokencut" else None
        self.classifier = TokenClassifier(self.take_backbone(last=True), num_classes)

    @property
    def is_faithful(self) -> bool:
        """Whether the mask limits what the prediction can rest on: with early masking only."""
        return self.masking == "early"

    def forward(self, images: Tensor, mask: Tensor | None = None, pixels: Tensor | None = None) -> MaskedPrediction:
        """``images``: (B, 3, H, W), normalised; ``mask``: (B, h, w) bool, of the model's own source if None.

        ``pixels``: (B, H, W) bool, the mask in pixels, which a model with evidence in pixels keeps to at test time.

        An image in which nothing is selected is classified from the prefix tokens (early) or from zeros (late).
        """
        self.check_images(images)
        mask = self.select(images) if mask is None else mask
        size = (images.shape[2], images.shape[3])
        check_mask(mask, (images.shape[0], *self.classifier.backbone.grid(size)))
        check_pixels(pixels, (images.shape[0], *size))
        if self.training or self.evidence == "patches":
            pixels = None
        if self.masking == "early":
            logits = self.classifier(images, mask, pixels)
        else:
            _, tokens_BhwD = self.classifier.backbone.split(self.classifier.backbone(images), size)
            logits = self.classifier.score(mean_of_selected(tokens_BhwD, mask))
        patches = pixels_of(mask, self.classifier.backbone.patch_size, size)
        return MaskedPrediction(
            logits=logits,
            mask=mask,
            kept=mask.flatten(1).float().mean(1),
            pixels=patches if pixels is None else patches & pixels,
        )

    @torch.no_grad()
    def select(self, images: Tensor) -> Tensor:
        """The mask (B, h, w) bool that TokenCut finds.

        Raises:
            UsageError: the masks of this model come from elsewhere.
        """
        if self.selector is None:
            raise UsageError(
                f"mask: expected one for each image, got none: this model was trained with masks from elsewhere "
                f"({self.masks}), not with tokencut; evaluate it on a data set that has them"
            )
        if self.tokencut_features == "keys":
            features_BhwD = self.selector.keys(images)
        else:
            _, features_BhwD = self.selector.split(self.selector(images), (images.shape[2], images.shape[3]))
        return token_cut(features_BhwD, threshold=self.tokencut_threshold)

    def token_mask(self, pixels: Tensor) -> Tensor:
        """The patches (B, h, w) bool that a mask in pixels, (B, H, W) bool, covers at least by ``coverage``."""
        height, width = self.classifier.backbone.patch_size
        rows, columns = self.classifier.backbone.grid((pixels.shape[1], pixels.shape[2]))
        padded = F.pad(pixels.float(), (0, columns * width - pixels.shape[2], 0, rows * height - pixels.shape[1]))
        return F.avg_pool2d(padded[:, None], (height, width))[:, 0] >= self.coverage - 1e-6


def mean_of_selected(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, h, w, D) and (B, h, w) bool to (B, D); zeros where nothing is selected."""
    weights = mask.flatten(1).to(tokens.dtype)
    total = torch.einsum("bn,bnd->bd", weights, tokens.flatten(1, 2))
    return total / weights.sum(1, keepdim=True).clamp_min(1)
