import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics import adjusted_rand_index, normalized_mutual_information, part_labels_at

labelings = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 3)), min_size=1, max_size=40)


def as_tensors(pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    a, b = zip(*pairs, strict=True)
    return torch.tensor(a), torch.tensor(b)


@given(labelings)
def test_both_indices_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    a, b = as_tensors(pairs)
    assert normalized_mutual_information(a, b) == pytest.approx(normalized_mutual_info_score(b, a), abs=1e-9)
    assert adjusted_rand_index(a, b) == pytest.approx(adjusted_rand_score(b, a), abs=1e-9)


@given(labelings)
def test_both_are_symmetric_and_blind_to_names(pairs: list[tuple[int, int]]) -> None:
    a, b = as_tensors(pairs)
    renamed = torch.tensor([7, 100, -3, 0, 12, 5])[a]
    for index in (normalized_mutual_information, adjusted_rand_index):
        assert index(a, b) == pytest.approx(index(b, a), abs=1e-12)
        assert index(renamed, b) == pytest.approx(index(a, b), abs=1e-12)
        assert index(renamed, a) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([0, 0, 0], [5, 5, 5], 1.0), ([0, 0, 0], [0, 1, 2], 0.0), ([3], [0], 1.0), ([0, 1, 2], [2, 0, 1], 1.0)],
)
def test_one_single_cluster_and_all_singletons(a: list[int], b: list[int], expected: float) -> None:
    assert normalized_mutual_information(torch.tensor(a), torch.tensor(b)) == expected
    assert adjusted_rand_index(torch.tensor(a), torch.tensor(b)) == expected
    assert normalized_mutual_info_score(a, b) == adjusted_rand_score(a, b) == expected


def test_indices_by_hand() -> None:
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])
    # I = log 2, H(a) = log 2, H(b) = 1.5 log 2. One pair together in both, of 2 and of 1; chance 2 · 1 / 6.
    assert normalized_mutual_information(a, b) == pytest.approx(1 / 1.25)
    assert adjusted_rand_index(a, b) == pytest.approx((1 - 1 / 3) / (1.5 - 1 / 3))


def test_no_keypoint_gives_no_index() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert normalized_mutual_information(nothing, nothing) is None
    assert adjusted_rand_index(nothing, nothing) is None


def test_many_samples_do_not_overflow() -> None:
    ids = torch.randint(0, 15, (200_000,))
    parts = torch.where(torch.rand(200_000) < 0.6, ids % 9, torch.randint(0, 9, (200_000,)))
    assert adjusted_rand_index(parts, ids) == pytest.approx(adjusted_rand_score(ids, parts), abs=1e-6)
    assert normalized_mutual_information(parts, ids) == pytest.approx(
        normalized_mutual_info_score(ids, parts), abs=1e-6
    )


@pytest.mark.parametrize("other", [torch.zeros(2, dtype=torch.long), torch.zeros(3), torch.zeros(3, 1).long()])
def test_labels_that_cannot_be(other: Tensor) -> None:
    with pytest.raises(UsageError, match="labels: expected two"):
        adjusted_rand_index(torch.zeros(3, dtype=torch.long), other)


@given(st.integers(0, 10**6), st.sampled_from([(5, 7), (23, 31), (3, 2)]))
def test_parts_are_those_of_the_upsampled_argmax(seed: int, image_size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 4, 3, 5, generator=generator).softmax(1)
    height, width = image_size
    keypoints = torch.rand(2, 6, 2, generator=generator) * torch.tensor([width, height])
    upsampled = F.interpolate(maps, size=image_size, mode="bilinear", align_corners=False)
    parts = part_labels_at(maps, keypoints, image_size)
    for i in range(2):
        for (x, y), part in zip(keypoints[i].tolist(), parts[i].tolist(), strict=True):
            shares = upsampled[i, :, int(y), int(x)]
            # Not ``== argmax``: two parts may tie up to rounding.
            assert shares[part].item() == pytest.approx(shares.max().item(), abs=1e-6)


def test_the_edges_of_the_image_and_the_order_of_coordinates() -> None:
    maps = torch.eye(4).view(1, 4, 2, 2)  # each token its own part, row by row
    keypoints = torch.tensor([[[0.0, 0.0], [20.0, 0.0], [0.0, 6.0], [20.0, 6.0], [9.9, 2.9], [10.0, 3.0]]])
    assert part_labels_at(maps, keypoints, (6, 20)).tolist() == [[0, 1, 2, 3, 0, 3]]


def test_the_winner_is_taken_after_upsampling() -> None:
    # Foreground 0.6 − 0.6 t against 0.4 + 0.6 t wins while t < 1/6, in three of eight pixels (see test_parts).
    maps = torch.tensor([[[[0.6, 0.0]], [[0.4, 1.0]]]])
    keypoints = torch.tensor([[[x + 0.5, 0.5] for x in range(8)]])
    assert part_labels_at(maps, keypoints, (1, 8)).tolist() == [[0] * 3 + [1] * 5]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_image_or_no_keypoint(shape: tuple[int, int]) -> None:
    assert part_labels_at(torch.rand(shape[0], 3, 2, 2), torch.rand(*shape, 2), (4, 4)).shape == shape


@pytest.mark.parametrize("point", [(-0.1, 0.0), (8.1, 0.0), (0.0, 4.1), (torch.nan, 0.0)])
def test_keypoints_outside_the_image(point: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"8×4 pixels.*not visible to 0"):
        part_labels_at(torch.rand(1, 2, 2, 2), torch.tensor([[point]]), (4, 8))


def test_keypoints_of_another_shape() -> None:
    with pytest.raises(UsageError, match=r"got \(2, 5, 2\) for \(1, 2, 2, 2\)"):
        part_labels_at(torch.rand(1, 2, 2, 2), torch.zeros(2, 5, 2), (4, 8))
