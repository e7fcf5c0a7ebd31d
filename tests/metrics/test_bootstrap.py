import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics import (
    accuracy_interval,
    auc_interval,
    binary_auc,
    bootstrap_interval,
    group_accuracy,
    paired_auc_win_shares,
    paired_win_shares,
    worst_group_accuracy,
    worst_group_accuracy_interval,
    worst_group_auc,
    worst_group_auc_interval,
)


def bernoulli(n: int, p: float, seed: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)) < p


def test_resamples_of_correct_answers_are_binomial() -> None:
    n, p = 200, 0.8
    interval = accuracy_interval(torch.arange(n) < n * p, seed=0, repeats=4000, level=0.9)
    assert interval.estimate == p
    assert interval.low is not None
    assert interval.high is not None
    # At most one image from the exact quantiles.
    assert interval.low == pytest.approx(binom.ppf(0.05, n, p) / n, abs=1 / n)
    assert interval.high == pytest.approx(binom.ppf(0.95, n, p) / n, abs=1 / n)


def test_coverage_is_close_to_nominal() -> None:
    n, p, trials = 150, 0.7, 300
    intervals = [accuracy_interval(bernoulli(n, p, seed), seed=seed, repeats=300) for seed in range(trials)]
    covered = sum(i.low <= p <= i.high for i in intervals if i.low is not None and i.high is not None)
    assert 0.91 <= covered / trials <= 0.98


def test_the_seed_alone_decides() -> None:
    correct = bernoulli(80, 0.6, 0)
    torch.manual_seed(1)
    first = accuracy_interval(correct, seed=5, repeats=50)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert accuracy_interval(correct, seed=5, repeats=50) == first
    assert accuracy_interval(correct, seed=6, repeats=50) != first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the first call advanced nothing


def test_tensors_are_resampled_together() -> None:
    values = torch.arange(30)

    def aligned(a: Tensor, b: Tensor) -> float:
        assert torch.equal(b, 2 * a)
        return float(a.double().mean())

    interval = bootstrap_interval(aligned, values, 2 * values, seed=0, repeats=20)
    assert interval.estimate == 14.5
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 14.5 < interval.high


def test_within_keeps_the_size_of_every_stratum() -> None:
    strata = torch.tensor([3, 3, -1, 3, -1, 8])
    values, seen = torch.arange(6), set()

    def record(rows: Tensor) -> float:
        assert sorted(strata[rows].tolist()) == sorted(strata.tolist())
        seen.add(tuple(rows.tolist()))
        return 0.0

    bootstrap_interval(record, values, seed=0, repeats=50, within=strata)
    assert len(seen) > 10


def test_a_statistic_that_some_resamples_do_not_allow() -> None:
    scores, labels = torch.rand(8), torch.tensor([1, 0, 0, 0, 0, 0, 0, 0])
    interval = bootstrap_interval(binary_auc, scores, labels, seed=0, repeats=400)
    # The one positive is missing from a share (7/8)^8 = 0.34 of them.
    assert interval.left_out / interval.repeats == pytest.approx((7 / 8) ** 8, abs=0.08)
    assert interval.low is not None
    assert bootstrap_interval(binary_auc, scores, labels, seed=0, repeats=50, within=labels).left_out == 0


def test_the_worst_group_has_images_in_every_resample() -> None:
    correct = torch.cat([bernoulli(500, 0.95, 0), bernoulli(6, 0.5, 1), torch.zeros(3, dtype=torch.bool)])
    groups = torch.tensor([0] * 500 + [2] * 6 + [-1] * 3)
    interval = worst_group_accuracy_interval(correct, groups, 3, seed=0, repeats=500)
    hits = int(correct[500:506].sum())
    assert interval.estimate == hits / 6
    assert interval.left_out == 0
    assert interval.low is not None
    assert interval.high is not None
    # The small group is the worst nearly always, and has six images always.
    assert interval.low == pytest.approx(binom.ppf(0.025, 6, hits / 6) / 6, abs=1e-9)
    assert interval.high == pytest.approx(binom.ppf(0.975, 6, hits / 6) / 6, abs=1 / 6)


def test_a_single_group_has_the_interval_of_the_accuracy() -> None:
    correct = bernoulli(40, 0.6, 0)
    groups = torch.zeros(40, dtype=torch.long)
    assert worst_group_accuracy_interval(correct, groups, 1, seed=3) == accuracy_interval(correct, seed=3)


