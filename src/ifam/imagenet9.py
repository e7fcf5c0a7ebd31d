"""ImageNet-9: what a change of the background costs, and the adversarial Backgrounds Challenge."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifam.config import Precision
from ifam.data.backgrounds_challenge import Foreground, open_foreground_mask, read_backgrounds, read_foregrounds
from ifam.data.imagenet9 import CLASSES, VARIANTS, class_lookup, imagenet9_variants, read_imagenet9, read_in9_mapping
from ifam.data.images import open_image
from ifam.data.table import evenly_spaced
from ifam.data.transforms import test_transform
from ifam.device import arithmetic
from ifam.errors import DataError, UsageError
from ifam.evaluate import Evaluation, Progress, evaluate
from ifam.model.base import Classifier
from ifam.model.two_stage import interventions_on
from ifam.score import GroupResult

ClassMap = Mapping[int, int] | str | Path
"""which of the nine each ImageNet class belongs to, or the path of ``in_to_in9.json``"""


@dataclass(frozen=True, kw_only=True)
class ImageNet9Result:
    """A score for each variant."""

    evaluations: Mapping[str, Evaluation]

    @property
    def bg_gap(self) -> float | None:
        """BG-GAP: accuracy before backgrounds of the same class minus that before random ones; None without both."""
        if not {"mixed_same", "mixed_rand"} <= self.evaluations.keys():
            return None
        return self.evaluations["mixed_same"].accuracy - self.evaluations["mixed_rand"].accuracy

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"bg_gap": self.bg_gap, "variants": {name: each.to_dict() for name, each in self.evaluations.items()}}


def evaluate_imagenet9(
    model: Classifier,
    root: str | Path,
    class_map: ClassMap | None = None,
    variants: Sequence[str] | None = None,
    **options: Any,
) -> ImageNet9Result:
    """Score a model on the variants in a folder, all of them if None are named.

    ``class_map``: for a model of the 1000 ImageNet classes; one of the nine classes needs none. ``options``: those of
    `evaluate`.

    Raises:
        UsageError: no such variant, or a class map for another model.
        DataError: a variant that is not there, or what `evaluate` raises.
    """
    unknown = [name for name in variants or () if name not in VARIANTS]
    if unknown:
        raise UsageError(f"variants: expected some of {', '.join(VARIANTS)}, got {unknown[0]!r}")
    present = imagenet9_variants(root)
    missing = [name for name in variants or () if name not in present]
    if missing or not present:
        raise DataError(
            f"{root}: expected {missing[0] if missing else 'a variant of ImageNet-9'}/val/{CLASSES[0]}/…, "
            f"got {', '.join(present) or 'none'}; name the folder that holds the variants"
        )
    mapping = _read(class_map)
    tables = {name: read_imagenet9(present[name]) for name in variants or present}
    return ImageNet9Result(
        evaluations={name: evaluate(model, table, class_map=mapping, **options) for name, table in tables.items()}
    )


@dataclass(frozen=True, kw_only=True)
class ChallengeResult:
    """How many foregrounds a model recognises before whatever background."""

    accuracy: float
    """challenge accuracy: share of the foregrounds that no background makes it mistake"""
    num_robust: int
    num_foregrounds: int
    num_backgrounds: int
    classes: Mapping[str, GroupResult]
    """the same for each class"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@torch.inference_mode()
def adversarial_backgrounds(
    model: Classifier,
    root: str | Path,
    class_map: ClassMap | None = None,
    *,
    remove_parts: Sequence[int] = (),
    token_quantile: float | None = None,
    max_foregrounds: int | None = None,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    progress: Progress | None = None,
) -> ChallengeResult:
    """The Backgrounds Challenge of Xiao et al. (2021): each foreground on every background, those of its class too.

    ``root`` holds ``fg_mask``, ``original`` and ``only_bg_t``. A foreground is robust if the model gives its class on
    all of them; the first background that fools it ends its turn. Composites are made of pixels as they are stored, and
    then prepared for the model. ``max_foregrounds``: that many of them, evenly spread over the classes. ``progress`` is
    called with (foregrounds done, foregrounds in all). Keeps every background in memory, 0.6 GB for the published ones.

    Raises:
        UsageError: a model of other classes, or a number that cannot be.
        DataError: no challenge in the folder, an unreadable file, or files of different sizes.
    """
    if batch_size < 1 or (max_foregrounds is not None and max_foregrounds < 1):
        raise UsageError(f"batch size and max_foregrounds: expected at least 1, got {batch_size} and {max_foregrounds}")
    device = torch.device(device)
    groups = _groups(model, _read(class_map)).to(device)
    foregrounds = evenly_spaced(read_foregrounds(root), max_foregrounds)
    backgrounds = _Backgrounds(read_backgrounds(root))
    interventions = interventions_on(model, remove_parts, token_quantile)
    model = model.to(device).eval()
    prepare = test_transform(model.preprocessing.whole())

    def fooled(foreground: Foreground, composites: Tensor) -> list[bool]:
        with arithmetic(precision, device):
            logits = model(prepare(composites.to(device)), **interventions).logits
        wrong: list[bool] = (groups[logits.float().argmax(1)] != foreground.label).tolist()
        return wrong

    robust: list[bool] = []
    for foreground in foregrounds:
        image, mask = _open(foreground)
        robust.append(True)
        for batch in backgrounds.batches(batch_size):
            wrong = fooled(foreground, _paste(foreground, image, mask, [backgrounds.open(index) for index in batch]))
            if any(wrong):
                robust[-1] = False
                backgrounds.first(batch[wrong.index(True)])
                break
        if progress is not None:
            progress(len(robust), len(foregrounds))
    return _challenge_result(foregrounds, robust, len(backgrounds))


