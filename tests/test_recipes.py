"""Recipes beside the numbers of the paper, which are written here a second time."""

from typing import Any

import pytest

from ifam.cli import parser
from ifam.commands.settings import training_config
from ifam.config import MethodName, TrainingConfig, override
from ifam.errors import UsageError
from ifam.recipes import DEFAULT, DEFAULT_WITHOUT_DATA, RECIPES, recipe
from ifam.training.registry import METHODS

# image size (appendix B), K (tables 1 and 2), epochs, batch, augmentation, weight of the background loss, EMA
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "waterbirds": (518, 8, 90, 16, "birds", 2.0, None),
    "cub": (518, 16, 90, 16, "birds", 2.0, None),
    "metashift": (224, 4, 90, 16, "birds", 2.0, None),
    "siim_acr": (518, 8, 90, 16, "xray", 0.0, None),
    "imagenet": (224, 1, 120, 32, "imagenet", 2.0, 0.9999),
}
# PDiscoFormer's defaults, which the paper takes over
OTHER_LOSSES = {
    "stage2": 1, "stage1": 1, "orthogonality": 1, "equivariance": 1, "foreground_presence": 1, "total_variation": 1,
    "entropy": 1, "concentration": 0, "object_presence": 0, "background_invariance": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_number_is_the_papers(name: str) -> None:
    config = recipe(name, "ifam")
    model, optimizer, losses = config.model, config.optimizer, vars(config.losses)
    found = (
        model.image_size,
        model.num_parts,
        optimizer.epochs,
        optimizer.batch_size * optimizer.accumulate,
        config.augmentation,
        losses["background_presence"],
        config.ema,
    )
    assert found == PUBLISHED[name]
    assert {term: weight for term, weight in losses.items() if term != "background_presence"} == OTHER_LOSSES
    assert (optimizer.lr_tokens, optimizer.lr_stage2) == pytest.approx((1e-6, 1e-6))
    assert (optimizer.lr_prototypes, optimizer.lr_heads) == pytest.approx((1e-3, 1e-2))
    assert (optimizer.weight_decay, optimizer.gradient_clip) == pytest.approx((0.05, 2.0))
    assert (model.part_dropout, model.stage2_part_dropout) == (0.3, 0.3)
    assert (optimizer.cosine, optimizer.stage1_epochs, optimizer.freeze_stage1) == ("epoch", 0, False)
    assert (model.prototype_init, model.temperature, model.soft_masks, model.pretrained) == ("random", 1, False, True)
    x_rays = name == "siim_acr"
    assert model.backbone == ("hf:microsoft/rad-dino" if x_rays else "vit_base_patch14_reg4_dinov2.lvd142m")
    assert config.precision == ("auto" if name == "imagenet" else "32-true")
    assert (model.evidence, config.borrowed_backgrounds, config.class_balanced) == ("patches", "none", False)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", ["ifam", "pdiscoformer", "erm"])
def test_method_and_epochs_are_as_asked(name: str, method: MethodName) -> None:
    config = recipe(name, method, 3)
    assert (config.method, config.optimizer.epochs) == (method, 3)


@pytest.mark.parametrize("name", RECIPES)
def test_parts_are_as_asked(name: str) -> None:
    assert recipe(name, "ifam", num_parts=5).model.num_parts == 5
    own = recipe(name, "ifam").model.num_parts
    assert recipe(name, "ifam", num_parts=own) == recipe(name, "ifam")
    if name not in ("staged", "scenes"):  # published settings are the same for every K
        assert recipe(name, "ifam", num_parts=5) == override(recipe(name, "ifam"), {"model.num_parts": 5})


@pytest.mark.parametrize("name", ["staged", "scenes"])
@pytest.mark.parametrize("method", ["ifam", "pdiscoformer"])
def test_several_parts_begin_on_the_object(name: str, method: MethodName) -> None:
    """With the settings of docs/results.md, "More parts than one"."""
    one, several = recipe(name, method), recipe(name, method, num_parts=4)
    settings = {"model.centre_lean": 24.0, "optimizer.lr_prototypes": 3e-3, "losses.concentration": 100.0}
    assert several == override(one, {"model.num_parts": 4, **settings})
    assert (one.optimizer.lr_prototypes, one.losses.concentration) == (3e-3 if name == "staged" else 1e-3, 0)
    assert recipe(name, method, num_parts=1) == one


@pytest.mark.parametrize("method", METHODS)
def test_by_default_only_the_object_decides(method: MethodName) -> None:
    """In the method with two stages; others are what their names say."""
    found = recipe("staged", method)
    expected = ("pixels", "stage2") if method == "ifam" else ("patches", "none")
    assert (found.model.evidence, found.borrowed_backgrounds) == expected
    assert (found.model.prototype_init, found.losses.object_presence) == ("object", 1)


def test_the_command_gives_several_parts_the_same_settings_and_yields_to_the_user() -> None:
    def parsed(*more: str) -> TrainingConfig:
        return training_config(parser().parse_args(["train", "data", "--out", "run", *more]))

    expected = recipe("staged", "ifam", num_parts=4)
    assert parsed("--num-parts", "4") == parsed("--set", "model.num_parts=4") == expected
    assert parsed("--num-parts", "4", "--method", "pdiscoformer") == recipe("staged", "pdiscoformer", num_parts=4)
    changed = parsed("--num-parts", "4", "--set", "losses.concentration=0", "--set", "optimizer.lr_prototypes=1e-3")
    assert (changed.losses.concentration, changed.optimizer.lr_prototypes) == (0, 1e-3)
    assert changed.model.centre_lean == 24
    with pytest.raises(UsageError, match=r"--num-parts.*expected at least 1, got 0"):
        parsed("--num-parts", "0")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_command_takes_a_recipe_by_name_and_changes_of_it(name: str) -> None:
    def parsed(*more: str) -> TrainingConfig:
        return training_config(parser().parse_args(["train", "data", "--out", "run", "--recipe", name, *more]))

    assert parsed() == recipe(name, "ifam")
    changed = parsed("--num-parts", "5", "--epochs", "7")
    assert (changed.model.num_parts, changed.optimizer.epochs) == (5, 7)
    assert changed.model.image_size == recipe(name, "ifam").model.image_size


def test_what_stands_without_a_name() -> None:
    assert (DEFAULT, DEFAULT_WITHOUT_DATA) == ("staged", "scenes")
    assert training_config(parser().parse_args(["train", "--out", "run"])) == recipe("scenes", "ifam")
    options = parser().parse_args(["train", "data", "--out", "run"])
    assert training_config(options) == recipe("staged", "ifam")


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"paper.*imagenet.*'magic'"):
        recipe("magic", "ifam")
