"""The method that a configuration names."""

from dataclasses import replace

from ifam.config import MethodName, TrainingConfig
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
    else:  # there is one stage
        config = replace(config, optimizer=replace(optimizer, stage1_epochs=0, freeze_stage1=False))
    return METHODS[config.method](config)
