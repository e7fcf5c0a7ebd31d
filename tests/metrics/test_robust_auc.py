import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ifam.errors import UsageError
from ifam.metrics import binary_auc, group_auc, worst_group_auc

NUM_GROUPS = 3
images = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(-1, NUM_GROUPS - 1)), min_size=1, max_size=30
)


@given(images)
def test_every_pair_agrees_with_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    """Ties, empty groups, groups of one class and unknown groups included."""
    scores, labels, groups = torch.tensor(rows).T
    aucs = group_auc(scores.float(), labels, groups, NUM_GROUPS)
    references = {}
    for i in range(NUM_GROUPS):
        for j in range(NUM_GROUPS):
            pair = [(s, y) for s, y, g in rows if (g == i and y == 1) or (g == j and y == 0)]
            if {y for _, y in pair} == {0, 1}:
                references[i, j] = roc_auc_score([y for _, y in pair], [s for s, _ in pair])
                assert float(aucs[i, j]) == pytest.approx(references[i, j], abs=1e-9)
            else:
                assert bool(aucs[i, j].isnan())
    for within in (False, True):
        chosen = {pair: auc for pair, auc in references.items() if not within or pair[0] == pair[1]}
        worst = worst_group_auc(scores.float(), labels, groups, NUM_GROUPS, within=within)
        assert worst.auc == (pytest.approx(min(chosen.values()), abs=1e-9) if chosen else None)
        assert worst.count == len(chosen)
        assert worst.left_out == tuple(g for g in range(NUM_GROUPS) if not any(g in pair for pair in chosen))
        if worst.positive_group is not None and worst.negative_group is not None:
            assert chosen[worst.positive_group, worst.negative_group] == pytest.approx(worst.auc)


def test_the_pair_of_saab() -> None:
    """Positives without a tube against negatives with one, the comparison that a tube decides."""
    labels, tube = torch.randint(0, 2, (2, 400))
    scores = 2.0 * tube + labels + torch.randn(400)
    curated = labels != tube
    expected = roc_auc_score(labels[curated], scores[curated])
    worst = worst_group_auc(scores, labels, tube, 2)
    assert (worst.positive_group, worst.negative_group, worst.count) == (0, 1, 4)
    assert worst.auc == pytest.approx(expected, abs=1e-9)
    # Groups of one class each, disease × tube, give the same number.
    crossed = worst_group_auc(scores, labels, 2 * labels + tube, 4)
    assert (crossed.auc, crossed.positive_group, crossed.negative_group) == (worst.auc, 2, 1)
    assert (crossed.count, crossed.left_out) == (4, ())
    # Within groups the tube says nothing.
    inside = worst_group_auc(scores, labels, tube, 2, within=True)
    assert inside.auc is not None
    assert inside.auc > 0.7 > 0.5 > expected


def test_one_group_is_the_plain_auc() -> None:
    scores, labels = torch.randn(50), torch.randint(0, 2, (50,))
    for within in (False, True):
        worst = worst_group_auc(scores, labels, torch.zeros(50, dtype=torch.long), 1, within=within)
        assert worst.auc == binary_auc(scores, labels)


def test_an_empty_group_and_one_of_one_class_are_left_out_and_named() -> None:
    scores = torch.tensor([0.1, 0.9, 0.4, 0.4, 0.7])
    labels, groups = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 0, 2, 2, 3])
    worst = worst_group_auc(scores, labels, groups, 4, within=True)
    assert (worst.auc, worst.positive_group, worst.count, worst.left_out) == (0.5, 2, 2, (1, 3))
    assert worst_group_auc(scores, labels, groups, 4).left_out == (1,)


def test_nothing_to_compare() -> None:
    worst = worst_group_auc(torch.tensor([0.1, 0.2]), torch.tensor([1, 1]), torch.tensor([0, 1]), 2)
    assert (worst.auc, worst.positive_group, worst.negative_group, worst.count) == (None, None, None, 0)
    assert worst.left_out == (0, 1)
    nothing = torch.zeros(0, dtype=torch.long)
    assert worst_group_auc(nothing.float(), nothing, nothing, 0).auc is None


def test_arguments_that_cannot_be() -> None:
    scores, labels, groups = torch.rand(3), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    with pytest.raises(UsageError, match="groups: expected −1"):
        worst_group_auc(scores, labels, groups, 1)
    with pytest.raises(UsageError, match="groups: expected one per image"):
        worst_group_auc(scores, labels, groups[:2], 2)
    with pytest.raises(UsageError, match="scores"):
        worst_group_auc(scores[:2], labels, groups, 2)
    with pytest.raises(UsageError, match="labels"):
        worst_group_auc(scores, labels + 1, torch.full((3,), -1), 2)
