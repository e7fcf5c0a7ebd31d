"""What the models return. Shapes: B images, h×w token grid, D width, K foreground parts, C classes."""

from dataclasses import dataclass

from torch import Tensor

from ifam.errors import CheckpointError

REMEDY = "compute with --precision 32-true, and if that does not help, train the model again"
"""where scores are no numbers"""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Class scores of any model of this package."""

    logits: Tensor
    """(B, C)"""


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction(Prediction):
    """Class scores of a model that was told where to look."""

    mask: Tensor
    """(B, h, w) bool: the patches of the mask"""
    kept: Tensor
    """(B,) share of the patches that it holds"""
    pixels: Tensor
    """(B, H, W) bool: the pixels that were read: of those patches, with evidence in pixels only inside the mask"""


@dataclass(frozen=True, kw_only=True)
class PartDiscovery:
    """Stage 1: which part each token belongs to, and what the parts say about the class.

    The last of the K + 1 parts is the background.
    """

    part_logits: Tensor
    """(B, K+1, h, w): −squared distance of each token to each prototype, float32 or wider"""
    part_maps: Tensor
    """(B, K+1, h, w): probabilities over parts"""
    part_features: Tensor
    """(B, D, K+1): modulated"""
    stage1_part_logits: Tensor
    """(B, C, K)"""
    stage1_logits: Tensor
    """(B, C)"""


@dataclass(frozen=True, kw_only=True)
class EncodedDiscovery(PartDiscovery):
    """What stage 1 found, with the tokens that it found it in: late masking pools them again after interventions."""

    tokens: Tensor
    """(B, h, w, D): patch tokens of stage 1"""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which tokens stage 2 may see."""

    parts: Tensor
    """(B, h, w) int64: part of each token after interventions; K = background"""
    mask: Tensor
    """(B, h, w) bool"""
    weights: Tensor
    """(B, h, w) float: the mask as stage 2 uses it: 0 and 1 with the straight-through gradient, or soft"""
    soft: bool = False
    """whether ``weights`` lie between 0 and 1"""
    margin: Tensor | None = None
    """(B, h, w) float: by how much the foreground that was not removed wins each token, without noise; enlarged to
    pixels, it says where the object ends; None for a mask from outside, which consists of whole patches"""


@dataclass(frozen=True, kw_only=True)
class Output(PartDiscovery, Prediction):
    """Everything that the two-stage model knows about an image: the reason comes with the prediction."""

    parts: Tensor
    """(B, h, w) int64: part of each token after interventions; K = background"""
    mask: Tensor
    """(B, h, w) bool: what stage 2 sees"""
    kept: Tensor
    """(B,) share of tokens selected; 0 means that nothing supports the prediction"""
    pixels: Tensor
    """(B, H, W) bool: what stage 2 reads of the image: the patches of ``mask``, and of these, where the model takes its
    evidence in pixels, what lies inside the outline of the parts"""


def are_numbers(output: Prediction) -> Tensor:
    """Whether the scores of an image are finite, and the distances that its mask follows from: (B,) bool.

    Where one is not, the model has no answer.
    """
    finite = output.logits.isfinite().all(1)
    return finite & output.part_logits.flatten(1).isfinite().all(1) if isinstance(output, PartDiscovery) else finite


def require_numbers(output: Prediction) -> None:
    """Refuse scores that are no numbers.

    Raises:
        CheckpointError: an image has some, see `are_numbers`.
    """
    finite = are_numbers(output)
    if not finite.all():
        raise CheckpointError(
            f"model: expected finite scores of the classes, got NaN or infinity for {int((~finite).sum())} of "
            f"{len(finite)} images of a batch, since its numbers overflow; {REMEDY}"
        )


def probabilities_of(output: Prediction) -> Tensor:
    """Of the classes, in float32: (B, C).

    Raises:
        CheckpointError: see `require_numbers`.
    """
    require_numbers(output)
    return output.logits.float().softmax(1)
