"""The authors' checkpoints, under their names for the parameters."""

from collections.abc import Mapping
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ifam.errors import CheckpointError
from ifam.model.build import load_state, read_safetensors
from ifam.model.pickles import read_pickle
from ifam.model.two_stage import IFAM

PROTOTYPES = "stage_1.fc_landmarks.weight"
PART_CLASSIFIER = "stage_1.fc_class_landmarks.weight"
RENAMED = {
    PROTOTYPES: "prototypes",
    "stage_1.modulation.weight": "modulation.weight",
    "stage_1.modulation.bias": "modulation.bias",
    PART_CLASSIFIER: "part_classifier.weight",
    "stage_2.fc_norm.weight": "stage2.norm.weight",
    "stage_2.fc_norm.bias": "stage2.norm.bias",
    "stage_2.head.weight": "stage2.head.weight",
}
PREFIXES = {"stage_1.": "stage1.vit.", "stage_2.": "stage2.backbone.vit."}
DERIVED = "stage_2.prefix_attn_mask"


def load_reference(
    path: str | Path, *, backbone: str | Path | VisionTransformer, image_size: int | tuple[int, int] | None = None
) -> IFAM:
    """A model of the authors' code, in eval mode: ``.pt`` snapshot, bare state dict, or ``.safetensors``.

    K and C are read from the checkpoint. ``backbone`` names its architecture; ``image_size`` is the one that it was
    trained at. A pickle is read without executing code.

    Raises:
        CheckpointError: the file is missing, damaged, not such a checkpoint, or of another architecture.
    """
    state = translate(read_state(Path(path)), path)
    model = IFAM(
        backbone,
        num_parts=state["prototypes"].shape[0] - 1,
        num_classes=state["part_classifier.weight"].shape[0],
        image_size=image_size,
        pretrained=False,
    )
    load_state(model, state, path)
    return model.eval()


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file of any of the authors' formats."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    content = read_pickle(path)
    state = content.get("model_state", content) if isinstance(content, dict) else content
    if not isinstance(state, Mapping) or not all(_is_entry(*item) for item in state.items()):
        raise CheckpointError(f"{path}: expected a state dict or a snapshot with 'model_state', got neither")
    return state


def translate(state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """The authors' parameter names to those of `ifam.IFAM`."""
    plain = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in state.items()}
    missing = [name for name in RENAMED if name not in plain]
    if missing:
        raise CheckpointError(
            f"{source}: expected a two-stage checkpoint of the authors' code, got one without {missing[0]}"
        )
    for name in (PROTOTYPES, PART_CLASSIFIER):
        if plain[name].ndim < 2 or len(plain[name]) < 2:
            raise CheckpointError(
                f"{source}: expected {name} with one row for each of two or more, got shape {tuple(plain[name].shape)}"
            )
    plain[PROTOTYPES] = plain[PROTOTYPES].flatten(1)  # a 1×1 convolution there
    return {_rename(name): value for name, value in plain.items() if name != DERIVED}


def _is_entry(name: object, value: object) -> bool:
    """A tensor that holds as many numbers as its shape says: one number stretched to billions would be copied out."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    if value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _rename(name: str) -> str:
    for theirs, ours in PREFIXES.items():
        if name not in RENAMED and name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return RENAMED.get(name, name)
