"""Models as folders: ``model.safetensors`` with the weights and ``model.json`` with everything else."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file
from torch import Tensor

from ifam.errors import CheckpointError, DataError, first_line
from ifam.files import MIB, read_json, replacing, sha256, to_json, write_text
from ifam.model.base import Classifier
from ifam.model.build import Architecture, check_state, load_state, read_safetensors
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.origin import Origin
from ifam.model.two_stage import IFAM
from ifam.model_checks import check_description, check_image_size, check_one_type, check_thresholds
from ifam.preprocessing import Preprocessing

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
METADATA = {"format": "pt"}
"""of the file of the weights"""
SPLITS = "splits.json"
"""of a run on data without splits: image name -> split"""
LARGEST_SPLITS = 1024 * MIB
"""ten million images"""
DATA = "data.json"
"""of a run: which data it was"""
TRAINED, SPLIT_BY, CONTENTS = "trained", "split_by", "contents"
"""in `DATA`: images per class that were trained on; what was kept whole; image name -> bytes and digest of its file"""
CONFIG = "config.yaml"
"""of a run: its settings"""
OPTIONS = (
    "num_parts", "mask_gradient", "soft_masks", "part_dropout", "stage2_part_dropout", "mask_noise", "dropped_parts",
    "temperature", "evidence",
)  # fmt: skip
KINDS: dict[type[Classifier], str] = {IFAM: "ifam", MaskedClassifier: "masked", PlainClassifier: "plain"}
MASKED_OPTIONS = ("masking", "masks", "coverage", "tokencut_features", "tokencut_threshold", "evidence")


def save(model: Classifier, path: str | Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the model to a folder that `load` reads; each file appears whole or not at all.

    ``weights``: the state of the model, where it does not hold all of it itself.
    """
    folder = Path(path)
    check_image_size(model)
    description = _description(model)
    state = _state(weights or model.state_dict())
    with replacing(folder / WEIGHTS, size=sum(value.nbytes for value in state.values())) as temporary:
        save_file(state, temporary, metadata=METADATA)
    write_text(folder / DESCRIPTION, description)


def load(path: str | Path) -> IFAM | PlainClassifier | MaskedClassifier:
    """A trained model in eval mode, from a run folder, an exported model folder, or ``hf:owner/name``.

    Raises:
        CheckpointError: there is none, or it is damaged: never a model with random weights.
    """
    folder = model_folder(path)
    description = _read_description(folder / DESCRIPTION)
    state = read_safetensors(folder / WEIGHTS)[0]
    try:
        with torch.device("meta"):  # which takes no memory, however large the description says that the model is
            expected = _rebuild(description).state_dict()
        check_state(expected, state, folder / WEIGHTS)
        check_one_type(state, folder / WEIGHTS)
        model = _rebuild(description)
        check_thresholds(model)
        check_image_size(model)
    except CheckpointError:
        raise
    except Exception as error:  # an odd one makes torch and timm raise many kinds
        raise CheckpointError(
            f"{folder / DESCRIPTION}: expected a model description, got an odd one: {first_line(error)}"
        ) from error
    load_state(model, state, folder / WEIGHTS)
    return model.eval()


def model_folder(path: str | Path) -> Path:
    """The folder of a model; what ``hf:owner/name`` names is downloaded, or found in the hub's cache."""
    return _download(str(path).removeprefix("hf:")) if str(path).startswith("hf:") else Path(path)


def weights_sha256(model: Classifier) -> str:
    """Of the weights in memory: what ``sha256sum`` prints of the file ``model.safetensors`` that `save` writes."""
    return hashlib.sha256(to_bytes(_state(model.state_dict()), metadata=METADATA)).hexdigest()


def description_sha256(model: Classifier) -> str:
    """Of everything that a model is beside its weights, as the file ``model.json`` that `save` writes."""
    return hashlib.sha256(_description(model).encode()).hexdigest()


