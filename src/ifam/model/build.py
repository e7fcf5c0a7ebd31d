"""Backbones by timm name, by instance, or from a weights file that names its architecture."""

import copy
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ifam.errors import CheckpointError, UsageError, first_line
from ifam.model.backbone import Backbone, check_backbone, refusal, resize
from ifam.model.origin import UNKNOWN, Origin
from ifam.model.pooled import PooledBackbone, same_structure
from ifam.preprocessing import IMAGENET_MEAN, IMAGENET_STD

MOST_BLOCKS, LARGEST_SIDE = 1000, 10_000
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Channels = tuple[float, float, float]
AnyBackbone = Backbone | PooledBackbone
EMBEDDED = {"ifam-nano": Path(__file__).parents[1] / "weights" / "ifam-nano.safetensors"}
"""backbones that come with this package"""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to rebuild a backbone without its weights."""

    name: str | None = None
    """timm's name, or None for a transformer that only ``arguments`` describe"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """of timm's ``VisionTransformer``"""

    def build(self) -> nn.Module:
        """The timm model with random weights, for images of its own size."""
        if self.name is not None:
            return create_timm_model(self.name, pretrained=False)
        return vision_transformer(self.arguments)


@dataclass(frozen=True, kw_only=True)
class Initialisation:
    """A timm model to start from, its name where it has one, and the size and normalisation of its images."""

    vit: nn.Module
    """a vision transformer, or any other network where that will do"""
    name: str | None
    mean: Channels
    std: Channels
    origin: Origin = UNKNOWN
    """of pretrained weights"""
    image_size: tuple[int, int] | None = None
    """(height, width) that was asked for or that the weights are of; the network's own if None"""

    def resized(self, image_size: tuple[int, int]) -> "Initialisation":
        """The same, ready for images of that size."""
        if max(image_size) > LARGEST_SIDE:
            raise UsageError(f"image size: expected at most {LARGEST_SIDE:,} pixels, got {max(image_size)}")
        resize(self.vit, image_size)
        return replace(self, image_size=image_size)

    def open(self, *, pooled: bool) -> AnyBackbone:
        """The backbone for a classifier; ``pooled``: tokens that cannot be selected will do.

        Raises:
            UsageError: the network cannot be used, or not for images of that size.
        """
        if pooled and refusal(self.vit) is not None:
            return PooledBackbone(self.vit, self.image_size)
        return Backbone(self.vit)  # type: ignore[arg-type]  # which it checks


def build_vit(
    backbone: str | Path | nn.Module, *, pretrained: bool, image_size: tuple[int, int] | None, pooled: bool = False
) -> Initialisation:
    """The transformer that ``backbone`` means, for ``image_size`` in pixels (its own where None).

    ``pooled``: the name may be that of any timm model, not of a transformer only.

    Raises:
        UsageError: an unknown name (the nearest are suggested), or weights that cannot be downloaded.
        CheckpointError: a weights file that is missing, damaged, or does not fit the architecture it names.
    """
    from ifam.model.hub_weights import is_hub_backbone, load_hub_backbone  # which build on this module

    if isinstance(backbone, str):
        backbone = EMBEDDED.get(backbone, backbone)
    if isinstance(backbone, nn.Module):
        start = _initialisation(copy.deepcopy(backbone), None, pooled=pooled)
    elif str(backbone).endswith(".json"):
        start = _initialisation(_described_vit(Path(backbone)), None, pooled=pooled)
    elif str(backbone).endswith(".safetensors"):
        start = _load_weights_file(Path(backbone), pretrained=pretrained, pooled=pooled)
    elif is_hub_backbone(str(backbone)):
        start = load_hub_backbone(str(backbone), pretrained=pretrained)
    else:
        model = create_timm_model(str(backbone), pretrained=pretrained, pooled=pooled, elsewhere=True)
        start = _initialisation(model, _own_name(str(backbone), model), pooled=pooled)
        start = replace(start, origin=_origin(str(backbone), model) if pretrained else UNKNOWN)
    return start if image_size is None else start.resized(image_size)


def create_timm_model(name: str, *, pretrained: bool, pooled: bool = True, elsewhere: bool = False) -> nn.Module:
    """``timm.create_model`` without a head, with errors of one line; where ``pooled``, they suggest any model.

    ``elsewhere``: the name may be that of a model on the hub or in a folder, as ``hf-hub:owner/name``: what the user
    asks for, and never what a file names, since to read a file would reach the network.
    """
    _check_name(name, "*" if pooled else "vit_*", elsewhere=elsewhere)
    try:
        if pretrained and not pooled and ":" not in name:
            with torch.device("meta"):  # before its weights are downloaded
                check_backbone(timm.create_model(name, pretrained=False))
        model: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except UsageError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if pretrained:
            raise UsageError(
                f"backbone {name}: its pretrained weights could not be had ({first_line(error)}); give the path of a "
                ".safetensors file, or pretrained=False for random weights"
            ) from error
        raise UsageError(f"backbone {name}: {first_line(error)}") from error
    return model


