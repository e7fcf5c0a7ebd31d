"""Full configurations by name. A recipe is a function from a method, and a number of epochs, to a configuration."""

from collections.abc import Callable
from dataclasses import replace

from ifam.config import MethodName, ModelConfig, OptimizerConfig, TrainingConfig
from ifam.errors import UsageError


def paper(method: MethodName, epochs: int = 90) -> TrainingConfig:
    """The published recipe: 518 pixels, 90 epochs, both stages together, stage 2 at 1e-6."""
    return TrainingConfig(method=method, model=ModelConfig(image_size=518), optimizer=OptimizerConfig(epochs=epochs))


def staged(method: MethodName, epochs: int = 6) -> TrainingConfig:
    """A third of the epochs for stage 1, the rest for stage 2 inside its masks, from the embedded backbone."""
    stage1_epochs = (epochs + 1) // 3 if method == "ifam" else 0  # of a single epoch none: both stages together
    return TrainingConfig(
        method=method,
        model=ModelConfig(backbone="ifam-nano", num_parts=1, stage2_part_dropout=None, prototype_init="centre"),
        optimizer=OptimizerConfig(
            epochs=epochs,
            batch_size=32,
            lr_tokens=0.0,
            cosine="step",
            stage1_epochs=stage1_epochs,
            freeze_stage1=stage1_epochs > 0,
        ),
        augmentation="light",
        precision="auto",
    )


def scenes(method: MethodName, epochs: int = 6) -> TrainingConfig:
    """`staged` for the generated data set: what tells its animals apart, ifam-nano has to learn first."""
    base = staged(method, epochs)
    return replace(
        base,
        model=replace(base.model, centre_lean=24.0),
        optimizer=replace(base.optimizer, lr_stage2=1e-4),
    )


RECIPES: dict[str, Callable[..., TrainingConfig]] = {"paper": paper, "staged": staged, "scenes": scenes}
DEFAULT = "staged"
DEFAULT_WITHOUT_DATA = "scenes"


def recipe(name: str, method: MethodName, epochs: int | None = None) -> TrainingConfig:
    """The configuration of that name, over its own number of epochs if None.

    Raises:
        UsageError: no such recipe.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe: expected {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name](method) if epochs is None else RECIPES[name](method, epochs)
