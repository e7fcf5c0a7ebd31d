import json
import os
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ifam import config
from ifam.config import LossWeights, ModelConfig, OptimizerConfig, TrainingConfig
from ifam.errors import UsageError

PAPER = {
    "method": "ifam",
    "model": {
        "backbone": "vit_base_patch14_reg4_dinov2.lvd142m",
        "pretrained": True,
        "num_parts": 8,
        "image_size": None,
        "mask_gradient": "cut",
        "soft_masks": False,
        "part_dropout": 0.3,
        "stage2_part_dropout": 0.3,
        "temperature": 1.0,
        "mask_noise": 1.0,
        "dropped_parts": "removed",
        "masks": "annotated",
        "mask_coverage": 0.5,
        "tokencut_features": "tokens",
        "tokencut_threshold": 0.4,
        "centre_lean": None,
        "prototype_init": "random",
        "evidence": "patches",
        "readout": "class_token",
    },
    "losses": {
        "stage2": 1.0,
        "stage1": 1.0,
        "orthogonality": 1.0,
        "equivariance": 1.0,
        "foreground_presence": 1.0,
        "background_presence": 2.0,
        "total_variation": 1.0,
        "entropy": 1.0,
        "concentration": 0.0,
        "object_presence": 0.0,
        "background_invariance": 0.0,
    },
    "optimizer": {
        "epochs": 90,
        "batch_size": 16,
        "accumulate": 1,
        "lr_prototypes": 1e-3,
        "lr_heads": 1e-2,
        "lr_tokens": 1e-6,
        "lr_stage1": 0.0,
        "lr_stage2": 1e-6,
        "weight_decay": 0.05,
        "gradient_clip": 2.0,
        "cosine": "epoch",
        "stage1_epochs": 0,
        "freeze_stage1": False,
    },
    "robustness": {"group_step": 0.01, "upweight": 20.0, "first_epochs": None, "tuning_epochs": None},
    "augmentation": "birds",
    "borrowed_backgrounds": "none",
    "class_balanced": False,
    "precision": "32-true",
    "ema": None,
    "select_by": "auto",
    "split_by": None,
    "activation_checkpointing": False,
    "compile": False,
    "workers": 2,
    "seed": 0,
    "device": "auto",
    "strategy": "ddp",
    "checkpoint_minutes": 10.0,
    "skip_unreadable": False,
}

CHANGED = TrainingConfig(
    method="pdiscoformer",
    model=ModelConfig(backbone="a.safetensors", image_size=(224, 168), num_parts=3, mask_gradient="exact"),
    losses=LossWeights(entropy=0.5, background_presence=0),
    optimizer=OptimizerConfig(epochs=7, stage1_epochs=3, freeze_stage1=True, lr_heads=0),
    augmentation="xray",
    precision="bf16-mixed",
    ema=0.9999,
    device="cpu",
)


def test_defaults_are_the_papers() -> None:
    assert config.to_dict(TrainingConfig()) == PAPER


def test_quantiles() -> None:
    assert config.QUANTILES == (0.90, 0.95, 0.97, 0.99)


def test_values_and_back(tmp_path: Path) -> None:
    for written in (TrainingConfig(), CHANGED):
        values = config.to_dict(written)
        assert config.from_dict(values) == written
        assert config.from_dict(json.loads(json.dumps(values))) == written
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        assert config.read(tmp_path / "config.yaml") == written


def test_what_is_not_said_is_the_default() -> None:
    assert config.from_dict({}) == TrainingConfig()
    assert config.from_dict({"optimizer": {"epochs": 3}}) == TrainingConfig(optimizer=OptimizerConfig(epochs=3))


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainingConfig().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.num_parts": 0}, ["model.num_parts", "at least 1", "0"]),
        ({"model.image_size": 0}, ["model.image_size", "at least 1"]),
        ({"model.image_size": [224, 0]}, ["model.image_size", "at least 1"]),
        ({"model.mask_gradient": "half"}, ["mask_gradient", "'half'"]),
        ({"model.part_dropout": 1.0}, ["model.part_dropout", "1.0"]),
        ({"model.stage2_part_dropout": -0.1}, ["model.stage2_part_dropout", "-0.1"]),
        ({"model.temperature": 0}, ["model.temperature", "positive"]),
        ({"model.centre_lean": 0}, ["model.centre_lean", "positive"]),
        ({"losses.entropy": -1}, ["losses.entropy", "at least 0", "-1"]),
        ({"losses.entropy": float("nan")}, ["losses.entropy", "nan"]),
        ({"losses.entropy": float("inf")}, ["losses.entropy: expected a finite number, got inf"]),
        ({"optimizer.lr_stage2": float("inf")}, ["optimizer.lr_stage2", "finite", "inf"]),
        ({"model.temperature": float("inf")}, ["model.temperature", "finite", "inf"]),
        ({"model.temperature": float("nan")}, ["model.temperature", "finite", "nan"]),
        ({"ema": float("nan")}, ["ema", "nan"]),
        ({"optimizer.epochs": 0}, ["optimizer.epochs", "at least 1"]),
        ({"optimizer.batch_size": 0}, ["optimizer.batch_size"]),
        ({"optimizer.accumulate": 0}, ["optimizer.accumulate"]),
        ({"optimizer.lr_heads": -1e-3}, ["optimizer.lr_heads"]),
        ({"optimizer.gradient_clip": -1}, ["optimizer.gradient_clip"]),
        ({"optimizer.stage1_epochs": 91}, ["optimizer.stage1_epochs", "0 to 90", "91"]),
        ({"optimizer.freeze_stage1": True}, ["optimizer.freeze_stage1", "stage1_epochs"]),
        ({"method": "magic"}, ["method", "'magic'"]),
        ({"augmentation": "all"}, ["augmentation", "'all'"]),
        ({"precision": "8"}, ["precision", "'8'"]),
        ({"workers": -1}, ["workers", "-1"]),
        ({"ema": 1.0}, ["ema", "1.0"]),
        ({"optimizer.epochs": "many"}, ["optimizer.epochs", "integer", "'many'"]),
        ({"optimizer.epochs": 2.5}, ["optimizer.epochs", "2.5"]),
        ({"optimizer": 3}, ["optimizer", "int"]),
        ({"model": None}, ["model", "nothing"]),
    ],
    ids=str,
)
def test_impossible_values(changes: dict[str, Any], said: list[str], refuses_line: Any) -> None:
    with refuses_line(*said):
        config.override(TrainingConfig(), changes)


