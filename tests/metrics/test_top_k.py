import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from ifam.errors import UsageError
from ifam.metrics import label_ranks, share_within, top_k_accuracy


@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_agrees_with_scikit_learn(seed: int, k: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(30, 5, generator=generator)
    logits = logits.round() if ties else logits
    labels = torch.randint(0, 5, (30,), generator=generator)
    # Of classes that tie scikit-learn takes the last.
    reference = top_k_accuracy_score(4 - labels, logits.flip(1), k=k, labels=range(5))
    assert top_k_accuracy(logits, labels, k) == pytest.approx(reference, abs=1e-12)


def test_first_and_all() -> None:
    logits, labels = torch.randn(50, 4), torch.randint(0, 4, (50,))
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert top_k_accuracy(logits, labels, 4) == 1.0


def test_a_constant_is_not_always_right() -> None:
    assert top_k_accuracy(torch.zeros(4, 4), torch.arange(4), 1) == 0.25


def test_no_image_gives_no_number() -> None:
    assert top_k_accuracy(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 5) is None


@pytest.mark.parametrize("k", [0, 4])
def test_k_that_cannot_be(k: int) -> None:
    with pytest.raises(UsageError, match=f"k: expected 1 to 3, the number of classes, got {k}"):
        top_k_accuracy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), k)


def test_logits_and_labels_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="NaN"):
        top_k_accuracy(torch.tensor([[torch.nan, 0.0]]), torch.tensor([0]), 1)
    with pytest.raises(UsageError, match=r"got \(2, 3\) and \(1,\)"):
        top_k_accuracy(torch.zeros(2, 3), torch.tensor([0]), 1)
    with pytest.raises(UsageError, match="expected 0 to 1, got -1 to -1"):
        top_k_accuracy(torch.zeros(1, 2), torch.tensor([-1]), 1)


@given(st.integers(0, 10**6), st.booleans())
def test_ranks_are_places_in_a_stable_order(seed: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(20, 6, generator=generator)
    logits = logits.round() if ties else logits
    labels = torch.randint(0, 6, (20,), generator=generator)
    order = logits.sort(dim=1, descending=True, stable=True).indices
    assert torch.equal(label_ranks(logits, labels), (order == labels[:, None]).int().argmax(1))
    if not ties:
        assert torch.equal(label_ranks(logits, labels) == 0, logits.argmax(1) == labels)
    for k in (1, 3):
        assert share_within(label_ranks(logits, labels), k) == top_k_accuracy(logits, labels, k)


def test_a_logit_that_is_no_number_is_ahead_of_all() -> None:
    nan = torch.nan
    logits = torch.tensor([[nan, 1.0, 0.0], [1.0, nan, 0.0], [nan, nan, nan]])
    assert label_ranks(logits, torch.tensor([1, 1, 0])).tolist() == [1, 3, 3]
    assert share_within(torch.zeros(0, dtype=torch.long), 5) is None
