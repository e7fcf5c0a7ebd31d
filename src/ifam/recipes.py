"""Full configurations by name. A recipe is a function from a method to a configuration."""

from collections.abc import Callable

from ifam.config import MethodName, ModelConfig, OptimizerConfig, TrainingConfig
from ifam.errors import UsageError


def paper(method: MethodName) -> TrainingConfig:
    """The published recipe: 90 epochs, both stages together, stage 2 at 1e-6."""
    return TrainingConfig(method=method)


def staged(method: MethodName) -> TrainingConfig:
    """Stage 1 first, then stage 2 inside its masks: minutes to an hour on a CPU, for a few thousand images."""
    two_stage = method == "ifam"
    return TrainingConfig(
        method=method,
        model=ModelConfig(num_parts=1, stage2_part_dropout=0.0),
        optimizer=OptimizerConfig(
            epochs=8,
            batch_size=32,
            lr_tokens=0.0,
            lr_stage2=2e-5,
            stage1_epochs=3 if two_stage else 0,
            freeze_stage1=two_stage,
        ),
    )


RECIPES: dict[str, Callable[[MethodName], TrainingConfig]] = {"paper": paper, "staged": staged}
DEFAULT = "staged"


def recipe(name: str, method: MethodName) -> TrainingConfig:
    """The configuration of that name.

    Raises:
        UsageError: no such recipe.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe: expected {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name](method)