def test_the_free_draw_would_lose_the_small_group() -> None:
    correct = torch.tensor([True] * 98 + [False] * 2)
    groups = torch.tensor([0] * 98 + [1] * 2)

    def worst(correct: Tensor, groups: Tensor) -> float | None:
        return worst_group_accuracy(group_accuracy(correct, groups, 2))

    assert bootstrap_interval(worst, correct, groups, seed=0).high == 1.0
    assert bootstrap_interval(worst, correct, groups, seed=0, within=groups).high == 0.0


def test_the_auc_keeps_the_size_of_each_class() -> None:
    """One positive above 8 of 10 negatives: the AUC of a resample is a mean of ten draws of 0.8."""
    scores, labels = torch.tensor([*range(10), 7.5]), torch.tensor([0] * 10 + [1])
    interval = auc_interval(scores, labels, seed=0, repeats=4000, level=0.9)
    assert (interval.estimate, interval.left_out) == (0.8, 0)
    assert interval.low == pytest.approx(binom.ppf(0.05, 10, 0.8) / 10)
    assert interval.high == pytest.approx(binom.ppf(0.95, 10, 0.8) / 10)
    assert auc_interval(scores, torch.zeros(11).long(), seed=0, repeats=5).low is None


def test_the_worst_group_auc_keeps_the_size_of_each_class_in_each_group() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, groups = torch.arange(40) % 2, torch.tensor([0] * 4 + [2] * 30 + [-1] * 6)
    scores = labels + torch.randn(40, generator=generator)
    interval = worst_group_auc_interval(scores, labels, groups, 3, seed=0, repeats=300)
    assert interval.estimate == worst_group_auc(scores, labels, groups, 3).auc
    assert interval.left_out == 0
    assert interval.low is not None
    assert interval.high is not None
    assert 0 <= interval.low < interval.high < 1
    one = torch.zeros(40, dtype=torch.long)
    whole, plain = (
        worst_group_auc_interval(scores, labels, one, 1, seed=3, repeats=50),
        auc_interval(scores, labels, seed=3, repeats=50),
    )
    assert whole == plain
    with pytest.raises(UsageError, match="groups: expected"):
        worst_group_auc_interval(scores, labels, groups, 2, seed=0)


def test_no_image_gives_no_interval() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    for interval in (accuracy_interval(nothing, seed=0), worst_group_accuracy_interval(nothing, nothing, 2, seed=0)):
        assert interval.estimate is interval.low is interval.high is None
        assert interval.left_out == interval.repeats == 1000


def test_arguments_that_cannot_be() -> None:
    values = torch.zeros(3)
    with pytest.raises(UsageError, match=r"one length, got 2 of \[2, 3\]"):
        bootstrap_interval(binary_auc, values, values[:2], seed=0)
    with pytest.raises(UsageError, match=r"one length, got 1 of \[2, 3\]"):
        bootstrap_interval(binary_auc, values, seed=0, within=values[:2])
    with pytest.raises(UsageError, match="got 0 of"):
        bootstrap_interval(lambda: 0.0, seed=0)
    with pytest.raises(UsageError, match=r"got 0 and 0\.95"):
        accuracy_interval(values, seed=0, repeats=0)
    with pytest.raises(UsageError, match="got 1000 and 95"):
        accuracy_interval(values, seed=0, level=95)
    with pytest.raises(UsageError, match="groups: expected"):
        worst_group_accuracy_interval(values, torch.tensor([0, 1, 2]), 2, seed=0)


def test_paired_wins_against_a_plain_loop() -> None:
    torch.manual_seed(0)
    correct, baseline, groups = torch.rand(40, 3) < 0.7, torch.rand(40) < 0.6, torch.randint(0, 3, (40,))
    shares = paired_win_shares(correct, baseline, groups, seed=5, repeats=300, chunk=70)
    random = np.random.default_rng(1)
    wins = np.zeros(3)
    for _ in range(3000):  # other draws, so that only the distribution can agree
        members = [np.flatnonzero(groups.numpy() == g) for g in range(3)]
        rows = np.concatenate([random.choice(each, len(each)) for each in members])
        worst = [
            min(float(hits[rows][groups.numpy()[rows] == g].mean()) for g in range(3))
            for hits in (baseline.numpy(), *correct.numpy().T)
        ]
        wins += [1.0 if each > worst[0] + 1e-9 else 0.5 if abs(each - worst[0]) < 1e-9 else 0.0 for each in worst[1:]]
    np.testing.assert_allclose(shares.numpy(), wins / 3000, atol=0.07)


