from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import tiny_config, write_image
from numpy.typing import NDArray
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from ifam.config import MaskGradient, OptimizerConfig, SelectBy
from ifam.data.read import read_table
from ifam.data.table import ImageTable, Sample
from ifam.errors import UsageError
from ifam.model.classifier import PlainClassifier
from ifam.model.parts import lean_to_centre
from ifam.model.two_stage import IFAM
from ifam.training.methods import TwoStage
from ifam.training.optim import make_optimizer
from ifam.training.prepare import (
    checkpoint_activations,
    compile_blocks,
    doubts,
    few_to_choose_by,
    fit_preprocessing,
    initialise_prototypes,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("augmentation", "ratio"), [("imagenet", 224 / 256), ("birds", 1), ("light", 1), ("none", 1)])
def test_imagenet_is_tested_on_the_centre_of_a_larger_view(augmentation: str, ratio: float, scenes: ImageTable) -> None:
    config = tiny_config(augmentation=augmentation)
    model = TwoStage(config).build(scenes.class_names)
    fit_preprocessing(model, scenes, config)
    assert model.preprocessing.crop_ratio == ratio


@pytest.mark.parametrize("init", ["random", "centre"])
def test_prototypes_lean_to_the_centre_of_training_images_where_asked(init: str, scenes: ImageTable) -> None:
    config = tiny_config(model__prototype_init=init, model__centre_lean=6.0)
    model = TwoStage(config).build(scenes.class_names)
    fit_preprocessing(model, scenes, config)
    before = model.prototypes.detach().clone()
    initialise_prototypes(model, scenes, config, CPU)
    assert torch.equal(model.prototypes, before) == (init == "random")
    if init == "centre":
        shift = model.prototypes - before
        torch.testing.assert_close(shift[0], shift[1])  # all foreground parts alike, the background the other way
        assert torch.nn.functional.cosine_similarity(shift[0], shift[-1], dim=0).abs() > 0.999
        twice = replace(config, model=replace(config.model, centre_lean=12.0))
        with torch.no_grad():
            model.prototypes.copy_(before)
        initialise_prototypes(model, scenes, twice, CPU)
        further = model.prototypes - before
        torch.testing.assert_close(further[0] - further[-1], 2 * (shift[0] - shift[-1]))
        train_only = replace(scenes, samples=scenes.select("train").samples)
        with torch.no_grad():
            model.prototypes.copy_(before)
        initialise_prototypes(model, train_only, config, CPU)
        torch.testing.assert_close(model.prototypes - before, shift)
        assert lean_to_centre(before, torch.randn(1, 3, 3, 64)).shape == before.shape


def test_prototypes_lean_to_the_object_where_asked(scenes: ImageTable) -> None:
    config = tiny_config(model__prototype_init="object", model__centre_lean=6.0)
    model = TwoStage(config).build(scenes.class_names)
    fit_preprocessing(model, scenes, config)
    before = model.prototypes.detach().clone()
    initialise_prototypes(model, scenes, config, CPU)
    shift = model.prototypes - before
    torch.testing.assert_close(shift[0], shift[1])  # all foreground parts alike
    assert not torch.allclose(shift[0], shift[-1])
    with torch.no_grad():
        model.prototypes.copy_(before)
    initialise_prototypes(model, scenes, replace(config, model=replace(config.model, prototype_init="centre")), CPU)
    assert not torch.allclose(model.prototypes - before, shift, rtol=0.1)


@pytest.mark.parametrize(
    ("backbone", "found", "expected"),
    [
        ("test_resnet", (50, 71), (50, 71)),
        ("test_resnet", (500, 61), (160, 61)),
        ("test_convnext", (20, 20), (160, 160)),  # too small for its strides
        ("test_vit_relpos", (50, 500), (48, 160)),
        ("mixer_s32_224", (64, 48), (224, 224)),  # takes one size
    ],
)
def test_the_image_size_is_one_that_the_backbone_takes(
    backbone: str, found: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / f"train/{name}/0.png", torch.zeros(*found, 3))
    model = PlainClassifier(backbone, 2, pretrained=False)
    fit_preprocessing(model, read_table(tmp_path), tiny_config(method="erm"))
    assert model.preprocessing.image_size == model.backbone.image_size == expected
    assert model(torch.zeros(2, 3, *expected)).logits.shape == (2, 2)


