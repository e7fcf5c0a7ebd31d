import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from ifam.errors import UsageError
from ifam.model import parts as part_maths
from ifam.model.two_stage import IFAM
from ifam.output import Output, PartDiscovery, Selection

K, C = 3, 4


def draw_images(size: tuple[int, int] = (32, 32), batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, *size)


def same_bits(one: Output, other: Output) -> bool:
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Output))


def discovery_of(part_logits: Tensor) -> PartDiscovery:
    """What `IFAM.select` reads of a discovery."""
    nothing = torch.empty(0)
    return PartDiscovery(
        part_logits=part_logits,
        part_maps=part_logits.softmax(1),
        part_features=nothing,
        stage1_part_logits=nothing,
        stage1_logits=nothing,
    )


@pytest.fixture
def without_gumbel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_maths, "gumbel_like", torch.zeros_like)


# what comes out


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (33, 30), (8, 64)], ids=str)
@torch.inference_mode()
def test_shapes_and_types_at_any_image_size(size: tuple[int, int], make_model: Any) -> None:
    out = make_model()(draw_images(size, batch=2))
    h, w = -(-size[0] // 8), -(-size[1] // 8)
    shapes = {
        "logits": (2, C),
        "stage1_logits": (2, C),
        "stage1_part_logits": (2, C, K),
        "part_logits": (2, K + 1, h, w),
        "part_maps": (2, K + 1, h, w),
        "part_features": (2, 24, K + 1),
        "parts": (2, h, w),
        "mask": (2, h, w),
        "kept": (2,),
        "pixels": (2, *size),
    }
    assert {field.name: tuple(getattr(out, field.name).shape) for field in fields(out)} == shapes
    types = {"parts": torch.int64, "mask": torch.bool, "pixels": torch.bool}
    assert {name: getattr(out, name).dtype for name in types} == types
    assert all(getattr(out, name).dtype == torch.float32 for name in shapes if name not in types)


@torch.inference_mode()
def test_outputs_agree_with_one_another(make_model: Any) -> None:
    model, images = make_model(), draw_images()
    out = model(images)
    torch.testing.assert_close(out.part_maps.sum(1), torch.ones(4, 4, 4))
    torch.testing.assert_close(out.part_maps, out.part_logits.softmax(1))
    assert torch.equal(out.parts, out.part_maps.argmax(1))
    assert torch.equal(out.mask, out.parts < K)
    assert 0 < out.mask.float().mean() < 1
    torch.testing.assert_close(out.kept, out.mask.float().mean((1, 2)))
    torch.testing.assert_close(out.stage1_logits, out.stage1_part_logits.mean(-1))
    tokens = model.stage1(images)[:, 1:].unflatten(1, (4, 4))
    distances = torch.cdist(tokens.double().flatten(1, 2), model.prototypes.double()).square()
    torch.testing.assert_close(
        out.part_logits.flatten(2).mT.double(), -distances, rtol=0, atol=1e-5 * float(distances.max())
    )


@torch.inference_mode()
def test_background_is_never_classified(make_model: Any) -> None:
    model, images = make_model(), draw_images()
    features = model(images).part_features
    expected = torch.einsum("bdk,cd->bck", features[..., :K], model.part_classifier.weight)
    torch.testing.assert_close(model(images).stage1_part_logits, expected)


# same input, same output


@torch.inference_mode()
def test_eval_mode_is_deterministic_and_draws_nothing(make_model: Any) -> None:
    model, images = make_model(), draw_images()
    state = torch.get_rng_state()
    assert same_bits(model(images), model(images))
    assert torch.equal(torch.get_rng_state(), state)


@torch.inference_mode()
def test_alone_and_in_a_batch_agree(make_model: Any) -> None:
    model, images = make_model(), draw_images(batch=6)
    out = model(images)
    assert len(set(out.kept.tolist())) > 1
    for i in range(6):
        alone = model(images[i : i + 1], mask=out.mask[i : i + 1])
        for name in ("logits", "stage1_logits", "part_maps"):
            torch.testing.assert_close(getattr(alone, name), getattr(out, name)[i : i + 1], rtol=0, atol=1e-5)


def test_training_noise_comes_from_torchs_generator_alone(make_model: Any) -> None:
    model, images = make_model().train(), draw_images()
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(model(images))
    assert same_bits(outs[0], outs[1])
    assert not torch.equal(outs[0].part_maps, outs[2].part_maps)
    assert torch.equal(outs[0].part_logits, outs[2].part_logits), "the distances themselves carry no noise"


def transposed_weights(model: IFAM, grid: tuple[int, int]) -> dict[str, Tensor]:
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("patch_embed.proj.weight"):
            value = value.mT
        if name.endswith("pos_embed"):
            first, patches = value.split([1, grid[0] * grid[1]], dim=1)
            value = torch.cat([first, patches.unflatten(1, grid).transpose(1, 2).flatten(1, 2)], dim=1)
        state[name] = value
    return state


@torch.inference_mode()
def test_transposed_images_have_transposed_maps(make_model: Any) -> None:
    model, turned = make_model({"img_size": (24, 40)}), make_model({"img_size": (40, 24)})
    turned.load_state_dict(transposed_weights(model, (3, 5)))
    images = draw_images((24, 40))
    out, turned_out = model(images), turned(images.mT)
    torch.testing.assert_close(turned_out.part_maps.mT, out.part_maps)
    assert torch.equal(turned_out.mask.mT, out.mask)
    torch.testing.assert_close(turned_out.logits, out.logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_half_precision_images(dtype: torch.dtype, make_model: Any) -> None:
    model, images = make_model(), draw_images().to(dtype)
    assert same_bits(model(images), model(images.float()))


@torch.inference_mode()
def test_a_bfloat16_model_measures_distances_in_float32(make_model: Any) -> None:
    out = make_model().bfloat16()(draw_images())
    assert out.logits.dtype == torch.bfloat16
    assert out.part_logits.dtype == out.part_maps.dtype == torch.float32


@pytest.mark.parametrize("training", [False, True])
def test_under_autocast_on_a_cpu_stage2_answers_in_float32(training: bool, make_model: Any) -> None:
    model, images = make_model().train(training), draw_images()
    mask = torch.rand(len(images), 4, 4) < 0.5
    wide = [model.classify(images, mask), model.classify_each(images, mask[:, None])]
    with torch.autocast("cpu", torch.bfloat16):
        narrow = [model.classify(images, mask), model.classify_each(images, mask[:, None])]
    assert [torch.equal(a, b) for a, b in zip(wide, narrow, strict=True)] == [not training] * 2


@pytest.mark.parametrize("training", [False, True])
def test_under_autocast_on_a_cpu_patches_are_embedded_in_float32(training: bool, make_model: Any) -> None:
    model, images = make_model().train(training), draw_images()
    wide = model.stage1.embed(images)[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.stage1.embed(images)[1], wide) is not training
        lowered = model.stage1(images)
    assert not torch.equal(lowered, model.stage1(images))  # the blocks are not


@pytest.mark.parametrize("selected", [False, True])
@torch.inference_mode()
def test_empty_and_full_masks(selected: bool, make_model: Any) -> None:
    out = make_model()(draw_images(), mask=torch.full((4, 4, 4), selected))
    assert out.logits.isfinite().all()
    assert out.kept.tolist() == [float(selected)] * 4


@torch.inference_mode()
def test_a_full_mask_is_the_plain_transformer(make_model: Any) -> None:
    model, images = make_model(), draw_images()
    everything = torch.ones(4, 4, 4, dtype=torch.bool)
    torch.testing.assert_close(model.classify(images, everything), model.stage2(images), rtol=0, atol=1e-5)


# interventions


def test_removals_and_the_mask_that_replaces_them(make_model: Any) -> None:
    model = make_model()
    model.token_thresholds = {0.9: [5.0, 5.0, 5.0]}
    distances = torch.full((1, K + 1, 1, 5), 9.0)
    for token, (part, distance) in enumerate([(0, 1.0), (0, 6.0), (1, 1.0), (2, 6.0), (3, 8.0)]):
        distances[0, part, 0, token] = distance
    distances[0, 0, 0, 2] = 2.0  # the second-best part of token 2 is 0
    found = discovery_of(-distances)

    def parts(**options: Any) -> list[int]:
        selection: Selection = model.select(found, **options)
        assert torch.equal(selection.weights, selection.mask.float())
        result: list[int] = selection.parts.flatten().tolist()
        return result

    assert parts() == [0, 0, 1, 2, 3]
    assert parts(token_quantile=0.9) == [0, 3, 1, 3, 3]
    assert parts(remove_parts=[1]) == [0, 0, 3, 2, 3]
    assert parts(remove_parts=[1], token_quantile=0.9) == [0, 3, 3, 3, 3]
    assert parts(remove_parts=range(K)) == [3, 3, 3, 3, 3]
    mask = torch.tensor([[[False, True, True, True, True]]])
    assert parts(mask=mask) == [3, 0, 1, 2, 3]
    replaced = model.select(found, mask=mask, remove_parts=[1], token_quantile=0.9)
    assert torch.equal(replaced.mask, mask)
    assert replaced.parts.flatten().tolist() == [3, 3, 3, 3, 3]


@pytest.mark.parametrize("second_stage", [True, False])
@torch.inference_mode()
def test_a_given_mask_replaces_removals(second_stage: bool, make_model: Any) -> None:
    model, images, mask = make_model(second_stage=second_stage), draw_images(), torch.rand(4, 4, 4) < 0.5
    model.token_thresholds = {0.9: [1.0] * K}
    given = model(images, mask=mask)
    assert torch.equal(given.mask, mask)
    for removal in ({"remove_parts": [0]}, {"token_quantile": 0.9}):
        assert torch.equal(model(images, mask=mask, **removal).logits, given.logits)
        assert not torch.equal(model(images, **removal).logits, given.logits)


@pytest.mark.parametrize("mask_gradient", ["exact", "cut"])
@torch.inference_mode()
def test_stage2_answers_to_the_mask_that_comes_out(mask_gradient: str, make_model: Any) -> None:
    model, images = make_model(mask_gradient=mask_gradient), draw_images()
    model.token_thresholds = {0.5: [20.0] * K}
    plain = model(images)
    for options in ({"remove_parts": [0]}, {"token_quantile": 0.5}, {"mask": torch.rand(4, 4, 4) < 0.5}):
        out = model(images, **options)
        assert not torch.equal(out.mask, plain.mask)
        assert torch.equal(out.logits, model.classify(images, out.mask))
        assert torch.equal(out.stage1_logits, plain.stage1_logits)
        assert (out.parts[~out.mask] == K).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token_quantile": 0.9}, ["token_quantile", "stored: 0.95, 0.99", "0.9"]),
        ({"remove_parts": [K]}, ["remove_parts", "0 to 2", "got 3"]),
        ({"remove_parts": [-1]}, ["remove_parts", "got -1"]),
        ({"mask": torch.ones(4, 4, 4)}, ["mask", "bool", "float32"]),
        ({"mask": torch.ones(4, 4, 5, dtype=torch.bool)}, ["mask", "(4, 4, 4)", "(4, 4, 5)"]),
    ],
    ids=str,
)
def test_bad_interventions(options: dict[str, Any], said: list[str], make_model: Any, refuses_line: Any) -> None:
    model = make_model()
    model.token_thresholds = {0.99: [1.0] * K, 0.95: [1.0] * K}
    with refuses_line(*said):
        model(draw_images(), **options)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(3, 32, 32), "(3, 32, 32)"),
        (torch.zeros(4, 1, 32, 32), "(4, 1, 32, 32)"),
    ],
    ids=["integers", "one image", "one channel"],
)
def test_bad_images(images: Tensor, said: str, make_model: Any, refuses_line: Any) -> None:
    model = make_model()
    for call in (model, lambda x: model.classify(x, torch.ones(4, 4, 4, dtype=torch.bool))):
        with refuses_line("images: expected", said):
            call(images)


