"""The method that a configuration names."""

from dataclasses import fields, replace

from ifam.config import LossWeights, MethodName, TrainingConfig
from ifam.errors import UsageError
from ifam.training.methods import GivenMasks, Method, PlainFineTuning, TwoStage
from ifam.training.robust import GroupDRO, JustTrainTwice, LastLayer, MaskTune

METHODS: dict[MethodName, type[Method]] = {
    "ifam": TwoStage,
    "pdiscoformer": TwoStage,
    "erm": PlainFineTuning,
    "early_mask": GivenMasks,
    "late_mask": GivenMasks,
    "group_dro": GroupDRO,
    "jtt": JustTrainTwice,
    "masktune": MaskTune,
    "dfr": LastLayer,
}

_PARTS = frozenset(
    {
        "model.num_parts", "model.part_dropout", "model.temperature", "model.prototype_init", "model.centre_lean",
        "optimizer.lr_prototypes", "optimizer.lr_tokens", "optimizer.lr_stage1",
        *(f"losses.{loss.name}" for loss in fields(LossWeights) if loss.name != "stage2"),
    }
)  # fmt: skip
_PARTS_AS_MASK = frozenset(
    {
        "model.mask_gradient", "model.soft_masks", "model.mask_noise", "model.dropped_parts",
        "model.stage2_part_dropout", "optimizer.stage1_epochs", "optimizer.freeze_stage1", "model.evidence",
    }
)  # fmt: skip
_FINE_TUNING = frozenset({"losses.stage2", "optimizer.lr_stage2"})
_WHOLE = frozenset({"model.readout", "borrowed_backgrounds"})
_BALANCED = frozenset({"class_balanced"})
_TOKENCUT = frozenset({"model.tokencut_features", "model.tokencut_threshold"})
_CENTRE = frozenset({"model.centre_lean"})
_TUNED_STAGE1 = frozenset({"optimizer.lr_stage1", "losses.background_invariance"})
_BORROWED = frozenset({"borrowed_backgrounds"})
_GIVEN_MASKS = frozenset({"model.masks", "model.mask_coverage"}) | _TOKENCUT | _BORROWED
READS: dict[MethodName, frozenset[str]] = {
    "ifam": _PARTS | _PARTS_AS_MASK | _FINE_TUNING | _BORROWED | _BALANCED,
    "pdiscoformer": _PARTS | _BORROWED | _BALANCED,
    "erm": _FINE_TUNING | _WHOLE | _BALANCED,
    "early_mask": _FINE_TUNING | _GIVEN_MASKS | _BALANCED | {"model.evidence"},
    "late_mask": _FINE_TUNING | _GIVEN_MASKS | _BALANCED,
    "group_dro": _FINE_TUNING | {"model.readout", "robustness.group_step"},
    "jtt": _FINE_TUNING | _WHOLE | _BALANCED | {"robustness.upweight", "robustness.first_epochs"},
    "masktune": _FINE_TUNING | _WHOLE | _BALANCED | {"robustness.tuning_epochs"},
    "dfr": _FINE_TUNING | _WHOLE | _BALANCED | {"robustness.tuning_epochs"},
}
"""the settings that a method reads, but for those that all of them do"""


def without_effect(config: TrainingConfig) -> dict[str, frozenset[str]]:
    """The settings that a run with this configuration does not read, by what makes them idle."""
    other = frozenset[str]().union(*READS.values()) - READS[config.method]
    idle = {f"--method {config.method}": other}
    if config.model.masks != "tokencut":
        idle[f"--masks {config.model.masks}"] = _TOKENCUT - other
    if config.model.prototype_init == "random":
        idle["model.prototype_init=random"] = _CENTRE - other
    if not config.borrows_in(1):
        idle[f"borrowed_backgrounds={config.borrowed_backgrounds}"] = _TUNED_STAGE1 - other
    elif config.optimizer.lr_stage1 == 0:
        idle["optimizer.lr_stage1=0"] = _TUNED_STAGE1 - other - {"optimizer.lr_stage1"}
    elif config.losses.background_invariance == 0:
        idle["losses.background_invariance=0"] = _TUNED_STAGE1 - other - {"losses.background_invariance"}
    return idle


def make_method(config: TrainingConfig) -> Method:
    """The method that the configuration names.

    Raises:
        UsageError: stage 2 would never be trained, or a gradient is asked for that nothing receives.
    """
    optimizer = config.optimizer
    if config.method == "ifam":
        if optimizer.stage1_epochs == optimizer.epochs:
            raise UsageError(
                f"optimizer.stage1_epochs: expected less than {optimizer.epochs} (all epochs), so that stage 2 is "
                f"trained too, got {optimizer.stage1_epochs}"
            )
        if optimizer.freeze_stage1 and config.model.mask_gradient != "cut":
            raise UsageError(
                "model.mask_gradient: expected cut while optimizer.freeze_stage1 is set, since no gradient reaches a "
                f"frozen stage 1, got {config.model.mask_gradient}; add --set optimizer.freeze_stage1=false"
            )
        if config.tunes_stage1 and not optimizer.freeze_stage1:
            raise UsageError(
                "optimizer.lr_stage1: expected 0 unless stage 1 is trained alone and then frozen, got "
                f"{optimizer.lr_stage1:g}; add --set optimizer.stage1_epochs=2 --set optimizer.freeze_stage1=true"
            )
    else:  # there is one stage
        config = replace(config, optimizer=replace(optimizer, stage1_epochs=0, freeze_stage1=False))
    return METHODS[config.method](config)
