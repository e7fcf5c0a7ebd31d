"""What an audit finds."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ifam.config import Evidence
from ifam.metrics.bootstrap import Interval
from ifam.probe import surely_half_way

VERDICTS = ("holds", "mask_decides", "background_decides", "is_suspicious")
SURE = 0.01
"""probability below which a share that chance could have brought is taken for more than chance"""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What replacing pixels did to the logits."""

    images: int
    """with at least one changed bit"""
    bits: int
    largest: float
    """change of a logit; not finite where one is not"""


@dataclass(frozen=True, kw_only=True)
class MaskAlone:
    """How many answers stay when every pixel inside the mask is replaced and the mask is held.

    Nothing of the object is left then, so that answers which stay more often than by chance are decided by the mask.
    """

    stays: Interval
    """share of the answers that stay, and its 95 % interval over images"""
    chance: float
    """the same share when the answers are shuffled over the images: mean over the permutations"""
    p_value: float
    """share of the permutations in which as many answers stay"""

    @property
    def decides(self) -> bool:
        """Whether more than half of the answers that chance does not explain surely stay."""
        return self.p_value < SURE and surely_half_way(self.stays.low, self.chance)


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """How well the masks alone, as bits on the grid, tell what the model answers.

    Each number is the balanced accuracy of a classifier that sees nothing but the masks, cross-validated. It is a lower
    bound of what the masks tell: another classifier may read more in them.
    """

    linear: Interval
    """logistic regression: what single patches tell"""
    nonlinear: Interval
    """gradient boosting: what patches tell together, as in a code that no single patch shows"""
    chance: float
    classes: tuple[str, ...]
    """answers that are frequent enough to be told"""
    num_images: int

    @property
    def best(self) -> Interval:
        """The higher of both."""
        return max(self.linear, self.nonlinear, key=lambda interval: interval.estimate or 0)

    @property
    def is_suspicious(self) -> bool:
        """Whether one of them is surely more than half of the way from chance to certainty."""
        return any(surely_half_way(interval.low, self.chance) for interval in (self.linear, self.nonlinear))


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A photograph that was audited."""

    name: str
    """relative to the folder that holds all of them"""
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a certificate depends on beside the model and the photographs."""

    seed: int
    precision: str
    batch_size: int
    rounds: int
    """photographs that lend each one its pixels"""
    evidence: Evidence = "patches"
    """what the answers rest on: whole patches of the masks, or in them the pixels inside the outline of the parts"""

    @property
    def region(self) -> str:
        """What the model may read, in words: pixels outside are those that change nothing."""
        return "the mask" if self.evidence == "patches" else "the outline"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was found; ``holds`` speaks of the pixels outside the mask only, or with evidence in pixels of all pixels
    outside the outline of the parts in it."""

    num_images: int
    outside: Mapping[str, Changes]
    """by what replaced the pixels outside the mask, which itself is held"""
    inside: Changes
    """by noise inside the mask: the control, in which nearly every image has to change"""
    with_evidence: int
    """images in which anything is selected: those that the control can change"""
    mask_alone: Mapping[str, MaskAlone]
    """by what replaced the pixels inside the mask; empty where no image has anything selected"""
    mask_iou: float
    """mean over images and lenders, between the mask and the one found anew before another background"""
    answers_moved: float
    """share of the answers that change then: what the guarantee does not cover"""
    answers_moved_interval: Interval
    """95 %, over another sample of images"""
    answers_followed: float
    """share of the answers that become that of the photograph which lends its background"""
    answers_followed_interval: Interval
    leakage: Leakage | None
    """None if the answers are of one class, or of some too seldom"""
    weights_sha256: str
    """of the weights that were audited, as they lay in memory"""
    description_sha256: str
    """of everything else that the model is, as in model.json"""
    photographs: tuple[Photograph, ...]
    setting: Setting

    @property
    def holds(self) -> bool:
        """No pixel outside what the model may read changed a bit, and the control shows that pixels can."""
        return all(changes.bits == 0 for changes in self.outside.values()) and self.inside.images > 0

    @property
    def mask_decides(self) -> bool:
        """Whether the mask alone, with nothing of the object in it, surely decides most answers."""
        return any(found.decides for found in self.mask_alone.values())

    @property
    def background_decides(self) -> bool:
        """Whether most answers surely become that of the photograph whose background is lent."""
        low = self.answers_followed_interval.low
        return low is not None and low > 1 / 2

    @property
    def is_one_answer(self) -> bool:
        """Whether every answer is the same, whatever is replaced: then that answers stay says nothing."""
        return bool(self.mask_alone) and all(found.chance == 1 for found in self.mask_alone.values())

    @property
    def is_suspicious(self) -> bool:
        """Whether the answer may not come from the object: mask or background decide it, or the masks tell it."""
        tells = self.leakage is not None and self.leakage.is_suspicious
        return self.mask_decides or self.background_decides or tells

    @property
    def most_decided(self) -> tuple[str, MaskAlone] | None:
        """The replacement under which the answers stay most often, beyond chance; None where there was none."""
        pairs = self.mask_alone.items()
        return max(pairs, key=lambda pair: (pair[1].stays.estimate or 0) - pair[1].chance, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, which has no number for what is not finite."""
        values = {name: getattr(self, name) for name in VERDICTS} | asdict(self)
        for changes in (*values["outside"].values(), values["inside"]):
            changes["largest"] = changes["largest"] if math.isfinite(changes["largest"]) else None
        for name, found in self.mask_alone.items():
            values["mask_alone"][name]["decides"] = found.decides
        if self.leakage is not None:
            values["leakage"]["is_suspicious"] = self.leakage.is_suspicious
        return values
