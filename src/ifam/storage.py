"""Models as folders: ``model.safetensors`` with the weights and ``model.json`` with everything else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ifam.errors import CheckpointError, DataError, first_line
from ifam.files import read_json, replacing, sha256, write_text
from ifam.model.base import Classifier
from ifam.model.build import Architecture, check_state, load_state, read_safetensors
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.preprocessing import Preprocessing

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
SPLITS = "splits.json"
"""of a run on data without splits: image name -> split"""
DATA = "data.json"
"""of a run: which data it was"""
CONFIG = "config.yaml"
"""of a run: its settings"""
OPTIONS = (
    "num_parts", "mask_gradient", "soft_masks", "part_dropout", "stage2_part_dropout", "mask_noise", "dropped_parts",
    "temperature",
)  # fmt: skip
KINDS: dict[type[Classifier], str] = {IFAM: "ifam", MaskedClassifier: "masked", PlainClassifier: "plain"}
MASKED_OPTIONS = ("masking", "masks", "coverage", "tokencut_features", "tokencut_threshold")


def save(model: Classifier, path: str | Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the model to a folder that `load` reads; each file appears whole or not at all.

    ``weights``: the state of the model, where it does not hold all of it itself.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    description = json.dumps(describe_model(model), indent=1)
    state = {name: value.detach().cpu().contiguous() for name, value in (weights or model.state_dict()).items()}
    with replacing(folder / WEIGHTS, size=sum(value.nbytes for value in state.values())) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_text(folder / DESCRIPTION, description + "\n")


def load(path: str | Path) -> IFAM | PlainClassifier | MaskedClassifier:
    """A trained model in eval mode, from a run folder, an exported model folder, or ``hf:owner/name``.

    Raises:
        CheckpointError: there is none, or it is damaged: never a model with random weights.
    """
    folder = _download(str(path).removeprefix("hf:")) if str(path).startswith("hf:") else Path(path)
    description = _read_description(folder / DESCRIPTION)
    state = read_safetensors(folder / WEIGHTS)[0]
    try:
        with torch.device("meta"):  # which takes no memory, however large the description says that the model is
            expected = _rebuild(description).state_dict()
        check_state(expected, state, folder / WEIGHTS)
        model = _rebuild(description)
        _check_thresholds(model)
    except CheckpointError:
        raise
    except Exception as error:  # an odd one makes torch and timm raise many kinds
        raise CheckpointError(
            f"{folder / DESCRIPTION}: expected a model description, got an odd one: {first_line(error)}"
        ) from error
    load_state(model, state, folder / WEIGHTS)
    return model.eval()


def weights_sha256(folder: str | Path) -> str | None:
    """Of a run's or model's weights; None where the folder holds none."""
    path = Path(folder) / WEIGHTS
    return sha256([path]) if path.is_file() else None


def model_sha256(model: Classifier) -> str:
    """Of everything that a saved model holds, wherever it was loaded from."""
    seen = hashlib.sha256(json.dumps(describe_model(model)).encode())
    for name, value in sorted(model.state_dict().items()):
        seen.update(name.encode())
        seen.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return seen.hexdigest()


def known_splits(folder: str | Path) -> dict[str, str]:
    """The splits that a run made of data without them, by image name; empty where it made none."""
    path = Path(folder) / SPLITS
    splits: dict[str, str] = read_json(path) if path.is_file() else {}
    if not all(split in ("train", "val", "test") for split in splits.values()):
        raise DataError(f"{path}: expected train, val or test for each image, got something else; delete the file")
    return splits


def trained_classes(folder: str | Path) -> list[str]:
    """The classes of the data that a run was trained on; empty where it does not say."""
    path = Path(folder) / DATA
    return list(read_json(path).get("classes", [])) if path.is_file() else []


def describe_model(model: Classifier) -> dict[str, Any]:
    """All but the weights, as plain values."""
    description: dict[str, Any] = {
        "format": FORMAT,
        "kind": next(kind for of_kind, kind in KINDS.items() if isinstance(model, of_kind)),
        "backbone": asdict(model.architecture),
        "image_size": list(model.backbone.image_size),
        "class_names": model.class_names,
        "preprocessing": model.preprocessing.to_dict(),
        "training_group_sizes": model.training_group_sizes,
    }
    if isinstance(model, MaskedClassifier):
        description["options"] = {name: getattr(model, name) for name in MASKED_OPTIONS}
    if isinstance(model, IFAM):
        description["options"] = {name: getattr(model, name) for name in OPTIONS}
        description["options"]["second_stage"] = model.stage2 is not None
        description["token_thresholds"] = {repr(q): values for q, values in model.token_thresholds.items()}
    return description


def _rebuild(description: dict[str, Any]) -> IFAM | PlainClassifier | MaskedClassifier:
    _check_values(description)
    architecture = Architecture(**description["backbone"])
    height, width = description["image_size"]
    names = description["class_names"]
    common: dict[str, Any] = {
        "num_classes": len(names),
        "class_names": names,
        "image_size": (height, width),
        "preprocessing": Preprocessing.from_dict(description["preprocessing"]),
    }
    vit = architecture.build()
    model: IFAM | PlainClassifier | MaskedClassifier
    if description["kind"] == "ifam":
        model = IFAM(vit, **common, **description["options"])
        model.token_thresholds = {
            float(q): [float(value) for value in values] for q, values in description["token_thresholds"].items()
        }
    elif description["kind"] == "masked":
        model = MaskedClassifier(vit, **common, **description["options"])
    else:
        model = PlainClassifier(vit, **common)
    model.backbone_name = architecture.name
    model.training_group_sizes = description["training_group_sizes"]
    return model


def _check_values(description: dict[str, Any]) -> None:
    """Refuse what Python would take until somebody uses it."""
    names, sizes = description["class_names"], description["training_group_sizes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names that are no list of names")
    if not isinstance(sizes, dict) or not all(isinstance(size, int) for size in sizes.values()):
        raise ValueError("training_group_sizes that are no numbers by group")


def _check_thresholds(model: Classifier) -> None:
    """One for each part."""
    if isinstance(model, IFAM) and any(len(values) != model.num_parts for values in model.token_thresholds.values()):
        raise ValueError(f"token_thresholds that are not {model.num_parts} numbers by quantile")


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        begun = (path.parent / CONFIG).is_file()
        state = "a run that has not kept a model yet; ifam train with --resume goes on" if begun else "found none"
        raise CheckpointError(
            f"{path.parent}: expected a run or model folder with {DESCRIPTION} and {WEIGHTS}, {state}"
        )
    description = read_json(path, CheckpointError)
    if (found := description.get("format")) != FORMAT:
        raise CheckpointError(f"{path}: expected model format {FORMAT}, got {found}; use the version that wrote it")
    return description


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, DESCRIPTION]))
    except (OSError, HFValidationError, ValueError) as error:
        raise CheckpointError(
            f"hf:{repository}: expected a model on the hub, could not get it: {first_line(error)}"
        ) from error
