import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics import (
    KeypointRegression,
    foreground_intersection_union,
    keypoint_error,
    mask_intersection_union,
    mean_image_iou,
    part_centroids,
    pooled_iou,
    seen_on_object,
)


def one_hot_maps(parts: Tensor, num_parts: int) -> Tensor:
    """(B, h, w) int to (B, K+1, h, w) with probability 1 on the part."""
    return torch.nn.functional.one_hot(parts, num_parts + 1).permute(0, 3, 1, 2).float()


def test_iou_by_hand_at_the_resolution_of_the_maps() -> None:
    parts = torch.tensor([[[0, 1, 2], [2, 2, 2]], [[2, 2, 2], [2, 2, 2]]])  # part 2 is the background
    masks = torch.tensor([[[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]]).bool()
    intersection, union = foreground_intersection_union(one_hot_maps(parts, 2), masks)
    assert intersection.tolist() == [1, 0]
    assert union.tolist() == [3, 0]
    assert pooled_iou(intersection, union) == pytest.approx(1 / 3)
    assert mean_image_iou(intersection, union) == pytest.approx((1 / 3 + 1) / 2)


def test_maps_are_upsampled_bilinearly_before_the_argmax() -> None:
    # One row of two tokens over eight pixels: pixel i takes the share clamp((i + 0.5) / 4 - 0.5, 0, 1) of the second
    # token. Foreground 0.9 - 0.8 t wins while t < 1/2: four pixels. 0.6 - 0.6 t against 0.4 + 0.6 t, t < 1/6: three.
    wide = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]]]])
    narrow = torch.tensor([[[[0.6, 0.0]], [[0.4, 1.0]]]])
    masks = torch.ones(1, 1, 8, dtype=torch.bool)
    assert foreground_intersection_union(wide, masks)[0].item() == 4
    assert foreground_intersection_union(narrow, masks)[0].item() == 3
    assert mask_intersection_union(torch.tensor([[[True, False]]]), masks)[0].item() == 4


def test_parts_are_merged_after_the_winner_is_taken() -> None:
    # The foreground parts have 0.6 together, but the background wins.
    maps = torch.tensor([0.3, 0.3, 0.4]).view(1, 3, 1, 1)
    intersection, union = foreground_intersection_union(maps, torch.ones(1, 2, 2, dtype=torch.bool))
    assert (intersection.item(), union.item()) == (0, 4)


def test_token_mask_is_upsampled_without_shift() -> None:
    mask = torch.tensor([[[1, 0, 1], [0, 0, 0]]]).bool()
    masks = mask.repeat_interleave(5, 1).repeat_interleave(7, 2)
    intersection, union = mask_intersection_union(mask, masks)
    assert intersection.item() == union.item() == 2 * 35


def test_a_pixel_belongs_to_the_token_that_holds_its_centre() -> None:
    # Three tokens over seven pixels: the middle token holds the centres of pixels 2, 3 and 4.
    masks = torch.tensor([[[0, 0, 1, 1, 1, 0, 0]]]).bool()
    intersection, union = mask_intersection_union(torch.tensor([[[False, True, False]]]), masks)
    assert intersection.item() == union.item() == 3


def test_what_was_seen_and_what_of_it_is_the_object() -> None:
    mask = torch.tensor([[[1, 0]], [[0, 0]]]).bool()
    masks = torch.tensor([[[0, 1, 1, 1]], [[1, 1, 0, 0]]]).bool()  # two pixels for each token
    both, seen = seen_on_object(mask, masks)
    assert both.tolist() == [1, 0]
    assert seen.tolist() == [2, 0]


@given(st.integers(0, 10**6))
def test_iou_is_between_0_and_1_and_ignores_the_order_of_images(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 4, 3, 5, generator=generator).softmax(1)
    masks = torch.rand(3, 7, 9, generator=generator) > 0.5
    intersection, union = foreground_intersection_union(maps, masks)
    order = torch.randperm(3, generator=generator)
    again = foreground_intersection_union(maps[order], masks[order])
    assert torch.equal(again[0], intersection[order])
    assert pooled_iou(*again) == pooled_iou(intersection, union)
    assert bool((intersection <= union).all())
    assert mean_image_iou(*again) == pytest.approx(mean_image_iou(intersection, union))


def test_pooled_and_mean_differ_where_images_do() -> None:
    intersection, union = torch.tensor([1, 90]), torch.tensor([10, 100])
    assert pooled_iou(intersection, union) == 91 / 110
    assert mean_image_iou(intersection, union) == pytest.approx(0.5)


def test_no_image_and_no_foreground_give_no_iou() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert mean_image_iou(nothing, nothing) is None
    assert pooled_iou(torch.tensor([0]), torch.tensor([0])) is None


def test_masks_must_match_the_maps() -> None:
    with pytest.raises(UsageError, match=r"expected \(2, H, W\).*got \(3, 4, 4\)"):
        foreground_intersection_union(torch.rand(2, 3, 2, 2), torch.ones(3, 4, 4, dtype=torch.bool))


def test_centroids_by_hand() -> None:
    maps = torch.zeros(1, 3, 2, 4)
    maps[0, 0, 1, 3] = 1.0  # one token: its centre
    maps[0, 1, 0, :2] = torch.tensor([0.3, 0.1])  # too weak to be active
    maps[0, 2] = 1 - maps[0, :2].sum(0)
    centroids, active = part_centroids(maps)
    torch.testing.assert_close(centroids[0, 0], torch.tensor([3.5 / 4, 1.5 / 2]))
    torch.testing.assert_close(centroids[0, 1], torch.tensor([(0.3 * 0.125 + 0.1 * 0.375) / 0.4, 0.25]))
    assert active.tolist() == [[True, False]]


