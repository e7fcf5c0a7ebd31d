import pytest
import torch

from ifam.errors import UsageError
from ifam.metrics import Accumulator, GroupScore, classification_score, foreground_score


def test_batches_of_any_size_are_joined_in_order() -> None:
    values = torch.rand(10, 3)
    seen = Accumulator()
    for batch in values.split([4, 1, 5]):
        seen.update(values=batch, labels=batch[:, 0].long())
    assert seen.num_samples == 10
    assert torch.equal(seen["values"], values)
    assert "labels" in seen
    assert "groups" not in seen


def test_gathered_values_hold_no_graph() -> None:
    seen = Accumulator()
    seen.update(values=torch.rand(2, requires_grad=True) * 2)
    assert not seen["values"].requires_grad


def test_batches_that_do_not_fit() -> None:
    seen = Accumulator()
    with pytest.raises(UsageError, match="one batch size"):
        seen.update(a=torch.zeros(2), b=torch.zeros(3))
    assert seen.num_samples == 0
    seen.update(a=torch.zeros(2))
    with pytest.raises(UsageError, match=r"expected \['a'\] as before, got \['b'\]"):
        seen.update(b=torch.zeros(2))
    with pytest.raises(UsageError, match="got 'b'"):
        seen["b"]


def test_classification_score_by_hand() -> None:
    predictions = torch.tensor([0, 0, 1, 1, 1])
    labels = torch.tensor([0, 1, 1, 1, 0])
    groups = torch.tensor([0, 1, 1, 1, -1])
    margins = torch.tensor([-2.0, -1.0, 1.0, 3.0, 2.0])
    score = classification_score(
        predictions, labels, groups, num_groups=3, training_group_sizes=[30, 10, 60], margins=margins
    )
    assert score.num_samples == 5
    assert score.accuracy == pytest.approx(3 / 5)
    assert score.groups == (
        GroupScore(correct=1, count=1),
        GroupScore(correct=2, count=3),
        GroupScore(correct=0, count=0),
    )
    assert score.worst_group_accuracy == pytest.approx(2 / 3)
    assert score.average_accuracy == pytest.approx((30 * 1 + 10 * 2 / 3) / 40)
    assert score.auc == pytest.approx(4 / 6)


def test_data_without_groups() -> None:
    labels = torch.tensor([2, 0, 1])
    score = classification_score(labels, labels, torch.full((3,), -1), num_groups=0)
    assert score.accuracy == 1.0
    assert score.groups == ()
    assert score.average_accuracy is score.worst_group_accuracy is score.auc is None


def test_one_prediction_per_label() -> None:
    with pytest.raises(UsageError, match="predictions"):
        classification_score(torch.zeros(2), torch.zeros(3), torch.zeros(3), num_groups=1)


def test_foreground_score_names_both() -> None:
    score = foreground_score(torch.tensor([1, 90, 0]), torch.tensor([10, 100, 0]))
    assert score.num_samples == 3
    assert score.pooled_iou == pytest.approx(91 / 110)
    assert score.mean_image_iou == pytest.approx((0.1 + 0.9 + 1) / 3)
