import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold

from ifam.probe import REGULARISATION, linear_probe

LABELS = torch.tensor([0] * 60 + [1] * 30)


def test_the_number_is_scikit_learns_fold_by_fold() -> None:
    features = torch.randn(90, 5) + 0.6 * LABELS[:, None]
    features[:, 0] *= 1000  # standardised away
    told = torch.empty_like(LABELS)
    for fit, test in StratifiedKFold(5, shuffle=True, random_state=0).split(features, LABELS):
        mean, std = features[fit].double().mean(0), features[fit].double().std(0, correction=0)
        regression = LogisticRegression(C=REGULARISATION, max_iter=1000, class_weight="balanced")
        regression.fit(((features[fit].double() - mean) / std).numpy(), LABELS[fit].numpy())
        told[test] = torch.from_numpy(regression.predict(((features[test].double() - mean) / std).numpy()))
    found = linear_probe(features, LABELS, ["a", "b"])
    assert found is not None
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(LABELS, told))
    assert found.low < found.balanced_accuracy < found.high
    assert (found.classes, found.chance, found.num_images) == (("a", "b"), 0.5, 90)


def test_what_says_nothing_is_at_chance_and_what_says_all_is_strong() -> None:
    noise = linear_probe(torch.randn(90, 40), LABELS, ["a", "b"])
    assert noise is not None
    assert not noise.is_above_chance
    certain = linear_probe(torch.cat([torch.randn(90, 4), 5.0 * LABELS[:, None]], 1), LABELS, ["a", "b"])
    assert certain is not None
    assert certain.is_strong


def test_classes_of_few_images_are_left_out() -> None:
    labels = torch.tensor([0] * 10 + [1] * 9 + [2] * 10)
    found = linear_probe(torch.randn(29, 3), labels, ["a", "b", "c"])
    assert found is not None
    assert (found.classes, found.num_images) == (("a", "c"), 20)
    assert linear_probe(torch.randn(19, 3), labels[:19], ["a", "b"]) is None
    assert linear_probe(torch.zeros(0, 3), labels[:0], []) is None
