"""Stage 2: classification from the selected tokens only; and the plain classifier that sees everything.

Shapes: B images, h×w token grid, D width, C classes.
"""

from collections.abc import Sequence
from typing import get_args

from torch import Tensor, nn

from ifam.config import Readout
from ifam.errors import UsageError
from ifam.model.backbone import Backbone
from ifam.model.base import BackboneSpec, Classifier
from ifam.model.build import AnyBackbone
from ifam.output import Prediction
from ifam.preprocessing import Preprocessing


def bias_free_linear(inputs: int, outputs: int) -> nn.Linear:
    """The classification layer of both stages: truncated normal 0.02, no bias."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class SummaryClassifier(nn.Module):
    """Class scores from the summary of a backbone, through a new LayerNorm and a bias-free linear layer."""

    backbone: AnyBackbone

    def __init__(self, backbone: AnyBackbone, num_classes: int, readout: Readout = "class_token") -> None:
        super().__init__()
        self.backbone, self.readout = backbone, readout
        width = backbone.width if readout == "class_token" else 2 * backbone.width
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = bias_free_linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        if self.readout == "class_token_and_mean" and isinstance(self.backbone, Backbone):
            return self.score(self.backbone.summary_and_mean(images))
        return self.score(self.backbone.summary(images))

    def score(self, summary: Tensor) -> Tensor:
        """(B, D) to (B, C)."""
        logits: Tensor = self.head(self.norm(summary))
        return logits


class TokenClassifier(SummaryClassifier):
    """Class scores from the class token of a backbone, which may attend to some of the patches only."""

    backbone: Backbone

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)

    def forward(self, images: Tensor, mask: Tensor | None = None, pixels: Tensor | None = None) -> Tensor:
        """Logits (B, C), of all tokens or of those in ``mask`` (B, h, w) bool: nothing else is ever read.

        With ``pixels`` (B, H, W) bool, of these no other is read either. Of M masks of each image, (B, M, h, w), and
        their pixels, (B, M, H, W): (B, M, C).
        """
        if mask is None:
            return super().forward(images)
        return self.score(self.backbone.forward_selected(images, mask, pixels))

    def forward_masked(self, images: Tensor, mask: Tensor, *, soft: bool = False) -> Tensor:
        """The same logits at the cost of all tokens; see `Backbone.forward_masked`."""
        return self.score(self.backbone.forward_masked(images, mask, soft=soft))

    def forward_with_mask_gradient(self, images: Tensor, mask: Tensor, *, bounded: bool = False) -> Tensor:
        """The same logits with a gradient for ``mask`` (B, h, w) float; see `Backbone.forward_with_mask_gradient`."""
        return self.score(self.backbone.forward_with_mask_gradient(images, mask, bounded=bounded))


class PlainClassifier(Classifier):
    """One network on whole images: the plain fine-tuning that iFAM is compared with.

    Args:
        backbone: as for `ifam.IFAM`; beyond its transformers any timm model, by name, from a ``.safetensors`` file, or
            as ``timm.create_model`` made it, which then pools its features as it always does.
        readout: what of a vision transformer is classified from: its class token alone, or beside it the mean of its
            patches.

    The other arguments and errors: see `ifam.IFAM`. Not every timm model takes images of every size.

    Example:
        >>> import ifam, torch
        >>> model = ifam.PlainClassifier("resnet18", num_classes=2, image_size=64, pretrained=False)
        >>> tuple(model.eval()(torch.zeros(1, 3, 64, 64)).logits.shape)
        (1, 2)
    """

    takes_any_backbone = True

    def __init__(
        self,
        backbone: BackboneSpec,
        num_classes: int,
        image_size: int | tuple[int, int] | None = None,
        *,
        pretrained: bool = True,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        readout: Readout = "class_token",
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            image_size,
            pretrained=pretrained,
            class_names=class_names,
            preprocessing=preprocessing,
        )
        if readout not in get_args(Readout):
            raise UsageError(f"readout: expected {' or '.join(get_args(Readout))}, got {readout!r}")
        if readout != "class_token" and not isinstance(self._initial, Backbone):
            raise UsageError(f"readout: expected class_token of a network without patch tokens, got {readout}")
        self.classifier = SummaryClassifier(self._initial, num_classes, readout)
        del self._initial

    @property
    def readout(self) -> Readout:
        """See the argument."""
        return self.classifier.readout

    def forward(self, images: Tensor) -> Prediction:
        """``images``: (B, 3, H, W), normalised."""
        self.check_images(images)
        return Prediction(logits=self.classifier(images))
