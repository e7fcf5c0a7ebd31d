"""Shapley values against their definition by orders, and their axioms."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ifam
from ifam.errors import UsageError
from ifam.explanations.shapley import drawn_values, exact_values, shapley_values
from ifam.model.two_stage import IFAM


class Table:
    """A game whose value of every coalition was drawn."""

    def __init__(self, players: int, classes: int = 3, seed: int = 0) -> None:
        self.scores = np.random.default_rng(seed).normal(size=(2**players, classes))

    def __call__(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        return self.scores[coalitions @ (1 << np.arange(coalitions.shape[1]))]


def over_all_orders(game: Any, players: int) -> NDArray[np.float64]:
    """The mean gain of each player over all P! orders."""
    total: Any = 0
    for order in itertools.permutations(range(players)):
        gain, member = np.zeros((players, 3)), np.zeros((1, players), bool)
        for player in order:
            before = game(member)[0]
            member[0, player] = True
            gain[player] = game(member)[0] - before
        total = total + gain
    return np.asarray(total / len(list(itertools.permutations(range(players)))))


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_the_mean_over_all_orders(players: int) -> None:
    game = Table(players)
    values, error = exact_values(game, players)
    np.testing.assert_allclose(values, over_all_orders(game, players), atol=1e-12)
    assert not error.any()


def test_no_players_at_all() -> None:
    assert exact_values(Table(0), 0)[0].shape == (0, 3)


def test_axioms() -> None:
    def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Players 0 and 1 are alike and need each other; 2 adds 5 of its own; 3 does nothing."""
        return np.stack([7.0 * (coalitions[:, 0] & coalitions[:, 1]) + 5.0 * coalitions[:, 2] + 1], axis=1)

    np.testing.assert_allclose(exact_values(game, 4)[0][:, 0], [3.5, 3.5, 5, 0], atol=1e-12)


def test_drawn_orders_come_close_by_what_they_say() -> None:
    game = Table(6)
    values, error = drawn_values(game, 6, permutations=400, seed=1)
    exact = exact_values(game, 6)[0]
    np.testing.assert_allclose(values.sum(0), game.scores[-1] - game.scores[0], atol=1e-12)
    assert (error > 0).all()
    assert (np.abs(values - exact) < 4.5 * error).all()
    assert (np.abs(values - exact) < 2 * error).mean() > 0.8


class TestOfAnImage:
    @pytest.fixture
    def model(self) -> IFAM:
        torch.manual_seed(0)
        model = ifam.IFAM("vit_tiny_patch16_224", num_parts=4, num_classes=3, image_size=64, pretrained=False)
        with torch.no_grad():
            assert model.stage2 is not None
            model.stage2.head.weight.mul_(50)
        return model.eval()

    def test_each_value_is_what_removing_parts_says(self, model: IFAM) -> None:
        view, parts = torch.randn(1, 3, 64, 64), torch.tensor([0, 0, 1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 0, 4, 4, 2])
        parts = parts.view(1, 4, 4)  # part 3 is not there
        found = shapley_values(model, view, parts)

        def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
            rows = []
            for coalition in coalitions:
                mask = torch.zeros_like(parts, dtype=torch.bool)
                for part in np.flatnonzero(coalition):
                    mask |= parts == part
                rows.append(model.classify(view, mask)[0].detach().double().numpy())
            return np.stack(rows)

        np.testing.assert_allclose(found.values[:3], over_all_orders(game, 3), atol=1e-4)
        assert not found.values[3].any()
        assert found.is_exact
        np.testing.assert_allclose(found.values.sum(0), found.everything - found.nothing, atol=1e-9)
        logits = model.classify(view, parts < 4)[0].detach().numpy()
        np.testing.assert_allclose(found.everything, logits, atol=1e-4)
        assert np.abs(found.values[:3]).min() > 0

    def test_an_image_without_parts(self, model: IFAM) -> None:
        found = shapley_values(model, torch.randn(1, 3, 64, 64), torch.full((1, 4, 4), 4))
        assert not found.values.any()
        np.testing.assert_allclose(found.everything, found.nothing, atol=1e-5)

    def test_beyond_ten_parts_orders_are_drawn(self, monkeypatch: pytest.MonkeyPatch, model: IFAM) -> None:
        view, parts = torch.randn(1, 3, 64, 64), torch.arange(16).view(1, 4, 4) % 5
        exact = shapley_values(model, view, parts)
        monkeypatch.setattr("ifam.explanations.shapley.EXACT_UP_TO", 3)
        monkeypatch.setattr("ifam.explanations.shapley.PACKED_TOKENS", 50)
        drawn = shapley_values(model, view, parts, seed=3)
        assert not drawn.is_exact
        assert (np.abs(drawn.values - exact.values) <= 4.5 * drawn.standard_error + 1e-6).all()

    def test_of_an_explanation(self, model: IFAM) -> None:
        explanation = ifam.explain(model, np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
        found = explanation.shapley()
        torch.testing.assert_close(
            torch.from_numpy(found.everything).softmax(0).float(), torch.from_numpy(explanation.probabilities)
        )
        assert not explanation.without(parts=[0]).shapley().values[0].any()

    @pytest.mark.parametrize("options", [{"soft_masks": True}, {"second_stage": False}])
    def test_a_model_that_sees_more_is_refused(self, options: dict[str, bool]) -> None:
        model: Any = ifam.IFAM("vit_tiny_patch16_224", 2, 2, 64, pretrained=False, **options)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="expected a model whose stage 2 sees selected tokens only"):
            shapley_values(model.eval(), torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 4, dtype=torch.long))
