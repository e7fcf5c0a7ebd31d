"""DINOv2 backbones in the naming of transformers, from the Hugging Face hub or from a folder; RAD-DINO is one.

A repository holds ``config.json``, ``model.safetensors`` and perhaps ``preprocessor_config.json``, whose mean and
standard deviation images are normalised with.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ifam.errors import CheckpointError, UsageError, first_line
from ifam.files import read_json
from ifam.model.build import Initialisation, load_state, read_safetensors, vision_transformer
from ifam.model.origin import UNKNOWN, Origin
from ifam.preprocessing import IMAGENET_MEAN, IMAGENET_STD

HUB = "hf:"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
_ARGUMENTS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "image_size": "img_size",
    "patch_size": "patch_size",
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
}
_MODEL_TYPES = ("dinov2", "dinov2_with_registers")
_SUPPORTED = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3, "use_swiglu_ffn": False}
_LEFT_OUT = ("embeddings.mask_token", "classifier.")
_RENAMED = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.cls_token", "cls_token"),
    (r"encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)


def is_hub_backbone(backbone: str | Path) -> bool:
    """Whether it is ``hf:owner/name``, or a folder as such a repository is."""
    return str(backbone).startswith(HUB) or any((Path(backbone) / name).is_file() for name in (CONFIG, WEIGHTS))


def load_hub_backbone(backbone: str | Path, *, pretrained: bool) -> Initialisation:
    """The timm transformer that computes the same as transformers' ``Dinov2Model`` or ``Dinov2WithRegistersModel``.

    Raises:
        UsageError: no such repository, or it cannot be downloaded.
        CheckpointError: a file is missing or damaged, or the architecture is another one.
    """
    name = str(backbone)
    wanted = [CONFIG, PREPROCESSOR, *([WEIGHTS] if pretrained else [])]
    folder = _download(name.removeprefix(HUB), wanted) if name.startswith(HUB) else Path(backbone)
    missing = [file for file in wanted if file != PREPROCESSOR and not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"backbone {name}: expected {CONFIG} and {WEIGHTS} as transformers writes them, got no "
            f"{' and no '.join(missing)}; choose a repository or a folder that holds both"
        )
    state = to_timm(read_safetensors(folder / WEIGHTS)[0]) if pretrained else None
    vit = _build(read_json(folder / CONFIG, CheckpointError), name, state)
    if state is not None:
        load_state(vit, state, f"{name}, {WEIGHTS}")
    known = pretrained and name.startswith(HUB)  # what a folder came from it does not say
    origin = Origin(source=name) if known else UNKNOWN
    return Initialisation(vit=vit, name=None, origin=origin, **_statistics(folder / PREPROCESSOR, name))


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of transformers' model, or of a classifier around it, under timm's names."""
    plain = {re.sub(r"^dinov2(_with_registers)?\.", "", name): value for name, value in state.items()}
    named = {_rename(name): value for name, value in plain.items() if not name.startswith(_LEFT_OUT)}
    for name in [name for name in named if ".attn.query." in name]:
        thirds = [name.replace("query", third) for third in ("query", "key", "value")]
        if all(third in named for third in thirds):
            named[name.replace("query", "qkv")] = torch.cat([named.pop(third) for third in thirds])
    if named.keys() >= {"reg_token", "cls_token", "pos_embed"}:
        # beside registers timm has positions for the patches alone: that of the class token is added for good
        first, named["pos_embed"] = named["pos_embed"].tensor_split([1], dim=1)
        named["cls_token"] = named["cls_token"] + first
    return named


def _rename(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = re.sub(theirs, ours, name)
    return name


def _build(config: Mapping[str, Any], name: str, state: Mapping[str, Tensor] | None) -> VisionTransformer:
    """The architecture of a ``config.json``, with random weights; ``state``: those that it will hold."""
    kind = config.get("model_type")
    if kind not in _MODEL_TYPES:
        raise CheckpointError(
            f"backbone {name}: expected model_type {' or '.join(_MODEL_TYPES)} in {CONFIG}, got {kind!r}; "
            "for other transformers give their timm name"
        )
    for key, value in _SUPPORTED.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"backbone {name}: expected {key} {value} in {CONFIG}, got {config[key]!r}; choose another size of "
                "the model, or its timm name"
            )
    try:
        registers = config["num_register_tokens"] if kind == "dinov2_with_registers" else 0
        arguments = {ours: config[theirs] for theirs, ours in _ARGUMENTS.items()}
        arguments |= {"reg_tokens": registers, "no_embed_class": registers > 0, "init_values": 1e-5}
        return vision_transformer(arguments, state, f"{name}, {WEIGHTS}")
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"backbone {name}: expected {error.args[0]} in {CONFIG}, got none") from error
    except Exception as error:  # odd arguments make timm and torch raise many kinds
        raise CheckpointError(
            f"backbone {name}: expected a {CONFIG} of {kind}, got odd values: {first_line(error)}"
        ) from error


def _statistics(path: Path, name: str) -> dict[str, Any]:
    """Mean and standard deviation of a ``preprocessor_config.json``; ImageNet's where there is none."""
    config = read_json(path, CheckpointError) if path.is_file() else {}
    try:
        red, green, blue = map(float, config.get("image_mean", IMAGENET_MEAN))
        std_red, std_green, std_blue = map(float, config.get("image_std", IMAGENET_STD))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"backbone {name}: expected three numbers in {path.name}, got odd ones: {error}"
        ) from error
    return {"mean": (red, green, blue), "std": (std_red, std_green, std_blue)}


def _download(repository: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=files))
    except (OSError, HFValidationError, ValueError) as error:
        missing = isinstance(error, RepositoryNotFoundError)
        raise UsageError(
            f"backbone {HUB}{repository}: expected a repository on the Hugging Face hub, could not get it: "
            f"{'no such repository, or a private one' if missing else first_line(error)}; check the name and the "
            f"network, or give the path of a folder with {CONFIG} and {WEIGHTS}"
        ) from error