class _Backgrounds:
    """Backgrounds, decoded once; those that fooled the model last come first, which ends most turns at once."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._order = list(range(len(paths)))

    def __len__(self) -> int:
        return len(self._paths)

    def batches(self, size: int) -> list[list[int]]:
        """All of them, in the order of the moment."""
        return [self._order[start : start + size] for start in range(0, len(self._order), size)]

    def open(self, index: int) -> tuple[Path, NDArray[np.uint8]]:
        """The file, and its pixels (h, w, 3)."""
        if index not in self._pixels:
            self._pixels[index] = np.asarray(open_image(self._paths[index]))
        return self._paths[index], self._pixels[index]

    def first(self, index: int) -> None:
        """Begin with this one from now on."""
        self._order.remove(index)
        self._order.insert(0, index)


def _read(class_map: ClassMap | None) -> Mapping[int, int] | None:
    return read_in9_mapping(class_map) if isinstance(class_map, str | Path) else class_map


def _groups(model: Classifier, class_map: Mapping[int, int] | None) -> Tensor:
    """(C,) int64: which of the nine classes each class of the model is."""
    if class_map is not None:
        return torch.tensor(class_lookup(class_map, model.num_classes))
    if sorted(model.class_names) != sorted(CLASSES):
        raise UsageError(
            f"class map: expected one for a model of other classes than {', '.join(CLASSES)}, got none for one of "
            f"{model.num_classes}; pass in_to_in9.json for a model of the 1000 ImageNet classes"
        )
    return torch.tensor([CLASSES.index(name) for name in model.class_names])


def _open(foreground: Foreground) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    image, mask = np.asarray(open_image(foreground.image)), open_foreground_mask(foreground.mask)
    if mask.shape != image.shape[:2]:
        raise DataError(
            f"{foreground.mask}: expected the {image.shape[0]} × {image.shape[1]} pixels of {foreground.image.name}, "
            f"got {mask.shape[0]} × {mask.shape[1]}; take the challenge's"
        )
    return image, mask


def _paste(
    foreground: Foreground,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    backgrounds: Sequence[tuple[Path, NDArray[np.uint8]]],
) -> Tensor:
    """The foreground on each of the backgrounds, (B, 3, h, w) uint8."""
    for path, pixels in backgrounds:
        if pixels.shape != image.shape:
            raise DataError(
                f"{path}: expected the {image.shape[0]} × {image.shape[1]} pixels of {foreground.image}, "
                f"got {pixels.shape[0]} × {pixels.shape[1]}; resize it"
            )
    composites = np.where(mask[:, :, None], image, np.stack([pixels for _, pixels in backgrounds]))
    return torch.from_numpy(composites).permute(0, 3, 1, 2).contiguous()


def _challenge_result(
    foregrounds: Sequence[Foreground], robust: Sequence[bool], num_backgrounds: int
) -> ChallengeResult:
    outcomes = {
        name: [hit for foreground, hit in zip(foregrounds, robust, strict=True) if CLASSES[foreground.label] == name]
        for name in CLASSES
    }
    return ChallengeResult(
        accuracy=sum(robust) / len(robust),
        num_robust=sum(robust),
        num_foregrounds=len(robust),
        num_backgrounds=num_backgrounds,
        classes={
            name: GroupResult(accuracy=sum(hits) / len(hits) if hits else None, count=len(hits))
            for name, hits in outcomes.items()
        },
    )
