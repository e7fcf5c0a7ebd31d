"""Full configurations by name. A recipe makes one from a method, and from numbers of epochs and parts where given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ifam.config import LossWeights, MethodName, ModelConfig, OptimizerConfig, TrainingConfig
from ifam.errors import UsageError


def paper(method: MethodName, epochs: int = 90, num_parts: int = 8) -> TrainingConfig:
    """The published recipe: 518 pixels, 90 epochs, both stages together, stage 2 at 1e-6."""
    model = ModelConfig(image_size=518, num_parts=num_parts)
    return TrainingConfig(method=method, model=model, optimizer=OptimizerConfig(epochs=epochs))


def waterbirds(method: MethodName, epochs: int = 90, num_parts: int = 8) -> TrainingConfig:
    """Waterbirds at the best K of table 1a: iFAM at K = 8, 99.0 average and 97.0 worst-group accuracy."""
    return _published(method, epochs, num_parts)


def cub(method: MethodName, epochs: int = 90, num_parts: int = 16) -> TrainingConfig:
    """CUB, for Waterbird200 too, at the best K of table 2a: iFAM at K = 16, 90.6 on CUB and 86.2 on Waterbird200."""
    return _published(method, epochs, num_parts)


def metashift(method: MethodName, epochs: int = 90, num_parts: int = 4) -> TrainingConfig:
    """MetaShift at the K of the best worst group in table 1a: iFAM at K = 4, 88.7 average and 88.6 worst-group."""
    return _published(method, epochs, num_parts, image_size=224)


def siim_acr(method: MethodName, epochs: int = 90, num_parts: int = 8) -> TrainingConfig:
    """SIIM-ACR at the one K of table 2b: iFAM at K = 8 from RAD-DINO, average AUC 92.1 and worst-group AUC 65.9."""
    base = _published(method, epochs, num_parts, backbone="hf:microsoft/rad-dino")
    return replace(base, augmentation="xray", losses=replace(base.losses, background_presence=0.0))


def imagenet(method: MethodName, epochs: int = 120, num_parts: int = 1) -> TrainingConfig:
    """ImageNet-1K, for ImageNet-9 too, at the one K of table 1b: iFAM at K = 1, 84.3 on ImageNet-1K, BG-GAP 2.4.

    Twice the batch, mixed precision and averaged weights, as appendix A scales up.
    """
    base = _published(method, epochs, num_parts, image_size=224)
    optimizer = replace(base.optimizer, batch_size=2 * base.optimizer.batch_size)
    return replace(base, augmentation="imagenet", precision="auto", ema=0.9999, optimizer=optimizer)


def _published(method: MethodName, epochs: int, num_parts: int, **model: Any) -> TrainingConfig:
    """`paper` with changes of its model."""
    base = paper(method, epochs, num_parts)
    return replace(base, model=replace(base.model, **model))


def staged(method: MethodName, epochs: int = 6, num_parts: int = 1) -> TrainingConfig:
    """A third of the epochs for stage 1, the rest for stage 2 inside its masks, from the embedded backbone.

    Nothing outside the outline of the object is read: stage 2 is trained before borrowed backgrounds, and takes its
    evidence in pixels. Several parts get settings that keep their prototypes on the object and off what surrounds it,
    see docs/results.md.
    """
    two_stages = method == "ifam"
    stage1_epochs = (epochs + 1) // 3 if two_stages else 0  # of a single epoch none: both stages together
    base = TrainingConfig(
        method=method,
        model=ModelConfig(
            backbone="ifam-nano",
            num_parts=num_parts,
            stage2_part_dropout=None,
            mask_noise=4.0,
            prototype_init="object",
            evidence="pixels" if two_stages else "patches",
        ),
        losses=LossWeights(object_presence=1.0),
        optimizer=OptimizerConfig(
            epochs=epochs,
            batch_size=32,
            lr_prototypes=3e-3,
            lr_tokens=0.0,
            cosine="step",
            stage1_epochs=stage1_epochs,
            freeze_stage1=stage1_epochs > 0,
        ),
        augmentation="light",
        borrowed_backgrounds="stage2" if two_stages else "none",
        precision="auto",
    )
    return _on_the_object(base) if num_parts > 1 else base


def _on_the_object(config: TrainingConfig) -> TrainingConfig:
    """The same for several parts, each of which has to appear somewhere and may settle on beaches or trunks."""
    return replace(
        config,
        model=replace(config.model, centre_lean=24.0),
        losses=replace(config.losses, concentration=100.0),
    )


def scenes(method: MethodName, epochs: int = 6, num_parts: int = 1) -> TrainingConfig:
    """`staged` for the generated data set: what tells its animals apart, ifam-nano has to learn first."""
    base = staged(method, epochs, num_parts)
    lr_prototypes = 1e-3 if num_parts == 1 else 3e-3
    return replace(
        base,
        model=replace(base.model, centre_lean=24.0, prototype_init="centre", evidence="patches", mask_noise=1.0),
        losses=replace(base.losses, object_presence=0.0),
        optimizer=replace(base.optimizer, lr_prototypes=lr_prototypes, lr_stage2=1e-4),
        borrowed_backgrounds="none",
    )


RECIPES: dict[str, Callable[..., TrainingConfig]] = {
    "paper": paper,
    "staged": staged,
    "scenes": scenes,
    "waterbirds": waterbirds,
    "cub": cub,
    "metashift": metashift,
    "siim_acr": siim_acr,
    "imagenet": imagenet,
}
DEFAULT = "staged"
DEFAULT_WITHOUT_DATA = "scenes"


def recipe(name: str, method: MethodName, epochs: int | None = None, num_parts: int | None = None) -> TrainingConfig:
    """The configuration of that name, with the recipe's own number of epochs or parts if None.

    Raises:
        UsageError: no such recipe, or an impossible number.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe: expected {', '.join(RECIPES)}, got {name!r}")
    given = {"epochs": epochs, "num_parts": num_parts}
    return RECIPES[name](method, **{name: value for name, value in given.items() if value is not None})