def test_rates_may_fall_after_every_step() -> None:
    config = OptimizerConfig(epochs=4, stage1_epochs=2, freeze_stage1=True, cosine="step")
    method = TwoStage(replace(tiny_config(), optimizer=config))
    model = method.build(("a", "b"))
    optimizer, schedule = make_optimizer(model, method.groups(model), config, steps_per_epoch=5)
    rates: dict[str, list[float]] = {"prototypes_undecayed": [], "stage2_heads": []}
    for _ in range(20):
        for group in optimizer.param_groups:
            if group["name"] in rates:
                rates[group["name"]].append(group["lr"] / group["initial_lr"])
        optimizer.step()
        schedule.step()
    falling = [0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 10)).item()) for step in range(10)]
    assert rates["prototypes_undecayed"] == pytest.approx(falling + [0.0] * 10, abs=1e-6)
    assert rates["stage2_heads"] == pytest.approx([0.0] * 10 + falling, abs=1e-6)


@pytest.mark.parametrize("gradient", ["exact", "cut"])
def test_checkpointed_activations_give_the_same_gradients_and_keep_less(
    gradient: MaskGradient, scenes: ImageTable
) -> None:
    config = tiny_config(model__mask_gradient=gradient, model__stage2_part_dropout=0.0)
    model = TwoStage(config).build(scenes.class_names).train()
    images, kept = torch.randn(2, 3, 32, 32), []

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            out = model(images)
            (out.logits.square().sum() + out.stage1_logits.square().sum()).backward()
        kept.append(sum(sizes))
        return [torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()]

    before = gradients()
    checkpoint_activations(model)
    torch.testing.assert_close(gradients(), before)
    assert kept[1] < kept[0]


