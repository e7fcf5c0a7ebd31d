import pytest
from scipy.stats import binom

from ifam.metrics.binomial import chance_of_at_least, chance_of_at_most


@pytest.mark.parametrize("count", [1, 20, 50_000])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.97])
def test_as_scipy_has_it(count: int, share: float) -> None:
    for right in {0, count // 3, round(share * count), count}:
        assert chance_of_at_most(right, count, share) == pytest.approx(binom.cdf(right, count, share), abs=1e-9)
        assert chance_of_at_least(right, count, share) == pytest.approx(binom.sf(right - 1, count, share), abs=1e-9)


def test_two_of_twenty_is_worse_than_a_coin() -> None:
    assert chance_of_at_most(2, 20, 0.5) == pytest.approx(211 / 2**20)
    assert chance_of_at_least(0, 20, 0.5) == pytest.approx(1)
    assert chance_of_at_most(-1, 20, 0.5) == 0
