"""Where a classifier looks, for MaskTune: gradient times activation of its last feature map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.errors import UsageError
from ifam.model.classifier import PlainClassifier


def saliency(model: PlainClassifier, images: Tensor) -> Tensor:
    """(B, H, W), 0 or more: what raises the score of the predicted class, enlarged bilinearly to the images.

    Gradient × activation, summed over channels, negative values dropped (HiResCAM, Draelos and Carin, 2020), at the
    input of the last block of a transformer or the last feature map of a convolutional network.
    """
    backbone = model.classifier.backbone
    captured: list[Tensor] = []

    def capture(module: object, inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise UsageError("masktune: expected a network with one last feature map, got one that passes on several")
        captured.append(output.detach().requires_grad_())
        return captured[-1]

    hook = backbone.last_features.register_forward_hook(capture)
    try:
        with torch.enable_grad():
            score = model(images).logits.float().amax(1).sum()
            (gradient,) = torch.autograd.grad(score, captured[-1])
    finally:
        hook.remove()
    evidence = backbone.feature_grid(gradient.float() * captured[-1].detach().float(), images).sum(1, keepdim=True)
    size = (images.shape[2], images.shape[3])
    return F.interpolate(evidence.relu(), size=size, mode="bilinear", align_corners=False)[:, 0]
