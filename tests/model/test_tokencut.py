"""The normalised cut against scipy's generalised eigenvectors, and by hand where the answer is known."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ifam.model.backbone import Backbone
from ifam.model.tokencut import similarity_edges, token_cut


def two_kinds(height: int, width: int, object_rows: slice, object_columns: slice) -> Tensor:
    """(1, h, w, 3): one direction everywhere, another on a rectangle, each token of its own length."""
    features = torch.tensor([1.0, 0.1, 0.0]).repeat(1, height, width, 1)
    features[:, object_rows, object_columns] = torch.tensor([0.0, 0.1, 1.0])
    return features * (0.5 + torch.rand(1, height, width, 1))


def blobs(seed: int, batch: int = 1, height: int = 6, width: int = 7) -> Tensor:
    """(B, h, w, 8): noisy tokens of three kinds, so that similarities lie on both sides of a threshold."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(3, 8, generator=generator)
    which = torch.randint(3, (batch, height, width), generator=generator)
    return kinds[which] + 0.7 * torch.randn(batch, height, width, 8, generator=generator)


def scipys_foreground(features: Tensor, threshold: float, epsilon: float) -> tuple[np.ndarray, float]:
    """The paper, equation by equation, for one image (h, w, D); and how clear the decision is."""
    flat = features.double().flatten(0, 1).numpy()
    norms = np.linalg.norm(flat, axis=1)
    edges = np.where(flat @ flat.T / np.outer(norms, norms) > threshold, 1.0, epsilon)
    degree = np.diag(edges.sum(1))
    values, vectors = scipy.linalg.eigh(degree - edges, degree)
    y = vectors[:, 1]
    sides = y > y.mean()
    seed = np.abs(y).argmax()
    rival = np.abs(y[sides != sides[seed]]).max() if sides.any() and not sides.all() else 0.0
    margin = min(values[2] - values[1], np.abs(y - y.mean()).min(), np.abs(y[seed]) - rival)
    return (sides == sides[seed]).reshape(features.shape[:2]), float(margin)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_the_mask_is_that_of_scipys_generalised_eigenvectors(threshold: float, epsilon: float) -> None:
    features = blobs(seed=0, batch=20)
    actual = token_cut(features, threshold=threshold, epsilon=epsilon)
    clear = 0
    for image, mask in zip(features, actual, strict=True):
        expected, margin = scipys_foreground(image, threshold, epsilon)
        if margin > 1e-8:
            clear += 1
            assert mask.tolist() == expected.tolist()
    assert clear >= 10


@pytest.mark.parametrize(("rows", "columns"), [(slice(2, 4), slice(1, 5)), (slice(0, 3), slice(0, 3))], ids=str)
def test_an_object_that_differs_is_the_foreground(rows: slice, columns: slice) -> None:
    expected = torch.zeros(1, 6, 7, dtype=torch.bool)
    expected[:, rows, columns] = True
    assert torch.equal(token_cut(two_kinds(6, 7, rows, columns)), expected)


def test_the_smaller_side_is_the_foreground() -> None:
    ground = token_cut(two_kinds(5, 5, slice(0, 5), slice(0, 4)))
    assert ground[0].float().mean().item() == pytest.approx(0.2)
    assert ground[0, :, 4].all()


def test_all_pieces_of_the_foreground_are_returned() -> None:
    features = two_kinds(6, 7, slice(0, 2), slice(0, 2))
    features[:, 4:, 5:] = features[:, :2, :2]
    mask = token_cut(features)
    assert mask[0, :2, :2].all()
    assert mask[0, 4:, 5:].all()
    assert mask.sum() == 8


def test_edges_by_hand() -> None:
    features = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]])  # cosines 0.6, 0 and 0.8
    edges = similarity_edges(features, threshold=0.7, epsilon=1e-5)
    assert edges.tolist() == [[[1, 1e-5, 1e-5], [1e-5, 1, 1], [1e-5, 1, 1]]]


