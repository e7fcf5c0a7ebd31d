from pathlib import Path
from typing import Any, get_args

import pytest
from generated import tiny_config, write_scenes
from runs import metrics, run

from ifam.config import MethodName, TrainingConfig, override, to_dict
from ifam.data.read import read_table
from ifam.training.registry import METHODS, READS, without_effect

READ_BY_ALL = {
    *(f"model.{name}" for name in ("backbone", "pretrained", "image_size")),
    *(f"optimizer.{name}" for name in ("epochs", "batch_size", "accumulate", "lr_heads", "weight_decay")),
    *(f"optimizer.{name}" for name in ("gradient_clip", "cosine")),
}
OTHER: dict[str, Any] = {
    "model.num_parts": 3,
    "model.mask_gradient": "exact",
    "model.soft_masks": True,
    "model.part_dropout": 0.1,
    "model.stage2_part_dropout": 0.1,
    "model.mask_noise": 0.0,
    "model.dropped_parts": "reassigned",
    "model.temperature": 0.5,
    "model.prototype_init": "centre",
    "model.centre_lean": 5.0,
    "model.evidence": "pixels",
    "model.readout": "class_token_and_mean",
    "model.mask_coverage": 0.9,
    "model.tokencut_features": "keys",
    "model.tokencut_threshold": 0.1,
    "optimizer.lr_prototypes": 0.1,
    "optimizer.lr_tokens": 0.1,
    "optimizer.lr_stage1": 0.1,
    "optimizer.lr_stage2": 0.1,
    "optimizer.stage1_epochs": 1,
    "optimizer.freeze_stage1": True,
    "borrowed_backgrounds": "stage2",
    "class_balanced": True,
    "robustness.group_step": 0.5,
    "robustness.upweight": 3.0,
    "robustness.first_epochs": 2,
    "robustness.tuning_epochs": 2,
} | {f"losses.{name}": 0.5 for name in to_dict(TrainingConfig())["losses"]}
"""another value than the usual one, of all that some methods do not read but ``model.masks``, which they refuse"""


def test_of_every_setting_it_is_said_which_methods_read_it() -> None:
    values = to_dict(TrainingConfig())
    parts = ("model", "losses", "optimizer", "robustness")  # what else is beside them holds for any run
    settings = {f"{part}.{name}" for part in parts for name in values[part]}
    settings |= {"borrowed_backgrounds", "class_balanced"}
    assert set().union(*READS.values()) == settings - READ_BY_ALL == OTHER.keys() | {"model.masks"}
    assert READS.keys() == METHODS.keys() == set(get_args(MethodName))


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_effect_changes_no_run(method: MethodName, tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path / "scenes", {"train": 3, "val": 2, "test": 1}))
    base = tiny_config(method=method, optimizer__epochs=1, robustness__first_epochs=1, robustness__tuning_epochs=1)
    idle = frozenset[str]().union(*without_effect(base).values()) - {"model.masks"}
    assert idle
    run(base, table, tmp_path / "base")
    run(override(base, {name: OTHER[name] for name in idle}), table, tmp_path / "changed")
    assert metrics(tmp_path / "base") == metrics(tmp_path / "changed")
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("base", "changed")]
    assert weights[0] == weights[1]