def test_uncalibrated_models_say_so(make_model: Any, refuses_line: Any) -> None:
    with refuses_line("stored: none", "calibrate"):
        make_model()(draw_images(), token_quantile=0.99)


# training


@pytest.mark.usefixtures("without_gumbel")
def test_stage2_part_dropout_removes_whole_parts_without_rescaling(make_model: Any) -> None:
    model = make_model(stage2_part_dropout=0.6).train()
    found = discovery_of(torch.randn(500, K + 1, 4, 4))
    winners, out = found.part_logits.argmax(1), model.select(found)
    lost = 0
    for part in range(K):
        tokens = winners == part
        present = tokens.flatten(1).any(1)
        kept = (out.parts == part).flatten(1).sum(1)
        assert ((kept == 0) | (kept == tokens.flatten(1).sum(1))).all()
        lost += int((present & (kept == 0)).sum())
    assert lost / (500 * K) == pytest.approx(0.6, abs=0.06)
    assert torch.equal(out.mask, out.parts < K)
    assert torch.equal(out.weights, out.mask.float())
    assert ((out.parts == winners) | (out.parts == K)).all(), "no token falls to another part"


@pytest.mark.usefixtures("without_gumbel")
def test_stage1_part_dropout_rescales_the_survivors(make_model: Any) -> None:
    model, images = make_model(part_dropout=0.3), draw_images(batch=200)
    whole, dropped = model.discover(images), model.train().discover(images)
    share = dropped.stage1_part_logits / whole.stage1_part_logits
    kept = share[:, 0] > 0.5  # (B, K)
    expected = torch.where(kept, 1 / 0.7, 0.0)[:, None].expand_as(share)
    torch.testing.assert_close(share, expected, rtol=1e-4, atol=1e-4)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.08)
    torch.testing.assert_close(dropped.stage1_logits, dropped.stage1_part_logits.sum(-1) / K)
    torch.testing.assert_close(dropped.part_features, whole.part_features)