def _own_name(name: str, model: nn.Module) -> str | None:
    """Timm's name of a model that came from elsewhere, if it is as timm makes it: what is saved is rebuilt here."""
    if ":" not in name:
        return name
    architecture: str = (getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")
    if not timm.is_model(architecture):
        return None
    with torch.device("meta"):
        plain = timm.create_model(architecture, pretrained=False, num_classes=0)
        size = getattr(getattr(model, "patch_embed", None), "img_size", None)
        if size is not None:
            resize(plain, size)
    return architecture if same_structure(plain, model) else None


def _origin(name: str, model: nn.Module) -> Origin:
    """What timm says of its pretrained weights."""
    config = getattr(model, "pretrained_cfg", None) or {}
    own = ".".join(part for part in (config.get("architecture"), config.get("tag")) if part)
    return Origin.of_metadata({"source": name if ":" in name else f"timm/{own}", "license": config.get("license")})


def _check_name(name: str, suggested: str, *, elsewhere: bool) -> None:
    bare = name.split(".")[0]
    if timm.is_model(bare) or (elsewhere and ":" in name):
        return
    if Path(name).is_dir():
        raise UsageError(
            f"backbone: expected a timm model name, the path of a .safetensors file or a folder with a DINOv2 as "
            f"transformers writes it, got the folder {name!r} without config.json"
        )
    names = [*EMBEDDED, *timm.list_models(suggested)]
    near = difflib.get_close_matches(bare, names, n=3, cutoff=0.3)
    raise UsageError(
        f"backbone: expected a timm model name or the path of a .safetensors file, got {name!r}; "
        f"nearest names: {', '.join(near) or ', '.join(names[:3])}"
    )


def _described_vit(path: Path) -> VisionTransformer:
    """A transformer with random weights from a JSON file of timm's constructor arguments."""
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
        return vision_transformer(arguments)
    except Exception as error:  # odd arguments make timm and torch raise many kinds
        raise UsageError(
            f"backbone {path}: expected a JSON file of arguments of timm's VisionTransformer, got: {first_line(error)}"
            "; check the path and the arguments"
        ) from error


def _load_weights_file(path: Path, *, pretrained: bool, pooled: bool) -> Initialisation:
    state, metadata = read_safetensors(path)
    if not metadata.keys() & {"architecture", "arguments"}:
        raise CheckpointError(
            f"{path}: expected metadata that names the timm architecture (key 'architecture', or 'arguments' for those "
            f"of timm's VisionTransformer as JSON), got {sorted(metadata) or 'none'}; save the file with it, or pass a "
            "timm model"
        )
    try:
        start = _read_metadata(metadata, state if pretrained else None, path, pooled=pooled)
    except CheckpointError:
        raise
    except Exception as error:  # odd arguments make timm and torch raise many kinds
        reason = first_line(error)
        raise CheckpointError(f"{path}: expected metadata of a timm model, got odd ones: {reason}") from error
    if pretrained:
        load_state(start.vit, _without_classifier(state, start.vit), path)
        start = replace(start, origin=Origin.of_metadata(metadata))
    return start


def vision_transformer(
    arguments: Mapping[str, Any], state: Mapping[str, Tensor] | None = None, source: object = None
) -> VisionTransformer:
    """Timm's transformer of these arguments, which a file states, without a head.

    ``state``: the weights that go with them. They are compared first: a description alone could ask for any memory.
    """
    if arguments.get("depth", 0) > MOST_BLOCKS:
        raise UsageError(f"depth: expected at most {MOST_BLOCKS} blocks, got {arguments['depth']}")
    arguments = {**arguments, "num_classes": 0}
    if state is not None:
        with torch.device("meta"):  # shapes without memory
            expected = VisionTransformer(**arguments)
        check_state(expected.state_dict(), _without_classifier(state, expected), source)
    return VisionTransformer(**arguments)


def _without_classifier(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What a model without its classification layer holds, and what it should not hold."""
    own, layers = model.state_dict().keys(), (getattr(model, "pretrained_cfg", None) or {}).get("classifier", "head")
    heads = tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))
    return {key: value for key, value in state.items() if key in own or not key.startswith(heads)}


def _read_metadata(
    metadata: Mapping[str, str], state: Mapping[str, Tensor] | None, path: Path, *, pooled: bool
) -> Initialisation:
    """The architecture that a weights file names, with random weights."""
    name = metadata.get("architecture")
    if name is None:
        model: nn.Module = vision_transformer(json.loads(metadata["arguments"]), state, path)
    else:
        model = create_timm_model(name, pretrained=False, pooled=pooled)
    start = _initialisation(model, name, pooled=pooled)
    if "image_size" in metadata:
        start = start.resized((int(metadata["image_size"]), int(metadata["image_size"])))
    stated: dict[str, Any] = {key: tuple(json.loads(metadata[key])) for key in ("mean", "std") if key in metadata}
    return replace(start, **stated)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a weights file, found none; check the path")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return safetensors.torch.load_file(path), metadata
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected a whole .safetensors file, got a damaged one ({error})") from error


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """``load_state_dict`` that names what does not fit in one line.

    Raises:
        CheckpointError: keys or shapes differ: the checkpoint is of another architecture; or a weight is not finite.
    """
    check_state(module.state_dict(), state, source)
    wrong = next((name for name, value in state.items() if not value.isfinite().all()), None)
    if wrong is not None:
        raise CheckpointError(f"{source}: expected finite weights, got NaN or infinity in {wrong}; train it again")
    module.load_state_dict(state)


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: object) -> None:
    """Refuse weights that are not those of a model, by their names and shapes.

    Raises:
        CheckpointError: see above.
    """
    odd = next((name for name, value in state.items() if name in expected and not _is_as(value, expected[name])), None)
    if odd is not None:
        raise CheckpointError(
            f"{source}: expected weights of a floating-point type, got {state[odd].dtype} in {odd}; save the model anew"
        )
    problems = [f"lacks {name}" for name in expected if name not in state]
    problems += [f"has the unknown {name}" for name in state if name not in expected]
    problems += [
        f"has {name} of shape {tuple(state[name].shape)} where the model has {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 2} more" if len(problems) > 2 else ""
        raise CheckpointError(
            f"{source}: a checkpoint of another architecture: it {'; it '.join(problems[:2])}{more}; "
            "choose the backbone that it was made with"
        )


def _is_as(value: Tensor, expected: Tensor) -> bool:
    """Whether its type is that of a weight, or of the counter that the model has in that place."""
    return value.dtype in FLOATS if expected.is_floating_point() else value.dtype == expected.dtype


def describe_pooled(backbone: PooledBackbone) -> Architecture:
    """The timm name of a model that came as an instance.

    Raises:
        UsageError: the model of that name would differ, so that a saved model could not be loaded again.
    """
    architecture = Architecture(name=backbone.name)
    start = _initialisation(architecture.build(), backbone.name, pooled=True).resized(backbone.image_size)
    if not same_structure(start.open(pooled=True), backbone):
        raise UsageError(
            f"backbone: expected a model as timm.create_model({backbone.name!r}) makes it, got one made with further "
            "arguments, which could not be saved and loaded again; pass its timm name instead"
        )
    return architecture


def describe(vit: VisionTransformer) -> Architecture:
    """The constructor arguments of a transformer that came without a name.

    Raises:
        UsageError: the rebuilt transformer would differ, so that a saved model could not be loaded again.
    """
    block: Any = vit.blocks[0]
    norm = block.norm1
    arguments: dict[str, Any] = {
        "patch_size": list(vit.patch_embed.patch_size),
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim,
        "qkv_bias": block.attn.qkv.bias is not None,
        "qk_norm": not isinstance(block.attn.q_norm, nn.Identity),
        "proj_bias": block.attn.proj.bias is not None,
        "init_values": None if isinstance(block.ls1, nn.Identity) else 1e-5,
        "pos_embed": "none" if vit.pos_embed is None else "learn",
        "no_embed_class": vit.no_embed_class,
        "reg_tokens": 0 if vit.reg_token is None else vit.reg_token.shape[1],
        "pre_norm": not isinstance(vit.norm_pre, nn.Identity),
        "pos_drop_rate": vit.pos_drop.p,
        "proj_drop_rate": block.attn.proj_drop.p,
    }
    if getattr(norm, "eps", 1e-6) != 1e-6:
        raise UsageError(f"backbone: expected LayerNorm eps 1e-6 in an unnamed VisionTransformer, got {norm.eps}")
    rebuilt = VisionTransformer(**arguments, num_classes=0, img_size=vit.patch_embed.img_size)
    if _structure(rebuilt) != _structure(vit):
        raise UsageError(
            "backbone: expected a VisionTransformer that timm's constructor arguments describe, or one made by "
            "timm.create_model; this one could not be saved and loaded again: pass its timm name instead"
        )
    return Architecture(arguments=arguments)


def _structure(vit: VisionTransformer) -> tuple[list[Any], list[Any]]:
    state = [(name, tuple(value.shape)) for name, value in vit.state_dict().items() if not name.startswith("head.")]
    # with their options: dropout rates, eps, the kind of GELU
    layers = [repr(layer) for name, layer in vit.named_modules() if name and not name.startswith("head")]
    return state, layers


def _initialisation(vit: nn.Module, name: str | None, *, pooled: bool) -> Initialisation:
    if not pooled:
        check_backbone(vit)
    config = getattr(vit, "pretrained_cfg", None) or {}
    mean, std = tuple(config.get("mean") or IMAGENET_MEAN), tuple(config.get("std") or IMAGENET_STD)
    return Initialisation(vit=vit, name=name, mean=mean, std=std)
