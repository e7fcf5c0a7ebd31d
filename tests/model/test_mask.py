import torch

from ifam.model import mask as masking

K = 3


def test_a_removed_part_becomes_background_not_its_second_best() -> None:
    parts = torch.tensor([[[0, 1, 2, 3]]])
    assert masking.remove_parts(parts, [0, 2], K).tolist() == [[[3, 1, 3, 3]]]
    assert masking.remove_parts(parts, [], K).tolist() == parts.tolist()


def test_unsure_tokens_are_those_beyond_the_threshold_of_their_own_part() -> None:
    parts = torch.tensor([[[0, 0, 1, 3]]])
    distances = torch.tensor([[1.0, 2.0, 9.0, 9.0], [9.0, 9.0, 5.0, 9.0], [9.0] * 4, [9.0, 9.0, 9.0, 8.0]])
    out = masking.remove_unsure_tokens(parts, -distances[None, :, None], [1.0, 5.0, 0.0])
    assert out.tolist() == [[[0, 3, 1, 3]]], "at the threshold a token stays; the background is never removed"


def test_dropout_removes_parts_image_by_image() -> None:
    parts = torch.tensor([[[0, 1, 2, 3]], [[0, 1, 2, 3]]])
    survives = torch.tensor([[True, False, True], [False, True, True]])
    assert masking.drop_from_mask(parts, survives).tolist() == [[[0, 3, 2, 3]], [[3, 1, 2, 3]]]


def test_straight_through_is_the_bit_forward_and_the_probability_backward() -> None:
    mask = torch.tensor([True, False, True])
    probability = torch.tensor([0.1, 0.7, 0.9], requires_grad=True)
    out = masking.straight_through(mask, probability)
    assert out.tolist() == [1, 0, 1]
    weights = torch.tensor([2.0, -3.0, 5.0])
    out.backward(weights)
    assert probability.grad is not None
    assert torch.equal(probability.grad, weights)