def model_sha256(model: Classifier) -> str:
    """Of everything that a saved model holds, wherever it was loaded from."""
    return hashlib.sha256(f"{description_sha256(model)} {weights_sha256(model)}".encode()).hexdigest()


def model_files(path: str | Path, model: Classifier) -> list[dict[str, Any]]:
    """Name, bytes and SHA-256 of the files that ``model`` was loaded from.

    Raises:
        CheckpointError: the files no longer hold this model.
    """
    folder = model_folder(path)
    files = [folder / DESCRIPTION, folder / WEIGHTS]
    facts = [{"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)} for file in files]
    if model_sha256(load(folder)) != model_sha256(model):
        raise CheckpointError(
            f"{path}: expected the model that was loaded from there, got another one; run the command again"
        )
    return facts


def _state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _description(model: Classifier) -> str:
    return to_json(describe_model(model), indent=1) + "\n"


def known_splits(folder: str | Path) -> dict[str, str]:
    """The splits that a run made of data without them, by image name; empty where it made none."""
    path = Path(folder) / SPLITS
    splits: dict[str, str] = read_json(path, limit=LARGEST_SPLITS) if path.is_file() else {}
    if not all(split in ("train", "val", "test") for split in splits.values()):
        raise DataError(f"{path}: expected train, val or test for each image, got something else; delete the file")
    return splits


def known_contents(folder: str | Path) -> dict[str, tuple[int, str]]:
    """Bytes and digest of every image that a run made splits of, by name; empty where it remembers none."""
    contents = remembered(folder).get(CONTENTS, {})
    try:
        pairs = {name: content.split() for name, content in contents.items()}
        return {name: (int(size), digest) for name, (size, digest) in pairs.items()}
    except (AttributeError, TypeError, ValueError):
        raise _odd(folder, "bytes and digest for each image") from None


def trained_counts(folder: str | Path) -> dict[str, int]:
    """Images of each class that a run was trained on; empty where it does not say."""
    counts = remembered(folder).get(TRAINED, {})
    try:
        return {name: int(count) for name, count in counts.items()}
    except (AttributeError, TypeError, ValueError):
        raise _odd(folder, "the number of images for each class") from None


def was_split_by(folder: str | Path) -> str | None:
    """What a run kept whole in the splits that it made; None where nothing."""
    return remembered(folder).get(SPLIT_BY)


def remembered(folder: str | Path) -> dict[str, Any]:
    """All that a run remembers of its data; empty of a folder that is no run.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = Path(folder) / DATA
    return read_json(path, CheckpointError, limit=LARGEST_SPLITS) if path.is_file() else {}


def _odd(folder: str | Path, expected: str) -> CheckpointError:
    return CheckpointError(f"{Path(folder) / DATA}: expected {expected}, got something else; delete the file")


def trained_classes(folder: str | Path) -> list[str]:
    """The classes of the data that a run was trained on; empty where it does not say."""
    return list(remembered(folder).get("classes", []))


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
    if origin := model.backbone_origin.known():
        description["backbone_origin"] = origin
    if isinstance(model, MaskedClassifier):
        description["options"] = {name: getattr(model, name) for name in MASKED_OPTIONS}
    if isinstance(model, PlainClassifier) and model.readout != "class_token":
        description["options"] = {"readout": model.readout}
    if isinstance(model, IFAM):
        description["options"] = {name: getattr(model, name) for name in OPTIONS}
        description["options"]["second_stage"] = model.stage2 is not None
        description["token_thresholds"] = {repr(q): values for q, values in model.token_thresholds.items()}
    return description


def _rebuild(description: dict[str, Any]) -> IFAM | PlainClassifier | MaskedClassifier:
    check_description(description)
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
        model = PlainClassifier(vit, **common, **description.get("options", {}))
    model.backbone_name = architecture.name
    model.backbone_origin = Origin.of_metadata(description.get("backbone_origin", {}))
    model.training_group_sizes = description["training_group_sizes"]
    return model


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
