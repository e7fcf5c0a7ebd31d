"""Why the model says what it says about one image: encode once, ask many times."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ifam.data.images import open_image, to_rgb
from ifam.data.transforms import test_transform
from ifam.errors import UsageError
from ifam.explanations.figures import explanation_figure, picture_file, show_parts
from ifam.explanations.shapley import ShapleyValues, shapley_values
from ifam.explanations.shapley_figure import ShapleyBars, shapley_figure
from ifam.model.two_stage import IFAM
from ifam.output import EncodedDiscovery, probabilities_of
from ifam.outputs import mark_of
from ifam.preprocessing import Preprocessing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ImageLike = str | Path | Image.Image | NDArray[Any] | Tensor
"""a path, a PIL image, an array (H, W, 3) uint8, or a tensor (3, H, W) uint8 or float in [0, 1]; not normalised"""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A prediction and what of the image it rests on. Interventions reuse stage 1."""

    label: str
    """name of the most probable class"""
    index: int
    probability: float
    probabilities: NDArray[np.float32]
    """(C,)"""
    kept: float
    """share of the tokens selected; 0 means that nothing supports the prediction"""
    is_faithful: bool
    """whether the prediction rests on ``mask`` only: not for stage 1 alone, nor for soft masks"""
    parts: NDArray[np.int64]
    """(h, w): part of each token; K = background or removed"""
    mask: NDArray[np.bool_]
    """(h, w): the patches that stage 2 saw"""
    pixels: NDArray[np.bool_]
    """(H, W): what stage 2 read of the image: those patches, and of a model with evidence in pixels only what lies
    inside the outline of the parts"""
    image: NDArray[np.uint8]
    """(H, W, 3): the photograph as the model sees it"""
    removed_parts: tuple[int, ...] = ()
    token_quantile: float | None = None
    _model: IFAM = field(repr=False)
    _view: Tensor = field(repr=False)
    _discovery: EncodedDiscovery = field(repr=False)

    by_hand: bool = False
    """whether ``mask`` was given, in place of the model's own"""

    @property
    def num_parts(self) -> int:
        """Foreground parts of the model, K, which is also the number of the background in ``parts``."""
        return self._model.num_parts

    @property
    def has_evidence(self) -> bool:
        """Whether any token supports the prediction."""
        return self.kept > 0

    def without(self, parts: Sequence[int] = (), token_quantile: float | None = None) -> "Explanation":
        """The same image with more parts or unsure tokens removed; stage 1 is not run again.

        Raises:
            UsageError: no such part or quantile, or a mask made by hand: there is nothing of the model's to remove.
        """
        self._require_own_mask("without")
        if not isinstance(parts, Iterable):
            raise UsageError(f"parts: expected a list of foreground parts, got {parts!r}")
        removed = tuple(dict.fromkeys((*self.removed_parts, *(int(part) for part in parts))))
        quantiles = [q for q in (self.token_quantile, token_quantile) if q is not None]
        return _conclude(self._model, self._view, self._discovery, removed, min(quantiles, default=None))

    def with_mask(self, mask: NDArray[np.bool_]) -> "Explanation":
        """The same image with a mask by hand, (h, w) bool, in place of the model's own; stage 1 is not run again."""
        chosen = torch.from_numpy(np.ascontiguousarray(mask))[None].to(self._view.device)
        return _conclude(self._model, self._view, self._discovery, (), None, chosen)

    def shapley(self) -> ShapleyValues:
        """What each part contributes to the logits; see `ifam.explanations.shapley`.

        Raises:
            UsageError: the prediction does not rest on the parts alone: soft masks, no stage 2, or a mask made by hand.
        """
        self._require_own_mask("shapley")
        parts = torch.from_numpy(self.parts)[None].to(self._view.device)
        return shapley_values(self._model, self._view, parts, self._discovery.part_logits)

    def plot(self) -> "Figure":
        """Photograph, parts, what stage 2 saw, and the top classes, as a matplotlib figure."""
        title = f"{self.label} ({self.probability:.0%})" if self.has_evidence else "no evidence"
        return explanation_figure(
            self.image,
            self.parts,
            self.pixels,
            self.probabilities,
            self._model.class_names,
            self.kept,
            num_parts=self._model.num_parts,
            title=title,
            seen="seen by stage 2" if self.is_faithful else "selected, but not a limit",
        )

    def plot_shapley(self) -> "Figure":
        """The parts, and beside them what each says for the predicted class, as a matplotlib figure."""
        favour = self.shapley().in_favour_of(self.index)
        sums = f"{favour.everything:+.2f} with all parts, {favour.nothing:+.2f} with none"
        title = f"for {self.label}\n{sums if self.has_evidence else 'no evidence: there is no part'}"
        bars = ShapleyBars(title=title, values=favour.values, error=1.96 * favour.standard_error)
        return shapley_figure([bars], lambda axes: show_parts(axes, self.image, self.parts, self._model.num_parts))

    def _require_own_mask(self, what: str) -> None:
        if self.by_hand:
            raise UsageError(
                f"{what}: expected an explanation with the model's own mask, got one made by hand; ask the one that "
                "with_mask was called on"
            )

    def save(self, path: str | Path) -> None:
        """Write the figure as PNG or JPEG."""
        with picture_file(path) as temporary:
            self.plot().savefig(temporary, dpi=150, **mark_of(temporary))


