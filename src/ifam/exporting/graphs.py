"""What is exported: each kind of model as one function of tensors, in which attention is masked instead of packed.

Shapes: B images of the model's own size, h×w token grid, K foreground parts, C classes.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ifam.errors import UsageError
from ifam.model import mask as masking
from ifam.model import pixels as pixel_maths
from ifam.model.backbone import pixels_of
from ifam.model.base import Classifier
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.output import EncodedDiscovery, PartDiscovery, Selection


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a model says."""

    logits: Tensor
    """(B, C)"""
    discovery: PartDiscovery | None = None
    """of a model with parts"""
    parts: Tensor | None = None
    """(B, h, w) int64, of a model with parts: its own, after parts were switched off"""
    outline: Tensor | None = None
    """(B, H, W), of a model with parts whose evidence is in pixels: above 0 inside the object"""


class ExportGraph(nn.Module, ABC):
    """Named tensors in, named tensors out: images and what of them may be seen, to the logits and their reason."""

    inputs: ClassVar[Mapping[str, str]]
    """name and meaning, in order"""
    outputs: ClassVar[Mapping[str, str]]
    model: Classifier

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def reference(self, inputs: Sequence[Tensor], held: Mapping[str, Tensor]) -> Reference:
        """What the model itself says to the same inputs, of which all rows have the same switched on.

        ``held``: the outputs of the file whose mask and pixels are given, where the logits rest on them alone; empty
        where the model finds its own.
        """

    def switches(self, count: int) -> Tensor | None:
        """All true: what the second input is for ``count`` images; None where there is none."""
        return None

    def everything(self, images: Tensor) -> tuple[Tensor, ...]:
        """The inputs for ``images`` with everything switched on."""
        switches = self.switches(len(images))
        return (images,) if switches is None else (images, switches)


class PartsGraph(ExportGraph):
    """The two-stage model, whose parts can be switched off image by image."""

    inputs: ClassVar[Mapping[str, str]] = {
        "images": "(B, 3, H, W) float32, normalised",
        "parts_on": "(B, K) bool: parts that may be used; the tokens of the others become background",
    }
    outputs: ClassVar[Mapping[str, str]] = {
        "logits": "(B, C) float32",
        "mask": "(B, h, w) bool: the patches that were selected",
        "parts": "(B, h, w) int64: part of each patch after parts were switched off; K = background",
        "part_maps": "(B, K+1, h, w) float32: probabilities over the parts, background last; not changed by parts_on",
        "kept": "(B,) float32: share of the patches selected; 0 means that nothing supports the prediction",
        "pixels": "(B, H, W) bool: the pixels that the prediction rests on, of the patches that were selected",
    }
    model: IFAM

    def switches(self, count: int) -> Tensor:
        """(count, K) bool."""
        return torch.ones(count, self.model.num_parts, dtype=torch.bool)

    def forward(self, images: Tensor, parts_on: Tensor) -> dict[str, Tensor]:
        """See `inputs` and `outputs`."""
        discovery = self.model.discover(images)
        winners = masking.assign_parts(discovery.part_logits)
        parts = masking.drop_from_mask(winners, parts_on)
        mask = parts < self.model.num_parts
        margin = pixel_maths.foreground_margin(discovery.part_logits, parts_on)
        selection = Selection(parts=parts, mask=mask, weights=mask.float(), margin=margin)
        pixels = self.model.evidence_pixels(selection, (images.shape[2], images.shape[3]))
        return {
            "logits": self._logits(images, discovery, selection, pixels, parts != winners, parts_on),
            "mask": mask,
            "parts": parts,
            "part_maps": discovery.part_maps,
            "kept": mask.flatten(1).float().mean(1),
            "pixels": pixels,
        }

    def _logits(
        self,
        images: Tensor,
        discovery: EncodedDiscovery,
        selection: Selection,
        pixels: Tensor,
        removed: Tensor,
        parts_on: Tensor,
    ) -> Tensor:
        model, mask = self.model, selection.mask
        if model.stage2 is None:
            return model.late_logits(discovery, mask, parts_on)
        if model.soft_masks:
            weights = (discovery.part_maps[:, :-1] * parts_on[:, :, None, None]).amax(1).masked_fill(removed, 0)
            return model.stage2.forward_masked(images, weights, soft=True)
        return model.stage2.forward_masked(pixel_maths.only(images, pixels), mask)

    def reference(self, inputs: Sequence[Tensor], held: Mapping[str, Tensor]) -> Reference:
        """By the packed path, which reads selected patches only."""
        images, parts_on = inputs
        model, size = self.model, (images.shape[2], images.shape[3])
        off = [part for part in range(model.num_parts) if not parts_on[0, part]]
        discovery = model.discover(images)
        selection = model.select(discovery, remove_parts=off)
        if model.is_faithful and held:
            logits = model.classify(images, held["mask"], held["pixels"])
        else:
            logits = model.answer(images, discovery, remove_parts=off).logits
        outline = None
        if model.evidence == "pixels" and selection.margin is not None:
            outline = pixel_maths.enlarge(selection.margin, model.stage1.patch_size, size)
        return Reference(logits=logits, discovery=discovery, parts=selection.parts, outline=outline)


