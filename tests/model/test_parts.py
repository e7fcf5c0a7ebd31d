import math

import pytest
import torch

from ifam.errors import UsageError
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


def scene_tokens(offset: float = 0.0) -> torch.Tensor:
    """(2, 8, 6, 5): the inner half of each axis differs from the border along the last dimension."""
    tokens = torch.randn(2, 8, 6, 5, dtype=torch.float64) * 0.1 + offset
    tokens[:, 2:6, 2:4, -1] += 3
    return tokens


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_prototypes_that_lean_to_the_centre_select_it(num_parts: int, offset: float) -> None:
    tokens = scene_tokens(offset)
    prototypes = parts.lean_to_centre(0.01 * torch.randn(num_parts + 1, 5, dtype=torch.float64), tokens)
    foreground = parts.part_logits(tokens, prototypes).argmax(1) < num_parts
    expected = torch.zeros(8, 6, dtype=torch.bool)
    expected[2:6, 2:4] = True
    assert torch.equal(foreground, expected.expand(2, -1, -1))


def test_leaning_keeps_the_differences_between_parts_and_has_the_strength_asked_for() -> None:
    tokens, random = scene_tokens(), torch.zeros(4, 5, dtype=torch.float64)
    random[:3] = 0.1 * torch.randn(3, 5, dtype=torch.float64)
    leaning = parts.lean_to_centre(random, tokens, strength=5.0)
    torch.testing.assert_close(leaning[:3] - leaning[0], random[:3] - random[0])
    plain = parts.part_logits(tokens, parts.lean_to_centre(torch.zeros_like(random), tokens, strength=5.0))
    torch.testing.assert_close((plain[:, 0] - plain[:, -1]).std(), torch.tensor(5.0, dtype=torch.float64))


def shifting_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """An object off the centre, in images whose tokens are all shifted by more than the object differs."""
    torch.manual_seed(0)
    is_object = torch.zeros(24, 10, 10, dtype=torch.bool)
    tokens = 0.3 * torch.randn(24, 10, 10, 8, dtype=torch.float64)
    for row in range(24):
        top, left = torch.randint(1, 5, (2,)).tolist()
        is_object[row, top : top + 4, left : left + 4] = True
        tokens[row, ..., 0] += 4 * torch.randn(1, dtype=torch.float64)  # such as the tone of a skin
    tokens[..., 0] += 2 * is_object
    tokens[..., 1] += 2 * is_object
    return tokens, is_object


@pytest.mark.parametrize("num_parts", [1, 3])
def test_the_object_is_found_where_images_differ_by_more(num_parts: int) -> None:
    tokens, is_object = shifting_tokens()
    random = 0.01 * torch.randn(num_parts + 1, 8, dtype=torch.float64)

    def overlap(prototypes: torch.Tensor) -> float:
        found = parts.part_logits(tokens, prototypes).argmax(1) < num_parts
        return float((found & is_object).sum() / (found | is_object).sum())

    assert overlap(parts.lean_to_object(random, tokens)) > 0.75
    assert overlap(parts.lean_to_centre(random, tokens)) < 0.5


def test_leaning_to_the_object_has_the_strength_asked_for() -> None:
    tokens, _ = shifting_tokens()
    logits = parts.part_logits(tokens, parts.lean_to_object(torch.randn(2, 8, dtype=torch.float64), tokens, 7.0))
    torch.testing.assert_close((logits[:, 0] - logits[:, 1]).std(), torch.tensor(7.0, dtype=torch.float64))
    random = torch.randn(4, 8, dtype=torch.float64)
    leaning = parts.lean_to_object(random, tokens)
    torch.testing.assert_close(leaning[:3] - leaning[0], random[:3] - random[0])


def test_otsu_splits_where_the_sides_vary_least() -> None:
    scores = torch.cat([torch.randn(3, 40), torch.randn(3, 20) + 9], 1)[:, torch.randperm(60)]
    found = parts.otsu_threshold(scores)

    def within(row: torch.Tensor, threshold: float) -> float:
        low, high = row[row <= threshold], row[row > threshold]
        return float(len(low) * low.var(correction=0) + len(high) * high.var(correction=0))

    for row, threshold in zip(scores, found.tolist(), strict=True):
        best = min(within(row, float(value)) for value in row.sort().values[:-1])
        assert within(row, threshold) == pytest.approx(best)
        assert 2 < threshold < 7


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.randn(2, 2, 5, 4), "3×3, got 2×5; use larger images or a smaller patch"),
        (torch.ones(2, 4, 5, 4), "alike"),
    ],
)
def test_tokens_that_show_no_centre_are_refused(tokens: torch.Tensor, said: str) -> None:
    for leaning in (parts.lean_to_centre, parts.lean_to_object):
        with pytest.raises(UsageError, match=said):
            leaning(torch.zeros(2, 4), tokens)
