"""AdamW with the recipe's rates, normalised weight decay, and the order of the stages."""

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ifam.config import OptimizerConfig
from ifam.training.methods import ParameterGroup, Stage

REFERENCE_BATCH = 16
UNDECAYED = ("prototypes", "modulation", "cls_token", "reg_token", "pos_embed")


def freeze_rest(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    """Parameters in no group, or in one of rate 0, get no gradient and cost none."""
    model.requires_grad_(False)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(group.lr > 0)


def make_optimizer(
    model: nn.Module,
    groups: Sequence[ParameterGroup],
    config: OptimizerConfig,
    steps_per_epoch: int,
    decayed: Collection[nn.Parameter] | None = None,
) -> tuple[AdamW, LambdaLR]:
    """The optimizer and its schedule, stepped as ``config.cosine`` says; ``decayed``: `decayed_parameters` if None."""
    matrices = decayed_parameters(model) if decayed is None else decayed
    scale = math.sqrt(config.batch_size * config.accumulate / REFERENCE_BATCH)
    decay = config.weight_decay * math.sqrt(1 / (steps_per_epoch * config.epochs))
    options: list[dict[str, Any]] = []
    stages: list[Stage] = []
    for group in groups:
        for shrinks in (True, False):
            parameters = [p for p in group.parameters if p.requires_grad and (p in matrices) == shrinks]
            if parameters:
                options.append(
                    {"params": parameters, "lr": group.lr * scale, "weight_decay": decay if shrinks else 0.0}
                )
                options[-1]["name"] = group.name if shrinks else f"{group.name}_undecayed"
                stages.append(group.stage)
    optimizer = AdamW(options, betas=(0.9, 0.999))
    ticks = steps_per_epoch if config.cosine == "step" else 1

    def factor(stage: Stage, tick: int) -> float:
        return rate_factor(tick / ticks, stage, config)

    schedule = LambdaLR(optimizer, [partial(factor, stage) for stage in stages])
    return optimizer, schedule


def decayed_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Those that weight decay is for."""
    return {parameter for name, parameter in model.named_parameters() if is_decayed(name, parameter)}


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices only: not for vectors, prototypes, modulation, tokens and positions."""
    return parameter.ndim > 1 and not any(part in UNDECAYED for part in name.split("."))


def rate_factor(epoch: float, stage: Stage, config: OptimizerConfig) -> float:
    """Cosine from 1 to 0 over the epochs in which a stage is trained, 0 outside them."""
    first = config.stage1_epochs if stage == 2 else 0
    last = config.stage1_epochs if stage == 1 and config.freeze_stage1 else config.epochs
    if not first <= epoch < last:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - first) / (last - first)))
