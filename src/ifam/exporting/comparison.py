"""An exported file against its model: the same images, the same parts switched off.

Shapes: B images, h×w token grid, K foreground parts, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ifam.errors import ExportError
from ifam.exporting.graphs import ExportGraph, Reference
from ifam.model.backbone import pixels_of
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM

Exported = Callable[..., dict[str, Tensor]]
"""a file that was opened: the inputs of its graph, in order, to the outputs by name"""

BOUND = 1e-4
"""largest difference of a logit"""
ROUNDING = 1e-5
"""Share of a squared distance that float32 leaves open after a transformer, whichever program computes it: some 0.02 of
2,000. Where the two nearest prototypes of a token differ by less, its part is too close to call."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What an exported file says, against what the model says."""

    images: int
    """counted anew in every batch and with everything switched on, nothing, and some"""
    with_evidence: int
    """of them, those in which anything was selected"""
    logit_difference: float
    """the largest"""
    answers_changed: int
    tokens: int
    moved: int
    """tokens that got another part, or another place in the mask, though it was not too close to call"""
    ties: int
    """tokens too close to call"""
    moved_ties: int
    """of them, those that got another part"""
    maps_off: int
    """tokens whose part maps differ by more than rounding explains"""

    def require_equal(self, what: str) -> None:
        """Refuse a file that computes something else.

        Raises:
            ExportError: see above.
        """
        problem = None
        if self.moved:
            problem = f"masks, got another part or mask in {self.moved} of {self.tokens} tokens"
        elif not self.logit_difference < BOUND:  # nor if it is not a number
            problem = f"logits within {BOUND:g}, got a difference of {self.logit_difference:.3g}"
        elif self.maps_off:
            problem = f"part maps, got others in {self.maps_off} of {self.tokens} tokens"
        if problem is not None:
            raise ExportError(f"{what}: expected the model's {problem}; nothing was written")


@torch.inference_mode()
def compare(
    graph: ExportGraph, exported: Exported, batches: Iterable[Tensor], *, hold_masks: bool = True
) -> Comparison:
    """Every batch of normalised images (B, 3, H, W) with everything switched on, nothing, and some.

    ``hold_masks``: whether the model answers in the masks that the file found, where its prediction rests on the mask
    alone, so that a token too close to call does not count twice.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch in batches:
        for inputs in selections(graph, batch, generator):
            outputs = exported(*inputs)
            for rows in _alike(inputs):
                one = {name: value[rows] for name, value in outputs.items()}
                found.append(_compare_alike(graph, [value[rows] for value in inputs], one, hold_masks))
    return _total(found)


def selections(graph: ExportGraph, images: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of the graph with everything switched on, with nothing, and with half of it at random."""
    switches = graph.switches(len(images))
    if switches is None:
        yield (images,)
        return
    for share in (1.0, 0.0, 0.5):
        yield images, torch.rand(switches.shape, generator=generator) < share


def _alike(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Rows in which the same is switched on: the model takes parts to remove for a whole batch."""
    if len(inputs) == 1:
        return [torch.arange(len(inputs[0]))]
    rows: dict[bytes, list[int]] = {}
    for row, switches in enumerate(inputs[1].numpy()):
        rows.setdefault(switches.tobytes(), []).append(row)
    return [torch.tensor(alike) for alike in rows.values()]


def _compare_alike(
    graph: ExportGraph, inputs: Sequence[Tensor], found: Mapping[str, Tensor], hold_masks: bool
) -> Comparison:
    expected = graph.reference(inputs, found if hold_masks else {})
    tokens = _compare_tokens(graph.model, expected, found)
    seen = found["kept"] > 0 if "kept" in found else torch.ones(len(found["logits"]))
    return Comparison(
        images=len(found["logits"]),
        with_evidence=int(seen.sum()),
        logit_difference=float((found["logits"] - expected.logits).abs().amax()),
        answers_changed=int((found["logits"].argmax(1) != expected.logits.argmax(1)).sum()),
        **{name: int(value.sum()) for name, value in tokens.items()},
    )


def _compare_tokens(model: Classifier, expected: Reference, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One value for each token (B, h, w), of a model with parts."""
    if not isinstance(model, IFAM) or expected.discovery is None or expected.parts is None:
        return dict.fromkeys(("tokens", "moved", "ties", "moved_ties", "maps_off"), torch.zeros(0))
    best, second = expected.discovery.part_logits.topk(2, dim=1).values.unbind(1)
    rounding = ROUNDING * best.abs()
    ties = best - second < rounding
    background = expected.discovery.part_logits.shape[1] - 1
    mask = expected.parts < background
    wrong_share = (found["kept"] - found["mask"].flatten(1).float().mean(1)).abs() > 1e-6
    wrong_pixels = _wrong_pixels(model, expected, found, best).flatten(1).any(1)
    wrong_image = (wrong_share | wrong_pixels)[:, None, None]
    moved = (found["parts"] != expected.parts) | (found["mask"] != mask) | wrong_image
    difference = (found["part_maps"] - expected.discovery.part_maps).abs().amax(1)
    return {
        "tokens": torch.ones_like(ties),
        "moved": moved & ~ties,
        "ties": ties,
        "moved_ties": moved & ties,
        "maps_off": difference > rounding / model.temperature,
    }


def _wrong_pixels(model: IFAM, expected: Reference, found: Mapping[str, Tensor], best: Tensor) -> Tensor:
    """Pixels (B, H, W) on the wrong side of an outline that is not too close to call, in the patches of the file."""
    pixels = found["pixels"]
    patches = pixels_of(found["mask"], model.stage1.patch_size, (pixels.shape[1], pixels.shape[2]))
    if expected.outline is None:
        return pixels != patches
    rounding = ROUNDING * best.abs().flatten(1).amax(1)[:, None, None]
    return (pixels != (patches & (expected.outline > 0))) & (expected.outline.abs() > rounding)


def _total(rows: Sequence[Comparison]) -> Comparison:
    """Sums, and the largest difference, which is not a number if one of them is none."""
    values = {field.name: torch.tensor([getattr(row, field.name) for row in rows]) for field in fields(Comparison)}
    totals: dict[str, Any] = {
        name: float(value.amax()) if name == "logit_difference" else int(value.sum()) for name, value in values.items()
    }
    return Comparison(**totals)