@pytest.mark.filterwarnings("default")  # of the compiler's own
def test_compiled_blocks_give_the_same_answers_and_gradients(scenes: ImageTable) -> None:
    config = tiny_config(model__mask_gradient="exact", model__stage2_part_dropout=0.0)
    model = TwoStage(config).build(scenes.class_names).train()
    images, names = torch.randn(2, 3, 32, 32), list(model.state_dict())

    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        out = model(images)
        (out.logits.square().sum() + out.stage1_logits.square().sum()).backward()
        gradients = [torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()]
        return [out.logits.detach(), out.part_logits.detach(), *gradients]

    before = run()
    compile_blocks(model)
    torch.testing.assert_close(run(), before)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > 0
    assert list(model.state_dict()) == names  # a checkpoint of one loads into the other
    with pytest.raises(UsageError, match="expected a vision transformer"):
        compile_blocks(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_backbone_that_cannot_is_refused() -> None:
    class Unable(torch.nn.Module):
        def set_grad_checkpointing(self) -> None:
            raise AssertionError

    with pytest.raises(UsageError, match="expected a backbone that timm can do it with, got Unable"):
        checkpoint_activations(Unable())  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_parts", "doubted"), [(2, False), (99, True)])
def test_more_parts_than_tokens_are_doubted(num_parts: int, doubted: bool, scenes: ImageTable) -> None:
    config = tiny_config(model__num_parts=num_parts)
    model = TwoStage(config).build(scenes.class_names)
    fit_preprocessing(model, scenes, config)
    assert doubts(model).startswith("warning: 99 parts for ") == doubted
    assert bool(doubts(model)) == doubted


def test_a_group_in_the_warning_does_not_control_the_terminal() -> None:
    samples = (Sample(path=Path("a.png"), name="a.png", label=0, split="val", group=0),)
    table = ImageTable(root=Path(), layout="", class_names=("a", "b"), group_names=("\x1b[31mred",), samples=samples)
    assert "1 validation image of \\x1b[31mred:" in few_to_choose_by(table, "auto")


@pytest.mark.parametrize(
    ("groups", "select_by", "expected"),
    [
        ([None] * 20, "auto", ""),
        ([None] * 19, "auto", "19 validation images: each is worth 5 points"),
        ([None], "accuracy", "1 validation image: each is worth 100 points"),
        ([0] * 20 + [1] * 4, "auto", "4 validation images of rare: each is worth 25 points"),
        ([0] * 20 + [1] * 4, "worst_group_auc", "4 validation images of rare: each is worth 25 points"),
        ([0] * 20 + [1] * 4, "accuracy", ""),
        ([0] * 20, "auto", ""),  # of a group that is not there nothing is known
        ([0] * 3, "last", ""),
        ([], "auto", ""),  # refused elsewhere
    ],
)
def test_a_choice_of_the_epoch_by_few_images_is_warned_of(
    groups: list[int | None], select_by: SelectBy, expected: str
) -> None:
    samples = tuple(
        Sample(path=Path("a.png"), name=f"{index}.png", label=0, split="val", group=group)
        for index, group in enumerate(groups)
    )
    names = () if None in groups else ("common", "rare")
    table = ImageTable(root=Path(), layout="", class_names=("a", "b"), group_names=names, samples=samples)
    assert few_to_choose_by(table, select_by) == (
        f"warning: the best epoch was chosen on {expected}" if expected else ""
    )


def folders(root: Path, size: tuple[int, int], array: NDArray[Any] | None = None) -> ImageTable:
    for label in ("a", "b"):
        for number in range(2):
            path = root / f"train/{label}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((*size, 3), np.uint8) if array is None else array).save(path)
    return read_table(root)


@pytest.mark.parametrize(
    ("size", "patch", "expected"),
    [
        ((32, 32), 14, (112, 112)),
        ((32, 32), 16, (128, 128)),
        ((28, 28), 16, (128, 128)),
        ((8, 8), 14, (112, 112)),
        ((30, 60), 16, (128, 224)),  # both sides by as much, up to the backbone's own
        ((32, 32), 8, (32, 32)),
        ((48, 48), 16, (48, 48)),
        ((40, 40), 14, (42, 42)),
    ],
)
def test_images_of_few_patches_are_enlarged(
    size: tuple[int, int], patch: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    table = folders(tmp_path, size)
    vit = VisionTransformer(img_size=224, patch_size=patch, embed_dim=24, depth=1, num_heads=3)
    model = IFAM(vit, num_parts=2, num_classes=2)
    said = fit_preprocessing(model, table, tiny_config(model__image_size=None))
    assert model.preprocessing.image_size == expected
    assert len(said) == (expected[0] > size[0] + patch)
    if said:
        assert f"{size[1]} × {size[0]} pixels are enlarged to {expected[1]} × {expected[0]}" in said[0]
        assert "--image-size" in said[0]
    assert model(torch.zeros(1, 3, *expected)).parts.shape[1:] == tuple(-(-side // patch) for side in expected)


def test_a_size_that_is_too_small_is_refused_with_one_that_works(tmp_path: Path) -> None:
    table = folders(tmp_path, (32, 32))
    model = IFAM(VisionTransformer(img_size=224, patch_size=14, embed_dim=24, depth=1, num_heads=3), 2, 2)
    with pytest.raises(UsageError, match=r"got 2×2 .* use --image-size 112 \(at least 42\)"):
        fit_preprocessing(model, table, tiny_config(model__image_size=28))
    assert fit_preprocessing(model, table, tiny_config(model__image_size=42)) == []
    alone = tiny_config(model__image_size=28, losses__foreground_presence=0.0, losses__background_presence=0.0)
    assert fit_preprocessing(model, table, alone) == []  # nothing of it needs a border


def test_dark_images_of_16_bits_are_warned_of_before_a_training(tmp_path: Path) -> None:
    table = folders(tmp_path, (48, 48), np.full((48, 48), 4095, np.uint16))
    model = TwoStage(tiny_config()).build(("a", "b"))
    (line,) = fit_preprocessing(model, table, tiny_config())
    assert line.startswith("warning: all 4 images of 16 bits use at most 12 of them")
    folders(tmp_path, (48, 48), np.full((48, 48), 65_535, np.uint16))
    assert fit_preprocessing(model, table, tiny_config()) == []