def test_paired_wins_of_the_same_predictor_are_ties_and_of_a_better_one_sure() -> None:
    baseline, groups = torch.arange(60) % 3 > 0, torch.arange(60) % 2
    everything = torch.ones(60, dtype=torch.bool)
    shares = paired_win_shares(torch.stack([baseline, everything, ~everything], 1), baseline, groups, seed=0)
    assert shares.tolist() == [0.5, 1.0, 0.0]


def test_paired_wins_by_auc_against_a_plain_loop() -> None:
    torch.manual_seed(0)
    labels, groups = torch.randint(0, 2, (60,)), torch.randint(0, 2, (60,))
    baseline = (labels + 1.5 * torch.randn(60)).round(decimals=1)  # with ties
    scores = torch.stack([(labels + spread * torch.randn(60)).round(decimals=1) for spread in (1.0, 1.5, 2.0)], 1)
    strata = [((labels == label) & (groups == group)).nonzero()[:, 0] for label in (0, 1) for group in (0, 1)]
    for in_groups in (True, False):
        given = groups if in_groups else torch.zeros_like(groups)
        shares = paired_auc_win_shares(scores, baseline, labels, given, seed=5, repeats=500)
        generator = torch.Generator().manual_seed(1)
        wins = torch.zeros(3)
        within = strata if in_groups else [torch.cat(strata[:2]), torch.cat(strata[2:])]
        for _ in range(600):  # other draws, so that only the distribution can agree
            rows = torch.cat([each[torch.randint(len(each), (len(each),), generator=generator)] for each in within])
            auc = [worst_group_auc(s[rows], labels[rows], given[rows], 2).auc for s in (baseline, *scores.T)]
            wins += torch.tensor([1.0 if a > auc[0] else 0.5 if a == auc[0] else 0.0 for a in auc[1:]])
        np.testing.assert_allclose(shares.numpy(), wins / 600, atol=0.08)
    same = paired_auc_win_shares(torch.stack([baseline, labels.float()], 1), baseline, labels, groups, seed=0)
    assert same.tolist() == [0.5, 1.0]


def test_shares_without_spread_have_exact_limits() -> None:
    right = torch.ones(8, dtype=torch.bool)
    for correct in (right, ~right):
        exact = binomtest(int(correct.sum()), 8).proportion_ci(0.9, method="exact")
        interval = accuracy_interval(correct, seed=0, level=0.9)
        assert (interval.low, interval.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    groups = torch.tensor([0] * 3 + [1] * 5 + [2] * 20)
    interval = worst_group_accuracy_interval(torch.ones(28, dtype=torch.bool), groups, 4, seed=0)
    assert interval.low == pytest.approx(binomtest(3, 3).proportion_ci(0.95, method="exact").low)
    assert interval.high == 1
    interval = worst_group_accuracy_interval(groups == 2, groups, 4, seed=0)
    assert interval.low == 0
    assert interval.high == pytest.approx(binomtest(0, 5).proportion_ci(0.95, method="exact").high)
    assert accuracy_interval(torch.ones(0, dtype=torch.bool), seed=0).low is None


@pytest.mark.parametrize("num_groups", [6, 20, 200])
def test_many_small_groups_none_of_which_is_wrong_throughout(num_groups: int) -> None:
    """One is in nearly every resample of 20 or 200; of 6 in fewer, and the limits are as they were drawn."""
    groups = torch.arange(num_groups).repeat_interleave(3)
    interval = worst_group_accuracy_interval(torch.arange(3 * num_groups) % 3 == 0, groups, num_groups, seed=0)
    assert (interval.low, interval.estimate, interval.high) == (0, 1 / 3, 1 / 3)


def test_many_small_groups_one_of_which_is_wrong_throughout() -> None:
    groups, correct = torch.arange(20).repeat_interleave(3), torch.arange(60) % 3 == 0
    correct[:3] = False
    interval = worst_group_accuracy_interval(correct, groups, 20, seed=0)
    assert (interval.low, interval.estimate) == (0, 0)
    assert interval.high == pytest.approx(binomtest(0, 3).proportion_ci(0.95, method="exact").high)
