"""Every way to make a map, on models small enough for a test."""

import pytest
import torch
from conftest import MakeModel, MakeVit, RefusesLine, randomise
from torch import Tensor

from ifam.benchmarks.faithfulness.explained import Explained, randomised
from ifam.benchmarks.faithfulness.explainers import (
    EXPLAINERS,
    OWN,
    attention_rollout,
    deep_lift_gap,
    guided_backpropagation,
    input_x_gradient,
    integrated_gradients,
    layerwise_relevance,
    occlusion,
    own_map,
    saliency,
)
from ifam.benchmarks.faithfulness.propagation import conservative, relevance, rollout
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.output import Output

pytest.importorskip("captum")
pytest.importorskip("pytorch_grad_cam")

IMAGES = 3


@pytest.fixture
def images() -> Tensor:
    return torch.randn(IMAGES, 3, 32, 32)


@pytest.fixture
def ours(make_model: MakeModel) -> IFAM:
    return make_model(vit={"reg_tokens": 2}).requires_grad_(False)


@pytest.fixture
def plain(make_vit: MakeVit) -> PlainClassifier:
    model = PlainClassifier(make_vit(reg_tokens=1), num_classes=4)
    randomise(model)
    return model.eval().requires_grad_(False)


def targets_of(explained: Explained, images: Tensor) -> Tensor:
    return explained.logits.argmax(1)


def test_what_is_explained_is_the_model(ours: IFAM, plain: PlainClassifier, images: Tensor) -> None:
    for model in (ours, plain):
        explained = Explained(model, images)
        torch.testing.assert_close(explained(images), model(images).logits)
        torch.testing.assert_close(explained(images.repeat(2, 1, 1, 1)), model(images).logits.repeat(2, 1))
    held = Explained(ours, images)
    assert torch.equal(held.seen, ours(images).mask)
    assert 0 < held.seen.sum() < held.seen.numel()


def test_packed_features_come_back_to_their_places(ours: IFAM, images: Tensor) -> None:
    explained = Explained(ours, images)
    features: list[Tensor] = []
    hook = explained.backbone.vit.norm_pre.register_forward_hook(lambda *a: features.append(a[2]))
    explained(images)
    hook.remove()
    _, patches = explained.backbone.embed(images)
    grid = patches.view(IMAGES, 4, 4, -1) * explained.seen[..., None]
    torch.testing.assert_close(explained.on_grid(features[0]).permute(0, 2, 3, 1), grid)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_map_is_finite_repeatable_and_leaves_the_model_alone(
    name: str, ours: IFAM, plain: PlainClassifier, images: Tensor
) -> None:
    for model in (ours, plain) if name != OWN else (ours,):
        before, layers = model(images).logits, [type(module) for module in model.modules()]
        explained = Explained(model, images)
        maps = [EXPLAINERS[name].attribute(explained, images, targets_of(explained, images)) for _ in range(2)]
        assert maps[0].shape == (IMAGES, 4, 4)
        assert bool(maps[0].isfinite().all())
        assert not maps[0].requires_grad
        assert torch.equal(*maps)
        assert torch.equal(before, model(images).logits)
        assert [type(module) for module in model.modules()] == layers


@pytest.mark.parametrize(
    "attribute", [saliency, input_x_gradient, integrated_gradients, guided_backpropagation, layerwise_relevance]
)
def test_what_ifam_does_not_read_gets_nothing(attribute: object, ours: IFAM, images: Tensor) -> None:
    explained = Explained(ours, images)
    assert callable(attribute)
    maps = attribute(explained, images, targets_of(explained, images))
    assert bool((maps[~explained.seen] == 0).all())
    assert bool((maps[explained.seen] != 0).any())


def test_saliency_is_the_gradient(plain: PlainClassifier, images: Tensor) -> None:
    explained, leaf = Explained(plain, images), images.clone().requires_grad_()
    targets = targets_of(explained, images)
    (gradient,) = torch.autograd.grad(plain(leaf).logits.gather(1, targets[:, None]).sum(), leaf)
    patches = gradient.abs().view(IMAGES, 3, 4, 8, 4, 8).sum(1).mean((2, 4))
    torch.testing.assert_close(saliency(explained, images, targets), patches)


def test_integrated_gradients_sum_to_the_difference(ours: IFAM, plain: PlainClassifier, images: Tensor) -> None:
    for model in (ours, plain):
        explained = Explained(model, images)
        targets = targets_of(explained, images)
        found = 64 * integrated_gradients(explained, images, targets, steps=100).sum((1, 2))  # pixels of a patch
        difference = (explained(images) - explained(torch.zeros_like(images))).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(found, difference, atol=2e-3, rtol=1e-2)