def test_a_map_of_exactly_one_half_is_not_active_and_no_mass_is_finite() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0], maps[0, 2] = 0.5, 0.5
    centroids, active = part_centroids(maps)
    assert not active.any()
    assert centroids.isfinite().all()
    torch.testing.assert_close(centroids[0, 0], torch.tensor([0.5, 0.5]))


def test_transposing_the_maps_swaps_x_and_y() -> None:
    maps = torch.rand(2, 4, 3, 5).softmax(1)
    centroids, active = part_centroids(maps)
    swapped, still_active = part_centroids(maps.transpose(2, 3))
    torch.testing.assert_close(swapped, centroids.flip(-1))
    assert torch.equal(active, still_active)


def linear_problem(num_images: int, num_parts: int, num_keypoints: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keypoints that are linear in the centroids of active parts and the flags; the last part is always active."""
    generator = torch.Generator().manual_seed(0)
    centroids = torch.rand(num_images, num_parts, 2, generator=generator)
    active = torch.rand(num_images, num_parts, generator=generator) > 0.3
    active[:, -1] = True
    located = (centroids * active[..., None]).flatten(1).double()
    features = torch.cat([located, active.double(), torch.ones(num_images, 1)], 1)
    weights = torch.randn(num_keypoints, features.shape[1], 2, generator=generator, dtype=torch.float64)
    keypoints = torch.einsum("bf,pfc->bpc", features, weights)
    visible = torch.rand(num_images, num_keypoints, generator=generator) > 0.4
    return centroids, active, keypoints, visible


def test_an_exactly_linear_problem_is_solved_on_new_images() -> None:
    centroids, active, keypoints, visible = linear_problem(120, 3, 4)
    keypoints = keypoints.where(visible[..., None], torch.nan)  # what is not visible is not read
    train, test = slice(0, 80), slice(80, None)
    regression = KeypointRegression.fit(centroids[train], active[train], keypoints[train], visible[train])
    predicted = regression.predict(centroids[test], active[test])
    score = keypoint_error(predicted, keypoints[test], visible[test], torch.ones(40, 2))
    assert score.error is not None
    assert score.error < 1e-6
    assert (score.count, score.left_out) == (int(visible[test].sum()), 0)


def test_where_a_part_is_inactive_its_centroid_is_not_read() -> None:
    centroids, active, keypoints, visible = linear_problem(60, 3, 2)
    regression = KeypointRegression.fit(centroids, active, keypoints, visible)
    moved = torch.where(active[..., None], centroids, torch.rand_like(centroids))
    assert torch.equal(regression.predict(moved, active), regression.predict(centroids, active))


def test_a_keypoint_never_visible_in_training_is_left_out_and_counted() -> None:
    centroids, active, keypoints, visible = linear_problem(50, 2, 3)
    visible[:, 1] = False
    regression = KeypointRegression.fit(centroids, active, keypoints, visible)
    assert regression.fitted.tolist() == [True, False, True]
    everything = torch.ones_like(visible)
    score = keypoint_error(regression.predict(centroids, active), keypoints, everything, torch.ones(50, 2))
    assert (score.count, score.left_out) == (100, 50)
    assert score.error is not None
    assert score.error < 1e-6


def test_least_squares_of_a_constant_feature_is_the_mean() -> None:
    centroids, active = torch.zeros(4, 1, 2), torch.zeros(4, 1, dtype=torch.bool)
    keypoints = torch.tensor([[0.0, 0.2], [0.4, 0.4], [0.8, 0.6], [9.0, 9.0]])[:, None]
    visible = torch.tensor([True, True, True, False])[:, None]
    predicted = KeypointRegression.fit(centroids, active, keypoints, visible).predict(centroids, active)
    torch.testing.assert_close(predicted[0, 0], torch.tensor([0.4, 0.4], dtype=torch.float64), check_dtype=True)


def test_error_divides_each_axis_by_the_side_of_its_box() -> None:
    predicted = torch.tensor([[[0.3, 0.4], [0.0, 0.0]], [[0.5, 0.5], [0.0, 0.0]]])
    keypoints = torch.zeros(2, 2, 2)
    visible = torch.tensor([[True, False], [True, True]])
    box_sizes = torch.tensor([[0.1, 0.1], [1.0, 0.5]])
    score = keypoint_error(predicted, keypoints, visible, box_sizes)
    assert score.count == 3
    assert score.error == pytest.approx((5.0 + (0.25 + 1.0) ** 0.5 + 0.0) / 3)


def test_nothing_visible_gives_no_error() -> None:
    score = keypoint_error(
        torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool), torch.ones(1, 2)
    )
    assert (score.error, score.count, score.left_out) == (None, 0, 0)


def test_keypoints_that_cannot_be() -> None:
    centroids, active, keypoints, visible = linear_problem(5, 2, 3)
    with pytest.raises(UsageError, match=r"visible \(5, P\)"):
        KeypointRegression.fit(centroids, active, keypoints, visible[:, :2])
    with pytest.raises(UsageError, match="at least one image"):
        KeypointRegression.fit(centroids[:0], active[:0], keypoints[:0], visible[:0])
    with pytest.raises(UsageError, match="box sizes"):
        keypoint_error(keypoints, keypoints, visible, torch.zeros(5, 2))