def test_an_error_begins_with_the_name_of_the_setting() -> None:
    for changes in ({"model.num_parts": 0}, {"optimizer.epochs": "many"}, {"optimizer": 3}, {"workers": -1}):
        with pytest.raises(UsageError, match=f"^{next(iter(changes))}: "):
            config.override(TrainingConfig(), changes)


def test_impossible_values_in_python(refuses_line: Any) -> None:
    with refuses_line("optimizer.epochs"):
        OptimizerConfig(epochs=0)
    with refuses_line("losses.stage1"):
        LossWeights(stage1=-1)
    with refuses_line("method: expected ifam, pdiscoformer, erm"):
        TrainingConfig(method="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", fields(LossWeights), ids=lambda field: field.name)
def test_every_loss_weight_is_checked(field: Any, refuses_line: Any) -> None:
    with refuses_line(f"losses.{field.name}"):
        replace(LossWeights(), **{field.name: -1})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optimiser": {}}, ["'optimiser'", "optimizer"]),
        ({"optimizer": {"learning_rate": 1}}, ["optimizer", "'learning_rate'", "lr_heads"]),
        ({"model": {"parts": 4}}, ["model", "'parts'", "num_parts"]),
        ({1: 2}, ["1"]),
        ([], ["list"]),
        (None, ["nothing"]),
        ("text", ["str"]),
    ],
    ids=str,
)
def test_unknown_names(values: object, said: list[str], refuses_line: Any) -> None:
    with refuses_line("my.yaml", *said):
        config.from_dict(values, "my.yaml")


def test_overrides_leave_the_rest() -> None:
    changed = config.override(CHANGED, {"optimizer.epochs": 9, "losses.entropy": 2, "seed": 4, "model.image_size": 96})
    assert changed == replace(
        CHANGED,
        optimizer=replace(CHANGED.optimizer, epochs=9),
        losses=replace(CHANGED.losses, entropy=2.0),
        model=replace(CHANGED.model, image_size=96),
        seed=4,
    )
    assert CHANGED.seed == 0


def test_changes_that_only_together_make_sense() -> None:
    changed = config.override(TrainingConfig(), {"optimizer.freeze_stage1": True, "optimizer.stage1_epochs": 5})
    assert changed.optimizer.freeze_stage1


@pytest.mark.parametrize("name", ["epochs", "optimizer.epoch", "optimizer.epochs.more", "", "seed.x"])
def test_unknown_settings(name: str, refuses_line: Any) -> None:
    with refuses_line("optimizer.epochs", repr(name)):
        config.override(TrainingConfig(), {name: 1})


def test_the_nearest_setting_is_named(refuses_line: Any) -> None:
    with refuses_line("optimizer.lr_head'", "did you mean optimizer.lr_heads?"):
        config.override(TrainingConfig(), {"optimizer.lr_head": 1})


def test_unreadable_files(tmp_path: Path, refuses_line: Any) -> None:
    path = tmp_path / "config.yaml"
    with refuses_line(path):
        config.read(path)
    for content in (b"a: [1", b"\xff\xfe\x00", b"- 1\n- 2", b"seed: yes please", b""):
        path.write_bytes(content)
        with refuses_line(path):
            config.read(path)


LAUGHS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
MERGED = "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a0: &a0 [lol]\n" + LAUGHS + "\nseed: *a11", "alias"),
        ("a0: &a0 {x: 1}\n" + MERGED, "alias"),
        ("seed: &a [*a]", "alias"),
        ("[" * 5000, "more than 10"),
        ("seed: " + "9" * 5000, "5,000 letters"),
        ("seed: 0x" + "f" * 5000, "5,002 letters"),
        ("seed: 2001-99-99", "month"),
        ("seed: !!float x", "float"),
        ("seed: !!python/object/apply:os.system ['touch pwned']", "python/object"),
        ("seed: [1, 2]", "seed: expected a valid integer, got [1, 2]"),
        ("seed: 9999999999", "seed: expected at most 4294967295"),
        ("workers: 1000000", "workers: expected at most 1000"),
        ("model: {num_parts: 1000000}", "model.num_parts"),
        ("model: {image_size: 1000000}", "model.image_size"),
        ("optimizer: {lr_heads: 1.0e+300}", "optimizer.lr_heads: expected at most 1e+30"),
    ],
    ids=range(15),
)
def test_files_that_mean_harm(text: str, said: str, tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with refuses_line(tmp_path / "x.yaml", said):
        config.read(tmp_path / "x.yaml")


def test_what_is_no_file_of_settings(tmp_path: Path, refuses_line: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("#" * 2**17)
    for name, said in (("pipe", "a pipe"), ("large", "65,536 bytes"), (".", "a folder")):
        with refuses_line(tmp_path / name, said):
            config.read(tmp_path / name)