def test_mask_and_maps_have_noise_of_their_own(make_model: Any) -> None:
    model = make_model(stage2_part_dropout=0).train()
    found = model.discover(draw_images(batch=50))
    parts = model.select(found).parts
    assert (parts == found.part_maps.argmax(1)).float().mean() < 1
    assert not torch.equal(parts, model.select(found).parts)


@pytest.mark.usefixtures("without_gumbel")
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mask_gradient_is_that_of_the_surviving_foreground(
    temperature: float, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    survives = torch.tensor([[True, False, True]])
    monkeypatch.setattr(part_maths, "drop_parts", lambda *arguments: survives)
    model = make_model(temperature=temperature).train()
    logits = torch.randn(1, K + 1, 4, 4, requires_grad=True)
    selection, weights = model.select(discovery_of(logits)), torch.randn(1, 4, 4)
    (actual,) = torch.autograd.grad((selection.weights * weights).sum(), logits)
    probabilities = (logits / temperature).softmax(1)
    (expected,) = torch.autograd.grad(((probabilities[:, 0] + probabilities[:, 2]) * weights).sum(), logits)
    torch.testing.assert_close(actual, expected)


def stage2_gradients(model: IFAM, images: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of prototypes and of stage 1's position embedding, from the stage-2 loss alone."""
    model.zero_grad()
    model(images).logits.square().sum().backward()
    return model.prototypes.grad, model.stage1.vit.pos_embed.grad


def test_stage2_loss_reaches_stage1_only_through_an_exact_mask(make_model: Any) -> None:
    images = draw_images()
    for gradient in stage2_gradients(make_model(mask_gradient="exact").train(), images):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    assert stage2_gradients(make_model(mask_gradient="cut").train(), images) == (None, None)


def test_soft_masks_have_a_gradient_unless_it_is_cut(make_model: Any) -> None:
    images = draw_images()
    for gradient in stage2_gradients(make_model(soft_masks=True, mask_gradient="exact").train(), images):
        assert gradient is not None
        assert gradient.abs().max() > 0
    assert stage2_gradients(make_model(soft_masks=True, mask_gradient="cut").train(), images) == (None, None)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_exact_and_cut_masks_give_stage2_the_same_gradient(share: float, make_model: Any) -> None:
    model, images = make_model().train(), draw_images()
    mask = torch.rand(4, 4, 4) < share
    selection = Selection(parts=mask.long(), mask=mask, weights=mask.float())
    gradients = []
    for model.mask_gradient in ("exact", "cut"):
        loss = model.second_stage(images, selection).square().sum()
        gradients.append(torch.autograd.grad(loss, [*model.stage2.parameters()]))
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    for exact, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(exact, cut, rtol=0, atol=1e-5 * scale)


# soft masks


@torch.inference_mode()
def test_soft_masks_are_the_largest_foreground_probability(make_model: Any) -> None:
    model, images = make_model(soft_masks=True), draw_images()
    selection = model.select(model.discover(images))
    assert selection.soft
    torch.testing.assert_close(selection.weights, model(images).part_maps[:, :K].amax(1))
    removed = model.select(model.discover(images), remove_parts=[0])
    assert (removed.weights[selection.parts == 0] == 0).all()
    left = model(images).part_maps[:, 1:K].amax(1)
    torch.testing.assert_close(removed.weights[selection.parts != 0], left[selection.parts != 0])


@pytest.mark.usefixtures("without_gumbel")
def test_soft_masks_have_nothing_of_a_dropped_part(make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    survives = torch.tensor([[True, False, True]])
    monkeypatch.setattr(part_maths, "drop_parts", lambda *arguments: survives)
    model, logits = make_model(soft_masks=True).train(), torch.randn(1, K + 1, 4, 4)
    selection, maps = model.select(discovery_of(logits)), logits.softmax(1)
    dropped = logits.argmax(1) == 1
    assert 0 < dropped.sum() < 16
    torch.testing.assert_close(selection.weights, maps[:, [0, 2]].amax(1).masked_fill(dropped, 0))


@torch.inference_mode()
def test_soft_masks_without_any_part_see_nothing(make_model: Any) -> None:
    model, images = make_model(soft_masks=True), draw_images()
    assert (model.select(model.discover(images), remove_parts=range(K)).weights == 0).all()


@torch.inference_mode()
def test_a_given_mask_is_hard_even_with_soft_masks(make_model: Any) -> None:
    model, images, mask = make_model(soft_masks=True), draw_images(), torch.rand(4, 4, 4) < 0.5
    assert torch.equal(model(images, mask=mask).logits, model.classify(images, mask))


# construction


@torch.inference_mode()
def test_without_a_second_stage_stage1_predicts(make_model: Any, refuses_line: Any) -> None:
    model, images = make_model(second_stage=False), draw_images()
    out = model(images)
    assert torch.equal(out.logits, out.stage1_logits)
    assert not any(name.startswith("stage2") for name in model.state_dict())
    with refuses_line("second stage", "stage1_logits"):
        model.classify(images, out.mask)


def test_each_stage_has_its_own_copy_of_the_backbone(make_vit: Any) -> None:
    vit = make_vit(num_classes=7)
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    model = IFAM(vit, num_parts=2, num_classes=2, image_size=48)
    assert model.stage2 is not None
    stages = [model.stage1.vit, model.stage2.backbone.vit]
    for name, value in stages[0].state_dict().items():
        assert torch.equal(value, stages[1].state_dict()[name]), "the same initialisation"
    pointers = [{p.data_ptr() for p in module.parameters()} for module in (*stages, vit)]
    assert not pointers[0] & pointers[1]
    assert not (pointers[0] | pointers[1]) & pointers[2]
    assert {name: value.shape for name, value in vit.state_dict().items()} == {n: v.shape for n, v in before.items()}
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    assert model.preprocessing.image_size == stages[0].patch_embed.img_size == (48, 48)


def test_new_layers_start_as_the_method_says(make_vit: Any) -> None:
    model = IFAM(make_vit(embed_dim=96), num_parts=200, num_classes=50)
    bound = 96**-0.5
    assert model.prototypes.shape == (201, 96)
    assert model.prototypes.abs().max() <= bound
    assert model.prototypes.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert model.modulation.normalized_shape == (96, 201)
    assert model.modulation.eps == 1e-5
    assert (model.modulation.weight == 1).all()
    assert (model.modulation.bias == 0).all()
    assert model.stage2 is not None
    for head in (model.part_classifier, model.stage2.head):
        assert head.bias is None
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.stage2.norm.eps == 1e-5


def test_defaults_are_the_papers(make_vit: Any) -> None:
    model = IFAM(make_vit())
    assert (model.num_parts, model.num_classes, model.temperature) == (8, 200, 1.0)
    assert (model.part_dropout, model.stage2_part_dropout, model.soft_masks) == (0.3, 0.3, False)
    assert model.class_names == [str(i) for i in range(200)]
    assert model.preprocessing.image_size == (32, 32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_parts": 0}, ["num_parts", "at least 1", "got 0"]),
        ({"num_parts": 2.5}, ["num_parts", "whole number", "got 2.5"]),
        ({"num_classes": 1}, ["num_classes", "at least 2", "got 1"]),
        ({"image_size": 0}, ["image_size", "got 0"]),
        ({"image_size": (32, 32, 3)}, ["image_size", "(height, width)", "(32, 32, 3)"]),
        ({"image_size": "224"}, ["image_size", "'224'"]),
        ({"image_size": 224.0}, ["image_size", "224.0"]),
        ({"temperature": 0.0}, ["temperature", "positive", "0.0"]),
        ({"temperature": float("nan")}, ["temperature", "nan"]),
        ({"part_dropout": 1.0}, ["part_dropout", "1.0"]),
        ({"stage2_part_dropout": -0.1}, ["stage2_part_dropout", "-0.1"]),
        ({"mask_gradient": "some"}, ["mask_gradient", "exact, bounded or cut", "'some'"]),
        ({"class_names": ["a", "b"]}, ["class_names", "4 names", "got 2"]),
    ],
    ids=str,
)
def test_impossible_arguments(options: dict[str, Any], said: list[str], make_model: Any, refuses_line: Any) -> None:
    with refuses_line(*said):
        make_model(**options)


def test_unfit_backbones(make_vit: Any, refuses_line: Any) -> None:
    cases: dict[str, tuple[Callable[[], object], list[str]]] = {
        "misspelt": (lambda: "vit_tiny_patch16_242", ["vit_tiny_patch16_242", "vit_tiny_patch16_224"]),
        "hopeless": (lambda: "?", ["'?'", "vit_"]),
        "without a class token": (lambda: make_vit(class_token=False, global_pool="avg"), ["class token"]),
        "resnet": (lambda: timm.create_model("resnet10t", pretrained=False), ["ResNet", "vit_"]),
        "resnet by name": (lambda: "resnet10t", ["ResNet"]),
        "number": (lambda: 3, ["backbone", "'3'"]),
    }
    for backbone, said in cases.values():
        with refuses_line(*said):
            IFAM(backbone(), 2, 2, pretrained=False)  # type: ignore[arg-type]


@torch.inference_mode()
def test_resizing_keeps_what_the_model_computes_at_that_size(make_model: Any) -> None:
    model, images = make_model(), draw_images((48, 24))
    before = model(images)
    resized = copy.deepcopy(model)
    resized.set_image_size((48, 24))
    assert resized.preprocessing == replace(model.preprocessing, image_size=(48, 24))
    assert resized.backbone.image_size == (48, 24)
    torch.testing.assert_close(resized(images).logits, before.logits)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": [[1.0]]}, "expected a tensor"),
        ({"images": torch.zeros(0, 3, 32, 32)}, "at least one image"),
        ({"images": torch.zeros(1, 3, 0, 32)}, "at least one image"),
        ({"remove_parts": 1}, "expected a list"),
        ({"remove_parts": [True]}, "got True"),
        ({"remove_parts": "0"}, "got '0'"),
        ({"token_quantile": [0.9]}, r"got \[0.9\]"),
        ({"token_quantile": "0.9"}, "got '0.9'"),
        ({"mask": [[True]]}, "expected a bool tensor"),
    ],
)
def test_arguments_of_another_kind(make_model: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_model()(**({"images": torch.zeros(1, 3, 32, 32)} | arguments))


def test_parts_may_come_as_arrays(make_model: Any) -> None:
    model, images = make_model(), torch.randn(2, 3, 32, 32)
    expected = model(images, remove_parts=[0, 2]).logits
    for parts in ((0, 2), torch.tensor([0, 2]), np.array([0, 2])):
        assert torch.equal(model(images, remove_parts=parts).logits, expected)


def test_masks_of_training_without_noise_are_those_of_test(make_model: Any) -> None:
    images = draw_images()
    moved = []
    for noise in (0, 1, 100):
        model = make_model(mask_noise=noise, stage2_part_dropout=0)
        expected = model(images).parts
        discovery = model.train().discover(images)
        moved.append((model.select(discovery).parts != expected).float().mean())
    assert moved[0] == 0 < moved[1] < moved[2]


def test_a_dropped_part_leaves_its_tokens_or_hands_them_on(make_model: Any) -> None:
    """With every part dropped but one, reassigned tokens go to it where it beats the background."""
    images = draw_images()
    for semantics in ("removed", "reassigned"):
        model = make_model(mask_noise=0.0, dropped_parts=semantics, stage2_part_dropout=0.6).train()
        discovery = model.discover(images)
        plain = discovery.part_logits.argmax(1)
        torch.manual_seed(3)
        parts = model.select(discovery).parts
        torch.manual_seed(3)
        survives = torch.rand(len(images), 3) >= 0.6
        for image in range(len(images)):
            gone = [part for part in range(3) if not survives[image, part]]
            if semantics == "removed":
                expected = torch.where(torch.isin(plain[image], torch.tensor(gone)), 3, plain[image])
            else:
                left = [part for part in range(4) if part not in gone]
                expected = torch.tensor(left)[discovery.part_logits[image, left].argmax(0)]
            assert torch.equal(parts[image], expected), semantics


def test_many_masks_of_each_image_at_once(make_model: Any) -> None:
    model, images = make_model().eval(), draw_images(batch=3)
    masks = (
        torch.rand(3, 5, 4, 4) < torch.tensor([0, 0.2, 0.5, 0.8, 1])[:, None, None]
    )  # the first empty, the last full
    with torch.inference_mode():
        each = model.classify_each(images, masks)
        for m in range(5):
            torch.testing.assert_close(each[:, m], model.classify(images, masks[:, m]), atol=1e-5, rtol=1e-5)
        poisoned = torch.where(masks.any(1).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None], images, torch.nan)
        assert torch.equal(model.classify_each(poisoned, masks), each)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (
            torch.ones(2, 4, 4, dtype=torch.bool),
            "expected bool of shape (2, 1, 4, 4), got torch.bool of shape (2, 4, 4)",
        ),
        (torch.ones(2, 0, 4, 4, dtype=torch.bool), "masks of each image: expected a whole number of at least 1, got 0"),
        ([True], "expected a bool tensor"),
    ],
)
def test_bad_masks_of_each_image(masks: Any, said: str, make_model: Any, refuses_line: Any) -> None:
    with refuses_line(said):
        make_model().classify_each(draw_images(batch=2), masks)