class MaskGraph(ExportGraph):
    """One transformer with masks from elsewhere: where they come from is not part of the file."""

    inputs: ClassVar[Mapping[str, str]] = {
        "images": "(B, 3, H, W) float32, normalised",
        "mask": "(B, h, w) bool: the patches that may be used",
    }
    outputs: ClassVar[Mapping[str, str]] = {
        "logits": "(B, C) float32",
        "kept": "(B,) float32: share of the patches in the mask",
    }
    model: MaskedClassifier

    def __init__(self, model: MaskedClassifier) -> None:
        super().__init__(model)
        model.selector = None  # the transformer that TokenCut found masks with

    def switches(self, count: int) -> Tensor:
        """(count, h, w) bool."""
        return torch.ones(
            count, *self.model.classifier.backbone.grid(self.model.preprocessing.image_size), dtype=torch.bool
        )

    def forward(self, images: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """See `inputs` and `outputs`."""
        classifier = self.model.classifier
        if self.model.is_faithful:
            seen = only_selected(images, mask, classifier.backbone.patch_size)
            logits = classifier.forward_masked(seen, mask)
        else:
            logits = self.model(images, mask).logits
        return {"logits": logits, "kept": mask.flatten(1).float().mean(1)}

    def reference(self, inputs: Sequence[Tensor], held: Mapping[str, Tensor]) -> Reference:
        """See `ExportGraph`."""
        return Reference(logits=self.model(*inputs).logits)


class PlainGraph(ExportGraph):
    """The plain classifier: it has nothing to switch off, and no reason to give."""

    inputs: ClassVar[Mapping[str, str]] = {"images": "(B, 3, H, W) float32, normalised"}
    outputs: ClassVar[Mapping[str, str]] = {"logits": "(B, C) float32"}
    model: PlainClassifier

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `inputs` and `outputs`."""
        return {"logits": self.model(images).logits}

    def reference(self, inputs: Sequence[Tensor], held: Mapping[str, Tensor]) -> Reference:
        """See `ExportGraph`."""
        return Reference(logits=self.model(*inputs).logits)


GRAPHS: dict[type[Classifier], Any] = {IFAM: PartsGraph, MaskedClassifier: MaskGraph, PlainClassifier: PlainGraph}


def make_graph(model: Classifier) -> ExportGraph:
    """The graph of a copy of ``model``, in float32 on the CPU.

    Raises:
        UsageError: it is no model of this package.
    """
    for kind, graph in GRAPHS.items():
        if isinstance(model, kind):
            made: ExportGraph = graph(copy.deepcopy(model).cpu().float())
            return made.requires_grad_(False).eval()
    raise UsageError(f"export: expected a model of this package, got a {type(model).__name__}")


def only_selected(images: Tensor, mask: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """``images`` with 0 for every pixel outside the patches of ``mask`` (B, h, w) bool.

    The masked attention gives those patches weight 0, which is not enough: 0 times infinity is no number.
    """
    return pixel_maths.only(images, pixels_of(mask, patch_size, (images.shape[2], images.shape[3])))