@overload
def explain(model: IFAM, image: ImageLike) -> Explanation: ...
@overload
def explain(model: IFAM, image: list[ImageLike]) -> list[Explanation]: ...
@torch.inference_mode()
def explain(model: IFAM, image: ImageLike | list[ImageLike]) -> Explanation | list[Explanation]:
    """Predict one image, or a list of them, and keep what it takes to ask further questions.

    Raises:
        UsageError: not a two-stage model in eval mode, or not an image.
        DataError: a file that cannot be read.

    Example:
        >>> import ifam, numpy
        >>> model = ifam.IFAM("vit_tiny_patch16_224", num_parts=2, num_classes=2, image_size=64, pretrained=False)
        >>> explanation = ifam.explain(model.eval(), numpy.zeros((80, 64, 3), dtype=numpy.uint8))
        >>> explanation.parts.shape, explanation.without(parts=[0, 1]).kept
        ((4, 4), 0.0)
    """
    if not isinstance(model, IFAM):
        raise UsageError(f"explain: expected a two-stage model, got {type(model).__name__}, which has no parts")
    if model.training:
        raise UsageError("explain: expected a model in eval mode, got one in training mode; call model.eval()")
    if isinstance(image, list | tuple):
        return [explain(model, one) for one in image]
    parameter = next(model.parameters())
    view = test_transform(model.preprocessing)(read_image(image))[None].to(parameter.device)
    return _conclude(model, view, model.discover(view), (), None)


def read_image(image: ImageLike) -> Image.Image | Tensor:
    """Anything that `explain` takes, as a PIL image or a tensor (3, H, W)."""
    if isinstance(image, str | Path):
        return open_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image), "image")
    if 0 in getattr(image, "shape", ()):
        raise UsageError(f"image: expected pixels, got an empty {type(image).__name__} of shape {tuple(image.shape)}")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return torch.from_numpy(image.copy()).permute(2, 0, 1)
    if isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] == 3:
        if image.dtype == torch.uint8 or (image.is_floating_point() and image.amin() >= 0 and image.amax() <= 1):
            return image
        raise UsageError("image: expected a tensor of uint8 or of floats in [0, 1], got other values; do not normalise")
    kind = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))} {getattr(image, 'dtype', '')}".strip()
    raise UsageError(
        f"image: expected a path, a PIL image, an array (H, W, 3) of uint8 or a tensor (3, H, W), got {kind}"
    )


@torch.inference_mode()
def _conclude(
    model: IFAM,
    view: Tensor,
    discovery: EncodedDiscovery,
    removed: tuple[int, ...],
    quantile: float | None,
    mask: Tensor | None = None,
) -> Explanation:
    output = model.answer(view, discovery, remove_parts=removed, token_quantile=quantile, mask=mask)
    shares = probabilities_of(output)[0].cpu()
    index = int(shares.argmax())
    return Explanation(
        label=model.class_names[index],
        index=index,
        probability=float(shares[index]),
        probabilities=shares.numpy(),
        kept=float(output.kept),
        is_faithful=model.is_faithful,
        parts=output.parts[0].cpu().numpy(),
        mask=output.mask[0].cpu().numpy(),
        pixels=output.pixels[0].cpu().numpy(),
        image=to_photograph(view[0], model.preprocessing),
        removed_parts=removed,
        token_quantile=quantile,
        by_hand=mask is not None,
        _model=model,
        _view=view,
        _discovery=discovery,
    )


def to_photograph(view: Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A normalised image (3, H, W) as pixels (H, W, 3)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    pixels = (view.cpu().float() * std + mean).clamp(0, 1) * 255
    array: NDArray[np.uint8] = pixels.round().to(torch.uint8).permute(1, 2, 0).numpy()
    return array
