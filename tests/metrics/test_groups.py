import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score

from ifam.errors import UsageError
from ifam.metrics import GroupScore, binary_auc, group_accuracy, weighted_accuracy, worst_group_accuracy

NUM_GROUPS = 4
images = st.lists(st.tuples(st.booleans(), st.integers(-1, NUM_GROUPS - 1)), min_size=1, max_size=40)


def as_tensors(pairs: list[tuple[bool, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    correct, groups = zip(*pairs, strict=True)
    return torch.tensor(correct), torch.tensor(groups)


def score(correct: int, count: int) -> GroupScore:
    return GroupScore(correct=correct, count=count)


def test_counts_by_hand_with_an_empty_group_and_unknown_groups() -> None:
    correct = torch.tensor([True, False, True, True, False, True])
    groups = torch.tensor([0, 0, 2, 2, -1, -1])
    scores = group_accuracy(correct, groups, 3)
    assert scores == [score(1, 2), score(0, 0), score(2, 2)]
    assert [s.accuracy for s in scores] == [0.5, None, 1.0]
    assert worst_group_accuracy(scores) == 0.5


def test_group_accuracy_agrees_with_scikit_learn() -> None:
    predictions, labels = torch.randint(0, 3, (2, 200))
    groups = torch.randint(0, NUM_GROUPS, (200,))
    for group, result in enumerate(group_accuracy(predictions == labels, groups, NUM_GROUPS)):
        assert result.accuracy == pytest.approx(accuracy_score(labels[groups == group], predictions[groups == group]))


def test_no_images_give_no_numbers() -> None:
    scores = group_accuracy(torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.long), 2)
    assert scores == [score(0, 0), score(0, 0)]
    assert worst_group_accuracy(scores) is None
    assert weighted_accuracy(scores, [1, 1]) is None


def test_weighted_accuracy_by_hand() -> None:
    scores = [score(9, 10), score(1, 10), score(0, 0), score(5, 10)]
    # The empty group's weight goes; the group unseen in training counts 0.
    assert weighted_accuracy(scores, [30, 10, 1000, 0]) == pytest.approx((30 * 0.9 + 10 * 0.1) / 40)
    assert weighted_accuracy(scores, [0, 0, 1000, 0]) is None


@given(images)
def test_worst_average_and_best_are_in_order(pairs: list[tuple[bool, int]]) -> None:
    scores = group_accuracy(*as_tensors(pairs), NUM_GROUPS)
    average = weighted_accuracy(scores, [3, 1, 4, 1])
    worst = worst_group_accuracy(scores)
    best = max((s.accuracy for s in scores if s.accuracy is not None), default=None)
    if average is None or worst is None or best is None:
        assert average is worst is best is None
    else:
        assert worst - 1e-12 <= average <= best + 1e-12


@given(images)
def test_equal_weights_give_the_mean_of_groups(pairs: list[tuple[bool, int]]) -> None:
    scores = group_accuracy(*as_tensors(pairs), NUM_GROUPS)
    present = [s.accuracy for s in scores if s.accuracy is not None]
    expected = pytest.approx(sum(present) / len(present)) if present else None
    assert weighted_accuracy(scores, [7] * NUM_GROUPS) == expected


@given(images, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(pairs: list[tuple[bool, int]], source: random.Random) -> None:
    shuffled = list(pairs)
    source.shuffle(shuffled)
    assert group_accuracy(*as_tensors(pairs), NUM_GROUPS) == group_accuracy(*as_tensors(shuffled), NUM_GROUPS)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_with_ties_agrees_with_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([value for value, _ in pairs], dtype=torch.float32)
    labels = torch.tensor([label for _, label in pairs]).long()
    if labels.unique().numel() == 1:
        assert binary_auc(scores, labels) is None
    else:
        assert binary_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_auc_tells_confident_logits_apart() -> None:
    # Their float32 sigmoids are all 1.
    assert binary_auc(torch.tensor([30.0, 31.0, 32.0, 33.0]), torch.tensor([0, 0, 1, 1])) == 1.0
    assert binary_auc(torch.tensor([30.0, 31.0, 32.0, 33.0]), torch.tensor([1, 0, 1, 0])) == 0.25


def test_auc_counts_pairs() -> None:
    assert binary_auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([0, 0, 1, 1])) == (3 + 0.5) / 4


@pytest.mark.parametrize("groups", [[0, 1, 2, 3], [0, 1, -2]])
def test_groups_that_cannot_be(groups: list[int]) -> None:
    with pytest.raises(UsageError, match="groups: expected"):
        group_accuracy(torch.ones(len(groups), dtype=torch.bool), torch.tensor(groups), 3)


def test_one_group_per_image() -> None:
    with pytest.raises(UsageError, match=r"\(2,\).*\(3,\)"):
        group_accuracy(torch.ones(2, dtype=torch.bool), torch.zeros(3, dtype=torch.long), 1)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0]])
def test_weights_that_cannot_be(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="expected 2 training group sizes"):
        weighted_accuracy([score(1, 1), score(1, 1)], weights)


def test_auc_refuses_nan_and_other_labels() -> None:
    with pytest.raises(UsageError, match="NaN"):
        binary_auc(torch.tensor([0.1, torch.nan]), torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="got 0 to 2"):
        binary_auc(torch.tensor([0.1, 0.2]), torch.tensor([0, 2]))
