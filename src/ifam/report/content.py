"""What a report holds, before it is drawn. K foreground parts; shares in 0–1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifam.background import Background
from ifam.config import Evidence
from ifam.data.account import Account
from ifam.evaluate import Evaluation
from ifam.explanations.part_gallery import PartGallery
from ifam.explanations.shapley_summary import ShapleySummary
from ifam.intervene import Study
from ifam.metrics.bootstrap import Interval
from ifam.verify import Certificate

Counts = Mapping[str, Mapping[str, int]]
"""split, or "all" where the data has none -> name -> images"""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the model is."""

    num_parts: int
    num_classes: int
    is_faithful: bool
    has_second_stage: bool
    evidence: Evidence
    """what the prediction rests on: whole patches of the mask, or the pixels inside the outline of the parts"""
    backbone: str
    """timm's name of it, or its size"""
    image_size: tuple[int, int]
    """(height, width) in pixels"""
    grid: tuple[int, int]
    """(h, w) patches"""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the data holds, and what of it was read."""

    name: str
    """of its file or folder, without where that lies"""
    layout: str
    split: str
    classes: Counts
    groups: Counts
    """empty where there are none"""
    trained_on: Mapping[str, int]
    """images of each group in training, as the run remembers"""
    annotations: Sequence[str]
    account: Account
    """of what was not simply read as one image"""
    unreadable: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The images of one class or group."""

    name: str
    count: int
    accuracy: Interval
    mean_kept: float
    no_evidence: int


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much of some images is a part."""

    area: float
    """mean over the images"""
    presence: float
    """share of the images that have any of it"""


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What is known of a part; ``by_class`` and ``by_group`` only where they have images."""

    part: int
    overall: Amount
    by_class: Mapping[str, Amount]
    by_group: Mapping[str, Amount]
    nearest: int | None
    """the other part whose prototype points the same way, seen from that of the background; None if K = 1"""
    cosine: float | None
    """between the two"""
    flags: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong answer and its reasons."""

    name: str
    truth: str
    answer: str
    probability: float
    group: str | None
    kept: float
    image: NDArray[np.uint8]
    """(H, W, 3): as the model sees it"""
    parts: NDArray[np.int64]
    """(h, w): K = background"""
    pixels: NDArray[np.bool_]
    """(H, W): what stage 2 read"""


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The most confident wrong answers, most confident first."""

    count: int
    worst: Sequence[Mistake]
    by_group: Mapping[str, Sequence[Mistake]]
    """those of each group that are not among the worst of all"""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where it all comes from; no path of the machine, which may name people and wards."""

    run: str
    command: str | None
    written: str
    """date and time with the zone"""
    seconds: float
    machine: Mapping[str, str]
    """software, device and precision"""
    weights_sha256: str
    listing_sha256: str
    """of names, labels, groups and splits of all images, as in the run's data.json"""
    same_listing: bool | None
    """as in training; None where the run does not say"""
    images_sha256: str
    """of the bytes of the images of the split, one after another"""
    images_hashed: int
    configuration: str | None
    """config.yaml of the run, but for the folders in it"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of it; None where the data or the model does not allow a part, with the reason in ``reasons``."""

    model: ModelFacts
    data: DataFacts
    evaluation: Evaluation
    intervals: Mapping[str, Interval]
    """95 %, by the name of the measure"""
    groups: Sequence[Slice]
    classes: Sequence[Slice]
    parts: Sequence[PartFacts]
    gallery: PartGallery
    mistakes: Mistakes
    study: Study | None
    validation_images: int
    """in all, of which the study saw those that its trials count"""
    shapley: ShapleySummary | None
    certificate: Certificate | None
    background: Background
    origin: Origin
    reasons: Mapping[str, str]
    """study, shapley or certificate -> why there is none"""
