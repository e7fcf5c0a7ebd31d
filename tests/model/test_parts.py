import math

import pytest
import torch

from ifam.model import parts


def test_part_logits_are_negative_squared_distances() -> None:
    tokens, prototypes = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    expected = -torch.cdist(tokens.flatten(1, 2), prototypes).square().transpose(1, 2).unflatten(2, (3, 4))
    torch.testing.assert_close(parts.part_logits(tokens, prototypes), expected)


@pytest.mark.parametrize("autocast", [False, True])
def test_distances_of_bfloat16_tokens_are_computed_in_float32(autocast: bool) -> None:
    tokens = (torch.randn(2, 8, 8, 384) * 2).bfloat16()  # squared norms near 1,500
    prototypes = (torch.rand(9, 384) * 2 - 1) / 384**0.5
    expected = parts.part_logits(tokens.double(), prototypes.double())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        actual = parts.part_logits(tokens, prototypes)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0.01)


def test_temperature_sharpens_the_maps() -> None:
    logits = torch.tensor([0.0, math.log(2)]).view(1, 2, 1, 1)
    assert parts.part_maps(logits)[0, 1].item() == pytest.approx(2 / 3)
    assert parts.part_maps(logits, temperature=0.5)[0, 1].item() == pytest.approx(4 / 5)


def test_features_are_plain_means_over_all_positions() -> None:
    maps, tokens = torch.rand(2, 3, 4, 5), torch.randn(2, 4, 5, 6)
    expected = torch.zeros(2, 6, 3)
    for row in range(4):
        for column in range(5):
            expected += tokens[:, row, column, :, None] * maps[:, None, :, row, column] / 20
    torch.testing.assert_close(parts.part_features(maps, tokens), expected)


def test_gumbel_noise_has_its_distribution() -> None:
    n = 100_000
    noise = parts.gumbel_like(torch.empty(n)).double()
    assert noise.isfinite().all()
    deviation = math.pi / 6**0.5
    assert noise.mean().item() == pytest.approx(0.577216, abs=5 * deviation / n**0.5)
    # the fourth central moment of a Gumbel distribution is 27/5 of its squared variance
    assert noise.var().item() == pytest.approx(deviation**2, abs=5 * deviation**2 * (4.4 / n) ** 0.5)
    for x in (-1.5, 0.0, 1.0, 4.0):
        share = math.exp(-math.exp(-x))
        assert (noise < x).double().mean().item() == pytest.approx(share, abs=5 * (share * (1 - share) / n) ** 0.5)


def test_gumbel_noise_draws_parts_with_their_probabilities() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0]).expand(60_000, 3)
    winners = (logits + parts.gumbel_like(logits)).argmax(1)
    share = winners.bincount(minlength=3) / len(winners)
    torch.testing.assert_close(share, logits[0].softmax(0), rtol=0, atol=0.01)


def test_gumbel_noise_is_finite_where_the_draw_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "exponential_", torch.Tensor.zero_)
    assert parts.gumbel_like(torch.empty(3)).isfinite().all()


def test_parts_are_dropped_with_the_probability() -> None:
    assert parts.drop_parts((50, 4), 0.0, torch.device("cpu")).all()
    kept = parts.drop_parts((20_000, 3), 0.3, torch.device("cpu")).double()
    torch.testing.assert_close(kept.mean(0), torch.full((3,), 0.7, dtype=torch.float64), rtol=0, atol=0.02)
    assert abs(torch.corrcoef(kept.T)[0, 1]) < 0.03