@given(seed=st.integers(0, 10_000))
def test_permuting_the_tokens_permutes_the_mask(seed: int) -> None:
    features = blobs(seed)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(seed))
    moved = features.flatten(1, 2)[:, order].view_as(features)
    if scipys_foreground(features[0], 0.3, 1e-5)[1] > 1e-8:  # else the order decides between equals
        expected = token_cut(features, threshold=0.3).flatten()[order]
        assert token_cut(moved, threshold=0.3).flatten().tolist() == expected.tolist()


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([2.0**-20, 0.5, 1024.0]))
def test_the_scale_of_each_image_does_not_matter(seed: int, scale: float) -> None:
    features = blobs(seed)
    assert torch.equal(token_cut(features, threshold=0.3), token_cut(features * scale, threshold=0.3))


def test_an_image_has_the_same_mask_alone_and_in_a_batch() -> None:
    features = torch.cat(
        [blobs(seed=1, batch=5), two_kinds(6, 7, slice(2, 4), slice(1, 5)).repeat(1, 1, 1, 3)[..., :8]]
    )
    together = token_cut(features, threshold=0.3)
    alone = torch.cat([token_cut(image[None], threshold=0.3) for image in features])
    assert torch.equal(together, alone)
    assert together.any(dim=(1, 2)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_features_of_any_precision_are_compared_in_float64(dtype: torch.dtype) -> None:
    features = blobs(seed=0, batch=20).to(dtype)
    edges = similarity_edges(features.flatten(1, 2), threshold=0.3, epsilon=1e-5)
    exact = similarity_edges(features.double().flatten(1, 2), threshold=0.3, epsilon=1e-5)
    assert edges.dtype == torch.float64
    assert torch.equal(edges, exact)


def test_the_mask_does_not_depend_on_the_signs_and_bases_of_eigh(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.cat([blobs(seed=2, batch=4), three_equal_kinds()])
    expected = token_cut(features, threshold=0.3)
    solve = torch.linalg.eigh

    def turned(matrices: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = solve(matrices)
        vectors = -vectors
        for image, of_image in zip(vectors, values, strict=True):
            equal = (of_image > of_image[-1] - 1e-9).nonzero()[:, 0]
            rotation = torch.linalg.qr(torch.randn(len(equal), len(equal), dtype=image.dtype)).Q
            image[:, equal] = image[:, equal] @ rotation
        return values, vectors

    monkeypatch.setattr(torch.linalg, "eigh", turned)
    for _ in range(5):
        assert torch.equal(token_cut(features, threshold=0.3), expected)


def kinds(*sizes: int) -> Tensor:
    """(1, 1, N, 8): orthogonal directions, so many tokens of each."""
    return torch.eye(8)[: len(sizes)].repeat_interleave(torch.tensor(sizes), 0)[None, None]


def three_equal_kinds() -> Tensor:
    """(1, 6, 7, 8): two rows of the grid each: the second eigenvalue is repeated."""
    return kinds(14, 14, 14).view(1, 6, 7, 8)


@given(seed=st.integers(0, 10_000), sizes=st.sampled_from([(21, 21), (14, 14, 14), (6,) * 7]))
def test_of_equal_sides_the_first_in_reading_order_is_the_foreground(seed: int, sizes: tuple[int, ...]) -> None:
    order = torch.randperm(42, generator=torch.Generator().manual_seed(seed))
    features = kinds(*sizes)[:, :, order]
    assert torch.equal(token_cut(features), (features == features[:, :, :1]).all(-1))


@given(seed=st.integers(0, 10_000))
def test_a_token_on_the_mean_is_not_foreground(seed: int) -> None:
    left, bridge, right = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    order = torch.randperm(42, generator=torch.Generator().manual_seed(seed))
    which = torch.tensor([0] * 18 + [1] * 6 + [2] * 18)[order]
    features = torch.stack([left, bridge, right])[which][None, None]
    assert torch.equal(token_cut(features, threshold=0.5)[0, 0], which == which[which != 1][0])


@pytest.mark.parametrize("sizes", [(13, 14, 15), (12, 13, 14, 15), (10, 12, 20)], ids=str)
def test_eigenvalues_that_are_merely_close_are_told_apart(sizes: tuple[int, ...]) -> None:
    features = kinds(*sizes)
    expected, margin = scipys_foreground(features[0], 0.4, 1e-5)
    assert 1e-9 < margin < 1e-4
    assert token_cut(features)[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("features", "threshold"),
    [
        (torch.ones(2, 4, 5, 3), 0.2),
        (torch.zeros(2, 4, 5, 3), 0.2),
        (torch.eye(20).view(1, 4, 5, 20), 0.2),
        (torch.rand(2, 4, 5, 3), 1.1),
        (torch.rand(2, 4, 5, 3), -1.1),
        (torch.full((2, 4, 5, 3), torch.nan), 0.2),
        (torch.rand(2, 1, 1, 3), 0.2),
    ],
    ids=["constant", "zero", "all different", "threshold above", "threshold below", "nan", "one token"],
)
def test_tokens_that_are_all_alike_select_nothing(features: Tensor, threshold: float) -> None:
    assert not token_cut(features, threshold=threshold).any()


def test_no_image_has_no_mask() -> None:
    assert token_cut(torch.zeros(0, 4, 5, 3)).shape == (0, 4, 5)


def test_no_gradient_flows() -> None:
    features = two_kinds(6, 7, slice(2, 4), slice(1, 5)).requires_grad_()
    assert not token_cut(features).requires_grad


def test_impossible_arguments_are_refused(refuses_line: Any) -> None:
    with refuses_line("features", "(B, h, w, D)", "(4, 5, 3)"):
        token_cut(torch.rand(4, 5, 3))
    for epsilon in (0.0, 1.0, -1e-5):
        with refuses_line("epsilon", epsilon):
            token_cut(torch.rand(1, 4, 5, 3), epsilon=epsilon)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reg_tokens": 4, "img_size": (24, 40)},
        {"qk_norm": True},
        {"depth": 1, "pre_norm": True},
        {"qkv_bias": False},
    ],
    ids=str,
)
@torch.inference_mode()
def test_keys_are_those_that_timm_computes_in_the_last_block(changes: dict[str, Any], make_vit: Any) -> None:
    vit = make_vit(**changes)
    seen: list[Tensor] = []
    attention = vit.blocks[-1].attn
    # the keys that scores are made of: without a norm of the keys, these are the middle third of qkv
    attention.k_norm.register_forward_hook(lambda _layer, _inputs, keys: seen.append(keys))
    attention.qkv.register_forward_hook(lambda _layer, _inputs, qkv: seen.append(qkv))
    images = torch.randn(2, 3, *vit.patch_embed.img_size)
    vit(images)
    qkv, heads_BHNd = seen
    expected = heads_BHNd.transpose(1, 2).flatten(2)[:, vit.num_prefix_tokens :]
    if not changes.get("qk_norm"):
        torch.testing.assert_close(qkv[:, vit.num_prefix_tokens :, 24:48], expected, rtol=0, atol=0)
    backbone = Backbone(vit)
    keys = backbone.keys(images)
    assert keys.shape == (2, *backbone.grid(vit.patch_embed.img_size), 24)
    torch.testing.assert_close(keys.flatten(1, 2), expected, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_keys_leave_the_rest_of_the_last_block_alone(make_vit: Any) -> None:
    backbone = Backbone(make_vit())
    images = torch.randn(2, 3, 32, 32)
    expected = backbone.keys(images)
    last = backbone.vit.blocks[-1]
    for layer in (last.mlp.fc1, last.attn.proj, backbone.vit.norm):
        layer.register_forward_hook(lambda *_: pytest.fail("more work than needed"))
    assert torch.equal(backbone.keys(images), expected)
