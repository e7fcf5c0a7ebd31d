"""The configuration of a training, from recipe, file, flags and ``--set``."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam.errors import UsageError
from ifam.files import printable

if TYPE_CHECKING:
    from ifam.config import TrainingConfig

FLAGS = {
    "method": "method",
    "model.backbone": "backbone",
    "model.num_parts": "num_parts",
    "model.image_size": "image_size",
    "model.mask_gradient": "mask_gradient",
    "model.masks": "masks",
    "optimizer.epochs": "epochs",
    "optimizer.batch_size": "batch_size",
    "optimizer.lr_stage2": "lr",
    "device": "device",
    "strategy": "strategy",
    "precision": "precision",
    "workers": "workers",
    "seed": "seed",
    "skip_unreadable": "skip_unreadable",
    "split_by": "split_by",
}
"""settings that ``ifam train`` has an option of their own for"""


def training_config(options: Namespace) -> "TrainingConfig":
    """Recipe, file or, where neither is named, the run to resume; then flags, then ``--set``."""
    from ifam import config as configuration

    changes = _by_flag(options)
    given = {name: f"--{FLAGS[name].replace('_', '-')} ({name})" for name in changes}
    named = settings(options.set)
    if twice := [name for name in changes if name in named and named[name] != changes[name]]:
        raise UsageError(
            f"{given[twice[0]]}: expected one value, got {changes[twice[0]]} and {named[twice[0]]} by --set"
        )
    try:
        return configuration.override(_base_config(options, changes | named), changes | named)
    except UsageError as error:
        name, colon, rest = str(error).partition(":")
        if name in given and name not in named:
            raise UsageError(given[name] + colon + rest) from error
        if _goes_on(options) and changes and name not in named:
            message = f"{options.out}: expected the settings of the run to resume, got others: {error}"
            raise UsageError(message) from error
        raise


def warning_of_idle(config: "TrainingConfig", options: Namespace) -> str:
    """A line about flags and ``--set`` that change nothing with this method; empty where there are none."""
    from ifam.training.registry import without_effect

    given = dict.fromkeys([*_by_flag(options), *settings(options.set)])
    idle = {why: [name for name in given if name in names] for why, names in without_effect(config).items()}
    said = "; ".join(f"{', '.join(names)}: no effect with {why}" for why, names in idle.items() if names)
    return printable(f"warning: {said}") if said else ""


def _by_flag(options: Namespace) -> dict[str, Any]:
    """The settings that have an option of their own, where it was given."""
    return {name: getattr(options, flag) for name, flag in FLAGS.items() if getattr(options, flag) is not None}


def _base_config(options: Namespace, changes: dict[str, Any]) -> "TrainingConfig":
    """What the changes start from; a recipe is made for the method, the epochs and the parts among them."""
    from ifam import config as configuration
    from ifam.recipes import DEFAULT, DEFAULT_WITHOUT_DATA, recipe

    if options.config is not None and options.recipe is not None:
        raise UsageError("recipe: expected either --recipe or --config, got both")
    if options.config is not None:
        return configuration.read(options.config)
    if _goes_on(options):
        return configuration.read(_resumed_config(options.out))
    # another type is refused when the changes are made
    numbers = (changes.get(name) for name in ("optimizer.epochs", "model.num_parts"))
    epochs, num_parts = (number if isinstance(number, int) else None for number in numbers)
    name = options.recipe or (DEFAULT_WITHOUT_DATA if options.data is None else DEFAULT)
    return recipe(name, changes.get("method", "ifam"), epochs, num_parts)


def _goes_on(options: Namespace) -> bool:
    """Whether the settings are those of the run that is resumed."""
    return bool(options.resume and options.recipe is None and options.config is None)


def settings(arguments: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` with values as in YAML."""
    from ifam.config import parse_yaml

    changes: dict[str, Any] = {}
    for setting in arguments:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"set: expected NAME=VALUE such as losses.entropy=0.5, got {setting!r}")
        expected = f"set {name}: expected a value such as 0.5, true or light in {setting[:80]!r}"
        changes[name] = parse_yaml(value, expected)
    return changes


def _resumed_config(folder: Path) -> Path:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder}: expected a run to resume, found none; start it without --resume")
    return path
