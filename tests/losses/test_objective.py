from typing import Any

import pytest
import torch
from torch import Tensor

from ifam.config import LossWeights
from ifam.errors import TrainingError
from ifam.losses import functional as losses
from ifam.losses.objective import classification_term, stage1_terms, total_loss
from ifam.output import PartDiscovery

OFF = dict.fromkeys(vars(LossWeights()), 0.0)
STAGE1 = ["stage1", "orthogonality", "equivariance", "foreground_presence", "background_presence"]
STAGE1 += ["total_variation", "entropy", "concentration"]


@pytest.fixture
def discovery() -> PartDiscovery:
    scores = torch.randn(2, 5, 3)
    return PartDiscovery(
        part_logits=torch.empty(0),
        part_maps=torch.randn(2, 4, 6, 6).softmax(1),
        part_features=torch.randn(2, 7, 4),
        stage1_part_logits=scores,
        stage1_logits=scores.mean(-1),
    )


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([1, 4])


def test_terms_are_the_losses_of_their_name(discovery: PartDiscovery, labels: Tensor) -> None:
    back = torch.rand(2, 4, 6, 6)
    terms = stage1_terms(discovery, labels, back, LossWeights(concentration=1))
    assert list(terms) == STAGE1
    maps = discovery.part_maps
    log_probabilities = discovery.stage1_logits.log_softmax(1)
    expected = {
        "stage1": -(log_probabilities[0, 1] + log_probabilities[1, 4]) / 2,
        "orthogonality": losses.orthogonality(discovery.part_features),
        "equivariance": losses.equivariance(maps, back),
        "foreground_presence": losses.foreground_presence(maps),
        "background_presence": losses.background_presence(maps),
        "total_variation": losses.total_variation(maps),
        "entropy": losses.entropy(maps),
        "concentration": losses.concentration(maps),
    }
    torch.testing.assert_close(terms, expected)


def test_terms_without_weight_are_not_computed(
    discovery: PartDiscovery, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> Tensor:
        raise RuntimeError("computed all the same")

    for name in STAGE1[1:]:
        monkeypatch.setattr(losses, name, fail)
    assert list(stage1_terms(discovery, labels, None, LossWeights(**OFF | {"stage1": 1.0}))) == ["stage1"]
    assert stage1_terms(discovery, labels, None, LossWeights(**OFF)) == {}
    for name in STAGE1[1:]:
        with pytest.raises(RuntimeError, match="computed"):
            stage1_terms(discovery, labels, discovery.part_maps, LossWeights(**OFF | {name: 0.1}))


def test_total_is_the_weighted_sum() -> None:
    weights = LossWeights(stage2=2.0, entropy=0.5, background_presence=3.0)
    terms = {
        name: torch.tensor(value) for name, value in (("stage2", 1.0), ("entropy", 4.0), ("background_presence", 0.1))
    }
    total = total_loss(terms, weights)
    assert total.shape == ()
    assert total.item() == pytest.approx(2.0 + 2.0 + 0.3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_term_that_is_not_finite_is_named(value: float, refuses_line: Any) -> None:
    terms = {"stage2": torch.tensor(1.0), "entropy": torch.tensor(value, requires_grad=True)}
    with refuses_line("entropy", str(value), error=TrainingError):
        total_loss(terms, LossWeights())


def test_classification_in_float32(labels: Tensor) -> None:
    logits = torch.randn(2, 5).bfloat16()
    term = classification_term(logits, labels)
    assert term.dtype == torch.float32
    assert term.item() == pytest.approx(-logits.float().log_softmax(1)[[0, 1], labels].mean().item())


def test_half_precision_features_are_compared_in_the_precision_of_the_maps(
    discovery: PartDiscovery, labels: Tensor
) -> None:
    half = PartDiscovery(**vars(discovery) | {"part_features": discovery.part_features.bfloat16()})
    assert stage1_terms(half, labels, None, LossWeights())["orthogonality"].dtype == torch.float32
