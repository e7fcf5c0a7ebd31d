"""Whether a classifier is right as often as it says, and the temperature that makes it so."""

import math

import torch
from torch import Tensor

from ifam.errors import UsageError


def expected_calibration_error(probabilities: Tensor, labels: Tensor, num_bins: int = 15) -> float | None:
    """Mean gap between confidence and accuracy over bins, weighted by their images (Guo et al., 2017), in 0–1.

    ``probabilities`` (N, C), ``labels`` (N,) int. The confidence of an image is its largest probability; the bins
    (i/n, (i+1)/n] have equal widths. None where N = 0. Few images in a bin make a gap by chance, so compare
    numbers of one N only.

    >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
    >>> expected_calibration_error(probabilities, torch.tensor([0, 1]))  # 0.75 is said, 0.5 is right
    0.25
    """
    _check(probabilities, labels)
    sums = probabilities.double().sum(1)
    if not bool(((sums - 1).abs() < 0.01).all() and (probabilities >= 0).all()):
        raise UsageError("probabilities: expected rows that sum to 1, got others; pass logits.softmax(1)")
    if not len(labels):
        return calibration_error_of_confidence(probabilities.new_zeros(0), labels == 0, num_bins)
    confidence, prediction = probabilities.max(1)
    return calibration_error_of_confidence(confidence, prediction == labels, num_bins)


def calibration_error_of_confidence(confidence: Tensor, correct: Tensor, num_bins: int = 15) -> float | None:
    """The same from the largest probability of each image, (N,), and whether its class was right, (N,) bool."""
    if num_bins < 1:
        raise UsageError(f"num_bins: expected at least 1, got {num_bins}")
    if (
        confidence.shape != correct.shape
        or confidence.ndim != 1
        or not bool(((confidence >= 0) & (confidence < 1.01)).all())
    ):
        raise UsageError(
            f"confidence: expected one probability per image, {tuple(correct.shape)}, got {tuple(confidence.shape)}"
        )
    if not len(confidence):
        return None
    gaps = confidence.double() - correct.double()
    # Bin i is that of num_bins · confidence in (i, i+1], which puts a confidence of 1 in the last.
    bins = (confidence.double() * num_bins).ceil().long().clamp(1, num_bins) - 1
    sums_of_bins = torch.zeros(num_bins, dtype=torch.float64, device=gaps.device).index_add(0, bins, gaps)
    return float(sums_of_bins.abs().sum()) / len(confidence)


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """T > 0 for which softmax(logits / T) gives the labels the highest likelihood, in float64.

    ``logits`` (N, C) and ``labels`` (N,) int of images that were not trained on. None where no T is best: every label
    has the largest logit of its row, which asks for T → 0; or the logits say no more of the labels than chance, which
    asks for T → ∞; or N = 0.

    >>> temperature = fit_temperature(torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))
    >>> round(temperature, 6)  # three of four are right: 2 / log(3)
    1.820478
    """
    _check(logits, labels)
    if not bool(logits.isfinite().all()):
        raise UsageError("logits: expected finite numbers, got infinity or NaN")
    if not len(labels):
        return None
    # Measured from the label's own logit, −log likelihood is logsumexp(margins / T).
    margins = logits.double() - logits.double().gather(1, labels[:, None])
    scale = float(margins.abs().max())
    if float(margins.mean()) >= 0 or float(margins.amax(1).max()) <= 0:
        return None
    return scale / _minimum(margins / scale)


def _minimum(margins: Tensor) -> float:
    """Where the mean of logsumexp(x · margins) over rows is least: it is convex in x = 1/T, and not in T."""
    low, high, x = 0.0, math.inf, 1.0
    for _ in range(200):
        slope, curvature = _derivatives(x, margins)
        low, high = (x, high) if slope < 0 else (low, x)
        newton = x - slope / curvature if curvature > 0 else math.nan
        # Newton's step, unless it leaves the interval that is known to hold the minimum.
        following = newton if low < newton < high else 2 * x if high == math.inf else (low + high) / 2
        step, x = following - x, following
        if abs(step) <= 1e-12 * x:
            break
    return x


def _derivatives(x: float, margins: Tensor) -> tuple[float, float]:
    probabilities = (x * margins).softmax(1)
    means = (probabilities * margins).sum(1)
    variances = (probabilities * (margins - means[:, None]).square()).sum(1)
    return float(means.mean()), float(variances.mean())


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise UsageError(f"labels: expected one per row of (N, C), got {tuple(labels.shape)} for {tuple(scores.shape)}")
    if bool(((labels < 0) | (labels >= scores.shape[1])).any()):
        raise UsageError(
            f"labels: expected 0 to {scores.shape[1] - 1}, got {labels.min().item()} to {labels.max().item()}"
        )
