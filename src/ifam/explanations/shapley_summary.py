"""Shapley values of many images, averaged over all of them, over each class and over each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifam.errors import UsageError
from ifam.explanations.shapley import Favour, ShapleyValues


@dataclass(frozen=True, kw_only=True)
class ShapleyMean:
    """What each of the K parts says on average for the true class of an image; see `ShapleyValues.in_favour_of`."""

    num_images: int
    values: NDArray[np.float64]
    """(K,): they sum to ``everything`` − ``nothing``"""
    standard_error: NDArray[np.float64]
    """(K,) of the mean over images; NaN for a single image"""
    everything: float
    nothing: float


@dataclass(frozen=True, kw_only=True)
class ShapleySummary:
    """Averages by name, over those classes and groups that have an image."""

    overall: ShapleyMean
    classes: Mapping[str, ShapleyMean]
    groups: Mapping[str, ShapleyMean]
    drawing_error: float
    """largest standard error of a single image's value, from drawing orders; 0 where all are exact"""


def summarise_shapley(
    found: Sequence[ShapleyValues],
    labels: Sequence[int],
    groups: Sequence[int],
    class_names: Sequence[str],
    group_names: Sequence[str] = (),
) -> ShapleySummary:
    """The averages of one image's values each, with its true class and its group, −1 where that is unknown.

    Raises:
        UsageError: no images, or not one label and group for each.
    """
    if not len(found) == len(labels) == len(groups) or not found:
        raise UsageError(
            f"shapley: expected a label and a group for each of one image or more, got {len(found)} images, "
            f"{len(labels)} labels and {len(groups)} groups"
        )
    favours = [values.in_favour_of(label) for values, label in zip(found, labels, strict=True)]
    return ShapleySummary(
        overall=_mean(favours),
        classes=_by_name(favours, labels, class_names),
        groups=_by_name(favours, groups, group_names),
        drawing_error=max(float(favour.standard_error.max(initial=0)) for favour in favours),
    )


def _by_name(favours: Sequence[Favour], of: Sequence[int], names: Sequence[str]) -> dict[str, ShapleyMean]:
    return {
        name: _mean([favour for favour, here in zip(favours, of, strict=True) if here == index])
        for index, name in enumerate(names)
        if index in of
    }


def _mean(favours: Sequence[Favour]) -> ShapleyMean:
    values, count = np.stack([favour.values for favour in favours]), len(favours)
    spread = values.std(0, ddof=1) if count > 1 else np.full(values.shape[1], np.nan)
    return ShapleyMean(
        num_images=count,
        values=values.mean(0),
        standard_error=spread / np.sqrt(count),
        everything=float(np.mean([favour.everything for favour in favours])),
        nothing=float(np.mean([favour.nothing for favour in favours])),
    )
