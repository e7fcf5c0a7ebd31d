"""What the masks alone tell of the answers, by classifiers that see nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ifam.probe import cross_validated, of_enough_images
from ifam.verify.findings import Leakage


def mask_leakage(masks: Tensor, answers: Tensor, class_names: Sequence[str], *, seed: int) -> Leakage | None:
    """Balanced accuracy with which a linear and a non-linear classifier tell the answers from the masks.

    Both are cross-validated. Shapes that differ by nature between classes count as well as a code that stage 1 may
    write into its masks. Returns None where fewer than two answers have ten images each.

    ``masks``: (N, h, w) bool; ``answers``: (N,) int.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    enough = of_enough_images(answers)
    bits, labels = masks.flatten(1)[enough].float(), answers[enough]
    classes = torch.unique(labels).tolist()
    if len(classes) < 2:
        return None
    linear = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")  # type: ignore[no-untyped-call]
    boosting = HistGradientBoostingClassifier(  # type: ignore[no-untyped-call]
        class_weight="balanced", early_stopping=False, random_state=seed
    )
    return Leakage(
        linear=cross_validated(linear, bits, labels, seed=seed),
        nonlinear=cross_validated(boosting, bits, labels, seed=seed),
        chance=1 / len(classes),
        classes=tuple(class_names[label] for label in classes),
        num_images=len(labels),
    )