def test_occlusion_is_the_fall_of_the_score(plain: PlainClassifier, images: Tensor) -> None:
    explained = Explained(plain, images)
    targets = targets_of(explained, images)
    hidden = images.clone()
    hidden[:, :, 24:, :24] = 0  # the window of 3 × 3 patches below on the left, cut short
    fall = (explained(images) - explained(hidden)).gather(1, targets[:, None])[:, 0]
    found = occlusion(explained, images, targets)
    for row, column in ((3, 0), (3, 2)):
        torch.testing.assert_close(found[:, row, column], 3 * fall)  # summed over channels


def test_guided_backpropagation_is_not_the_gradient_here(plain: PlainClassifier, images: Tensor) -> None:
    """Without the stand-ins captum would find no ReLU and give the gradient."""
    explained = Explained(plain, images)
    targets = targets_of(explained, images)
    guided = guided_backpropagation(explained, images, targets)
    assert not torch.allclose(guided, saliency(explained, images, targets))


def test_deep_lift_does_not_add_up_on_a_transformer(plain: PlainClassifier, images: Tensor) -> None:
    explained = Explained(plain, images)
    assert float(deep_lift_gap(explained, images, targets_of(explained, images)).median()) > 0.05


def test_own_map_has_the_mask_on_top(ours: IFAM, images: Tensor) -> None:
    explained = Explained(ours, images)
    found = own_map(explained, images, targets_of(explained, images))
    for values, seen in zip(found, explained.seen, strict=True):
        assert float(values[seen].min()) > float(values[~seen].max())
        assert float(values.min()) == 0


def test_rollout_by_hand() -> None:
    first = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])
    second = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]])
    # (A + I) / 2: first [[.5, .5], [.25, .75]], second [[.75, .25], [.5, .5]]; row 0 of second @ first
    assert rollout([first, second]).tolist() == pytest.approx([0.4375, 0.5625])


def test_rollout_of_a_model_is_a_distribution_over_what_it_reads(ours: IFAM, images: Tensor) -> None:
    explained = Explained(ours, images)
    found = attention_rollout(explained, images, targets_of(explained, images))
    assert bool((found[~explained.seen] == 0).all())
    assert bool((found[explained.seen] > 0).all())
    assert bool((found.sum((1, 2)) < 1).all())  # the rest is of the prefix


def test_rollout_sees_attention(plain: PlainClassifier, images: Tensor) -> None:
    """With one layer whose queries are 0 every token counts alike."""
    plain.backbone.vit.blocks = plain.backbone.vit.blocks[:1]
    qkv = plain.backbone.vit.blocks[0].attn.qkv
    qkv.weight[:24], qkv.bias[:24] = 0, 0
    found = attention_rollout(Explained(plain, images), images, torch.zeros(IMAGES, dtype=torch.int64))
    torch.testing.assert_close(found, torch.full((IMAGES, 4, 4), 0.5 / 18))


def test_relevance_is_conserved(ours: IFAM, plain: PlainClassifier, images: Tensor) -> None:
    """Without biases, which hold relevance of their own, the relevance of all tokens is the logit."""
    for model in (ours, plain):
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        explained = Explained(model, images)
        targets = targets_of(explained, images)
        tokens = relevance(explained, images.clone().requires_grad_(), targets).sum(-1)[0]
        sums = torch.stack([part.sum() for part in tokens.split(explained.lengths)])
        logits = explained(images).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(sums, logits, atol=1e-4, rtol=1e-4)
        plain_sums = gradient_times_tokens(explained, images, targets)
        assert not torch.allclose(plain_sums, logits, atol=1e-2)  # which the usual gradient does not conserve


def gradient_times_tokens(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    from captum.attr import LayerGradientXActivation

    method = LayerGradientXActivation(explained, explained.backbone.vit.norm_pre)
    tokens = method.attribute(images.clone().requires_grad_(), target=targets).sum(-1)[0]
    return torch.stack([part.sum() for part in tokens.split(explained.lengths)])


def test_conservative_leaves_the_logits_as_they_are(ours: IFAM, images: Tensor) -> None:
    explained = Explained(ours, images)
    before = explained(images)
    with conservative(explained):
        torch.testing.assert_close(explained(images), before)
    assert torch.equal(explained(images), before)


def test_randomised_keeps_values_and_moves_them(plain: PlainClassifier) -> None:
    other = randomised(plain, 0)
    for (name, before), after in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values), name
    weights = [model.backbone.vit.blocks[0].mlp.fc1.weight for model in (plain, other)]
    assert not torch.equal(*weights)


def test_models_without_tokens_to_hold_are_refused(
    make_model: MakeModel, images: Tensor, refuses_line: RefusesLine
) -> None:
    for model in (make_model(soft_masks=True), make_model(second_stage=False)):
        assert isinstance(model(images), Output)
        with refuses_line("faithfulness", "hard masks"):
            Explained(model, images)
    with refuses_line("plain vision transformer"):
        Explained(PlainClassifier("resnet18", num_classes=2, image_size=64, pretrained=False), images)
