"""Stage 2: classification from the selected tokens only; and the plain classifier that sees everything."""

from collections.abc import Sequence

from torch import Tensor, nn

from ifam.model.backbone import Backbone
from ifam.model.base import BackboneSpec, Classifier
from ifam.output import Prediction
from ifam.preprocessing import Preprocessing


def bias_free_linear(inputs: int, outputs: int) -> nn.Linear:
    """The classification layer of both stages: truncated normal 0.02, no bias."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class TokenClassifier(nn.Module):
    """Class scores from the class token of a backbone, through a new LayerNorm and a bias-free linear layer."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(backbone.width, eps=1e-5)
        self.head = bias_free_linear(backbone.width, num_classes)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, C), of all tokens or of those in ``mask`` (B, h, w) bool: nothing else is ever read."""
        if mask is None:
            return self.score(self.backbone(images)[:, 0])
        return self.score(self.backbone.forward_selected(images, mask))

    def forward_masked(self, images: Tensor, mask: Tensor, *, soft: bool = False, bounded: bool = False) -> Tensor:
        """The same logits at full cost, with a gradient for ``mask`` (B, h, w) float; see `Backbone.forward_masked`."""
        return self.score(self.backbone.forward_masked(images, mask, soft=soft, bounded=bounded)[:, 0])

    def score(self, class_token: Tensor) -> Tensor:
        """(B, D) to (B, C)."""
        logits: Tensor = self.head(self.norm(class_token))
        return logits


class PlainClassifier(Classifier):
    """One vision transformer on whole images: the plain fine-tuning that iFAM is compared with.

    Arguments and errors: see `ifam.IFAM`.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        num_classes: int,
        image_size: int | tuple[int, int] | None = None,
        *,
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
        self.classifier = TokenClassifier(self.take_backbone(last=True), num_classes)

    def forward(self, images: Tensor) -> Prediction:
        """``images``: (B, 3, H, W), normalised."""
        self.check_images(images)
        return Prediction(logits=self.classifier(images))
