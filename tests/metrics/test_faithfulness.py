"""Measures of maps, against numbers by hand and scipy."""

import pytest
import torch
from conftest import RefusesLine
from scipy.stats import spearmanr

from ifam.metrics.faithfulness import (
    curve_area,
    log_odds,
    pointing_hits,
    rank_correlation,
    ranked_masks,
    share_inside,
    top_tokens,
)

MAP = torch.tensor([[[3.0, 1.0], [2.0, 0.0]]])


def test_top_tokens_by_hand() -> None:
    maps = torch.cat([MAP, -MAP, torch.zeros(1, 2, 2)])
    found = top_tokens(maps, torch.tensor([2, 1, 3]))
    assert found.tolist() == [
        [[True, False], [True, False]],
        [[False, False], [False, True]],
        [[True, True], [True, False]],  # of equal ones, those read first
    ]


def test_top_tokens_of_a_mask_and_less_are_its_mask() -> None:
    mask = torch.rand(5, 4, 3) < 0.4
    assert torch.equal(top_tokens(mask + torch.rand(5, 4, 3), mask.flatten(1).sum(1)), mask)


def test_ranked_masks_grow_and_hold_the_share() -> None:
    masks = ranked_masks(torch.rand(3, 4, 5), (0, 0.25, 0.5, 1))
    assert masks.flatten(2).sum(2).tolist() == [[0, 5, 10, 20]] * 3
    assert bool((masks[:, 1:] >= masks[:, :-1]).all())


def test_curve_area_by_hand(refuses_line: RefusesLine) -> None:
    # trapezoids: 0.25 · (0 + 1) / 2 + 0.75 · (1 + 1) / 2
    assert curve_area(torch.tensor([[0.0, 1.0, 1.0]]), (0, 0.25, 1)).tolist() == [pytest.approx(0.875)]
    with refuses_line("from 0 to 1"):
        curve_area(torch.zeros(1, 2), (0, 0.5))


def test_log_odds_are_those_of_the_probability_and_ignore_a_common_shift() -> None:
    logits, classes = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    p = logits.double().softmax(1).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, classes), (p / (1 - p)).log())
    torch.testing.assert_close(log_odds(logits.double() + 7, classes), log_odds(logits.double(), classes))


def test_pointing_looks_at_the_centre_of_the_highest_token() -> None:
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[:, 1, 1] = True  # the centre of the first of 2 × 2 tokens
    assert pointing_hits(torch.cat([MAP, -MAP]), masks).tolist() == [True, False]


def test_rank_correlation_is_spearmans() -> None:
    one, other = torch.randn(6, 3, 4), torch.randint(0, 4, (6, 3, 4)).float()  # the second with ties
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other, strict=True)]
    assert rank_correlation(one, other).tolist() == pytest.approx(expected)
    assert rank_correlation(one, one.exp()).tolist() == pytest.approx([1.0] * 6)
    assert rank_correlation(one, torch.ones_like(one)).tolist() == [0.0] * 6


def test_share_inside_counts_sizes_not_signs() -> None:
    region = torch.tensor([[[True, False], [True, False]]])
    assert share_inside(torch.tensor([[[3.0, 1.0], [-1.0, 0.0]]]), region).tolist() == [0.8]
    assert share_inside(torch.zeros(1, 2, 2), region).tolist() == [0.0]
