"""How well some features tell a class: classifiers on them, cross-validated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ifam.metrics.bootstrap import Interval, bootstrap_interval

FOLDS = 5
FEWEST_OF_A_CLASS = 2 * FOLDS
REGULARISATION = 0.01
"""inverse strength, on standardised features: there are about as many as images"""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How often the class was told right, each of the classes counting alike; shares in 0–1."""

    balanced_accuracy: float
    """mean over the classes of the share that is recognised"""
    low: float
    high: float
    """95 % of resamples of the images"""
    chance: float
    classes: tuple[str, ...]
    num_images: int

    @property
    def is_above_chance(self) -> bool:
        """Whether the features surely tell something."""
        return self.low > self.chance

    @property
    def is_strong(self) -> bool:
        """Whether they surely tell more than half of the way from chance to certainty."""
        return surely_half_way(self.low, self.chance)


def surely_half_way(low: float | None, chance: float) -> bool:
    """Whether the lower limit of a share lies more than half of the way from chance to certainty."""
    return low is not None and low > (1 + chance) / 2


def linear_probe(features: Tensor, labels: Tensor, class_names: Sequence[str], *, seed: int = 0) -> Probe | None:
    """What logistic regression tells of ``labels`` (N,) int from standardised ``features`` (N, D), cross-validated.

    None where fewer than two classes have ten images or more; those that have fewer are left out. In every fold, the
    features are standardised by the images that it is fitted on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    enough = of_enough_images(labels)
    truth = labels[enough]
    classes = torch.unique(truth).tolist()
    if len(classes) < 2:
        return None
    regression = LogisticRegression(  # type: ignore[no-untyped-call]
        C=REGULARISATION, max_iter=1000, class_weight="balanced"
    )
    standardised = make_pipeline(StandardScaler(), regression)  # type: ignore[no-untyped-call]
    interval = cross_validated(standardised, features[enough].double(), truth, seed=seed)
    assert interval.estimate is not None
    assert interval.low is not None
    assert interval.high is not None
    return Probe(
        balanced_accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        chance=1 / len(classes),
        classes=tuple(class_names[label] for label in classes),
        num_images=len(truth),
    )


def of_enough_images(labels: Tensor) -> Tensor:
    """Which of the images are of classes that have `FEWEST_OF_A_CLASS`: (N,) bool."""
    present, counts = torch.unique(labels, return_counts=True)
    return torch.isin(labels, present[counts >= FEWEST_OF_A_CLASS])


def cross_validated(classifier: Any, features: Tensor, labels: Tensor, *, seed: int) -> Interval:
    """Balanced accuracy: mean over the classes of the share recognised, each image by a fit that has not seen it.

    ``classifier`` is one of scikit-learn's; ``features``: (N, D), ``labels``: (N,) int, of `FEWEST_OF_A_CLASS` or more
    images of each.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)  # type: ignore[no-untyped-call]
    told = cross_val_predict(classifier, features.numpy(), labels.numpy(), cv=folds)
    classes = torch.unique(labels).tolist()

    def balanced(correct: Tensor, truth: Tensor) -> float:
        return float(np.mean([correct[truth == label].double().mean() for label in classes]))

    return bootstrap_interval(balanced, torch.from_numpy(told) == labels, labels, seed=seed, within=labels)
