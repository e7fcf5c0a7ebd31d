import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ifam.errors import UsageError
from ifam.metrics import calibration_error_of_confidence, expected_calibration_error, fit_temperature

seeds = st.integers(0, 10**6)


def draw(seed: int, num_images: int, num_classes: int, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits (N, C) float64, and labels drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def loop_over_bins(probabilities: Tensor, labels: Tensor, num_bins: int) -> float:
    confidence, prediction = probabilities.double().max(1)
    correct = (prediction == labels).numpy()
    error = 0.0
    for i in range(num_bins):
        inside = (confidence.numpy() > i / num_bins) & (confidence.numpy() <= (i + 1) / num_bins)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence.numpy()[inside].mean())
    return error


@given(seeds, st.integers(1, 60), st.integers(2, 6), st.sampled_from([1, 10, 15]))
def test_calibration_error_agrees_with_a_loop_and_torchmetrics(seed: int, n: int, c: int, num_bins: int) -> None:
    logits, labels = draw(seed, n, c)
    probabilities = (logits * 1.5).softmax(1)
    ours = expected_calibration_error(probabilities, labels, num_bins)
    assert ours == pytest.approx(loop_over_bins(probabilities, labels, num_bins), abs=1e-9)
    theirs = multiclass_calibration_error(probabilities, labels, num_classes=c, n_bins=num_bins, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-6)


@given(seeds, st.integers(1, 60), st.integers(2, 6))
def test_confidence_and_correctness_are_enough(seed: int, n: int, c: int) -> None:
    logits, labels = draw(seed, n, c)
    confidence, prediction = logits.softmax(1).max(1)
    expected = expected_calibration_error(logits.softmax(1), labels)
    assert calibration_error_of_confidence(confidence, prediction == labels) == expected
    single = calibration_error_of_confidence(confidence.float(), prediction == labels, 1)
    assert single == pytest.approx(abs(float(confidence.mean() - (prediction == labels).double().mean())), abs=1e-6)


@pytest.mark.parametrize("confidence", [[0.5, torch.nan], [0.5, -0.1], [0.5, 3.0], [0.5]])
def test_confidence_that_cannot_be(confidence: list[float]) -> None:
    with pytest.raises(UsageError, match="confidence: expected one probability per image"):
        calibration_error_of_confidence(torch.tensor(confidence), torch.tensor([True, False]))


def test_calibrated_bins_have_no_error() -> None:
    # 4 images at 0.75 of which 3 are right, 10 at 0.9 of which 9 are, 2 at 1 that both are.
    confidence = torch.tensor([0.75] * 4 + [0.9] * 10 + [1.0] * 2, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1] + [0] * 9 + [1] + [0] * 2)
    probabilities = torch.stack([confidence, 1 - confidence], dim=1)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(probabilities, 1 - labels) == pytest.approx((4 * 0.5 + 10 * 0.8 + 2) / 16)


def test_gaps_of_two_signs_cancel_within_a_bin_only() -> None:
    probabilities = torch.tensor([[0.99, 0.01], [0.95, 0.05], [0.6, 0.4]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    expected = (abs(-0.01 + 0.95) + 0.4) / 3
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-12)
    assert expected_calibration_error(probabilities, labels, 1) == pytest.approx(abs(-0.01 + 0.95 - 0.4) / 3, abs=1e-12)


def test_a_confidence_on_a_boundary_belongs_to_the_bin_below() -> None:
    probabilities = torch.tensor([[0.75, 0.25], [0.7, 0.3]], dtype=torch.float64)
    # Four bins: both in (0.5, 0.75], where their gaps 0.25 and 0.7 meet with two signs.
    assert expected_calibration_error(probabilities, torch.tensor([0, 1]), 4) == pytest.approx((0.7 - 0.25) / 2)


def test_no_image_gives_no_number() -> None:
    assert expected_calibration_error(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) is None
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) is None


@given(seeds, st.integers(2, 8), st.floats(0.2, 5.0))
def test_the_temperature_is_the_minimum_that_scipy_finds(seed: int, num_classes: int, factor: float) -> None:
    logits, labels = draw(seed, 300, num_classes)
    logits = logits * factor
    found = fit_temperature(logits, labels)
    assert found is not None
    rows, values = np.arange(300), logits.numpy()

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(values / math.exp(log_temperature), axis=1)[rows, labels.numpy()].mean())

    reference = minimize_scalar(loss, bracket=(math.log(factor) - 1, math.log(factor) + 1), tol=1e-10)
    # A minimum is flat: its place is known to the root of the precision of its value, and the value to all of it.
    assert math.log(found) == pytest.approx(reference.x, abs=1e-6)
    assert loss(math.log(found)) <= reference.fun + 1e-12


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_distorted_the_logits_is_recovered(temperature: float) -> None:
    logits, labels = draw(0, 20_000, 5)
    found = fit_temperature((logits * temperature).float(), labels)
    assert found == pytest.approx(temperature, rel=0.03)
    before = expected_calibration_error((logits * temperature).softmax(1), labels)
    after = expected_calibration_error((logits * temperature / found).softmax(1), labels)
    assert before is not None
    assert after is not None
    assert after < 0.01
    assert after <= before + 0.001


@given(seeds, st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_the_temperature_scales_with_the_logits_and_ignores_shifts(seed: int, factor: float, shift: float) -> None:
    logits, labels = draw(seed, 100, 3)
    reference = fit_temperature(logits, labels)
    assert reference is not None
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor * reference, rel=1e-9)
    assert fit_temperature(logits + shift, labels) == pytest.approx(reference, rel=1e-9)
    assert fit_temperature(logits / reference, labels) == pytest.approx(1.0, rel=1e-9)


def test_the_temperature_of_two_classes_by_hand() -> None:
    # One margin, right in three of four: sigmoid(2 / T) = 3/4.
    logits, labels = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(2 / math.log(3), rel=1e-12)
    # Nearly all right, from either side: sigmoid(1 / T) = 0.9999.
    logits, labels = torch.tensor([[1.0, 0.0]] * 10_000), torch.arange(10_000) // 9_999
    assert fit_temperature(logits, labels) == pytest.approx(1 / math.log(9_999), rel=1e-9)
    assert fit_temperature(logits * 1e6, labels) == pytest.approx(1e6 / math.log(9_999), rel=1e-9)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
def test_no_temperature_is_best_where_all_are_right_or_as_good_as_chance(labels: list[int]) -> None:
    assert fit_temperature(torch.tensor([[2.0, 0.0]] * 4), torch.tensor(labels)) is None


def test_what_cannot_be_calibrated() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    with pytest.raises(UsageError, match=r"logits\.softmax\(1\)"):
        expected_calibration_error(logits, labels)
    with pytest.raises(UsageError, match="sum to 1"):
        expected_calibration_error(torch.full((2, 2), torch.nan), labels)
    with pytest.raises(UsageError, match="num_bins"):
        expected_calibration_error(logits.softmax(1), labels, 0)
    with pytest.raises(UsageError, match=r"got \(1,\) for \(2, 2\)"):
        fit_temperature(logits, labels[:1])
    with pytest.raises(UsageError, match="expected 0 to 1, got 0 to 2"):
        fit_temperature(logits, torch.tensor([0, 2]))
    with pytest.raises(UsageError, match="finite"):
        fit_temperature(logits / 0, labels)
