"""Folders as transformers writes them, made from timm's own transformer by renaming its parameters back by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ifam.errors import CheckpointError
from ifam.model.backbone import Backbone
from ifam.model.build import build_vit
from ifam.model.two_stage import IFAM
from ifam.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ifam.storage import load, save

CONFIG = {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32,
    "patch_size": 8, "mlp_ratio": 2, "qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-06,
    "num_channels": 3, "use_swiglu_ffn": False, "layerscale_value": 1.0,
}  # fmt: skip
REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 3}
WriteFolder = Callable[..., Path]


def as_transformers(vit: VisionTransformer, prefix: str = "") -> dict[str, Tensor]:
    """The parameters under the names of ``Dinov2Model``, with the mask token that only its pretraining needs."""
    theirs = {
        "embeddings.cls_token": vit.cls_token,
        "embeddings.mask_token": torch.zeros(1, 24),
        "embeddings.position_embeddings": vit.pos_embed,
        "embeddings.patch_embeddings.projection.weight": vit.patch_embed.proj.weight,
        "embeddings.patch_embeddings.projection.bias": vit.patch_embed.proj.bias,
        "layernorm.weight": vit.norm.weight,
        "layernorm.bias": vit.norm.bias,
    }
    if vit.reg_token is not None:
        # there the class token has a position of its own
        position = torch.randn(1, 1, 24)
        theirs["embeddings.register_tokens"] = vit.reg_token
        theirs["embeddings.cls_token"] = vit.cls_token - position
        theirs["embeddings.position_embeddings"] = torch.cat([position, vit.pos_embed], dim=1)
    for number, block in enumerate(vit.blocks):
        layer = f"encoder.layer.{number}"
        theirs |= {f"{layer}.layer_scale1.lambda1": block.ls1.gamma, f"{layer}.layer_scale2.lambda1": block.ls2.gamma}
        for kind in ("weight", "bias"):
            query, key, value = getattr(block.attn.qkv, kind).chunk(3)
            theirs |= {
                f"{layer}.norm1.{kind}": getattr(block.norm1, kind),
                f"{layer}.attention.attention.query.{kind}": query,
                f"{layer}.attention.attention.key.{kind}": key,
                f"{layer}.attention.attention.value.{kind}": value,
                f"{layer}.attention.output.dense.{kind}": getattr(block.attn.proj, kind),
                f"{layer}.norm2.{kind}": getattr(block.norm2, kind),
                f"{layer}.mlp.fc1.{kind}": getattr(block.mlp.fc1, kind),
                f"{layer}.mlp.fc2.{kind}": getattr(block.mlp.fc2, kind),
            }
    return {prefix + name: value.detach().clone().contiguous() for name, value in theirs.items()}


@pytest.fixture
def vit(make_vit: Any) -> VisionTransformer:
    made: VisionTransformer = make_vit(mlp_ratio=2, init_values=1e-5)
    return made


@pytest.fixture
def write(tmp_path: Path) -> WriteFolder:
    def write(state: dict[str, Tensor], **config: Any) -> Path:
        folder = tmp_path / "backbone"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(CONFIG | config))
        safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return write


@pytest.mark.parametrize("prefix", ["", "dinov2."])
@torch.inference_mode()
def test_the_folder_computes_what_the_transformer_does(prefix: str, vit: VisionTransformer, write: WriteFolder) -> None:
    state = as_transformers(vit, prefix) | ({"classifier.weight": torch.zeros(2, 48)} if prefix else {})
    start = build_vit(write(state), pretrained=True, image_size=None)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(Backbone(start.vit).eval()(images), Backbone(vit)(images))
    assert (start.name, start.mean, start.std) == (None, IMAGENET_MEAN, IMAGENET_STD)


@torch.inference_mode()
def test_registers_and_the_position_of_the_class_token(make_vit: Any, write: WriteFolder) -> None:
    vit = make_vit(mlp_ratio=2, init_values=1e-5, reg_tokens=3, no_embed_class=True)
    start = build_vit(
        write(as_transformers(vit, "dinov2_with_registers."), **REGISTERS), pretrained=True, image_size=None
    )
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(start.vit.eval().forward_features(images), vit.forward_features(images))


def test_the_statistics_of_its_images(vit: VisionTransformer, write: WriteFolder) -> None:
    folder = write(as_transformers(vit))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}')
    model = IFAM(folder, num_parts=2, num_classes=2)
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert model.preprocessing.image_size == (32, 32)


@torch.inference_mode()
def test_a_model_of_it_is_saved_and_loaded_without_it(
    vit: VisionTransformer, write: WriteFolder, tmp_path: Path
) -> None:
    folder = write(as_transformers(vit))
    model = IFAM(str(folder), num_parts=2, num_classes=2, image_size=48).eval()
    save(model, tmp_path / "model")
    for path in folder.iterdir():
        path.unlink()
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(load(tmp_path / "model")(images).logits, model(images).logits)


def test_without_pretraining_the_weights_are_random_and_not_needed(vit: VisionTransformer, write: WriteFolder) -> None:
    folder = write(as_transformers(vit))
    (folder / "model.safetensors").unlink()
    start = build_vit(folder, pretrained=False, image_size=(64, 32))
    assert start.vit.patch_embed.grid_size == (8, 4)
    assert not torch.equal(start.vit.cls_token, vit.cls_token)


def test_a_repository_of_the_hub(
    vit: VisionTransformer, write: WriteFolder, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(write(as_transformers(vit)))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    start = build_vit("hf:microsoft/rad-dino", pretrained=True, image_size=None)
    assert torch.equal(start.vit.cls_token, vit.cls_token)
    assert asked == [("microsoft/rad-dino", ["config.json", "preprocessor_config.json", "model.safetensors"])]

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no route to host\nand a page of hints")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with refuses_line("hf:microsoft/rad-dino", "no route to host", "check the name and the network", "config.json"):
        build_vit("hf:microsoft/rad-dino", pretrained=True, image_size=None)


def test_a_name_that_cannot_be_one_is_refused_without_a_network(refuses_line: Any) -> None:
    with refuses_line("hf:not/a/name", "check the name"):
        build_vit("hf:not/a/name", pretrained=True, image_size=None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "vit"}, ["dinov2 or dinov2_with_registers", "'vit'", "timm name"]),
        ({"use_swiglu_ffn": True}, ["use_swiglu_ffn False", "got True"]),
        ({"layer_norm_eps": 1e-12}, ["layer_norm_eps 1e-06", "1e-12"]),
        ({"hidden_act": "silu"}, ["hidden_act gelu", "'silu'"]),
        ({"num_channels": 1}, ["num_channels 3", "got 1"]),
        ({"hidden_size": "wide"}, ["config.json of dinov2", "odd"]),
        ({"hidden_size": 25}, ["config.json of dinov2", "odd"]),
        ({"patch_size": 0}, ["config.json of dinov2", "odd"]),
        ({"num_hidden_layers": 3}, ["another architecture", "lacks blocks.2"]),
        ({"image_size": 64}, ["another architecture", "pos_embed"]),
        ({"model_type": "dinov2_with_registers"}, ["expected num_register_tokens", "got none"]),
        (REGISTERS, ["another architecture", "lacks reg_token"]),
    ],
    ids=str,
)
def test_another_architecture(
    changes: dict[str, Any], said: list[str], vit: VisionTransformer, write: WriteFolder, refuses_line: Any
) -> None:
    folder = write(as_transformers(vit), **changes)
    with refuses_line(folder, *said, error=CheckpointError):
        build_vit(folder, pretrained=True, image_size=None)


def test_missing_and_damaged_files(vit: VisionTransformer, write: WriteFolder, refuses_line: Any) -> None:
    folder = write(as_transformers(vit))
    for name in ("config.json", "model.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with refuses_line(folder, f"got no {name}", error=CheckpointError):
            build_vit(folder, pretrained=True, image_size=None)
        (folder / name).write_bytes(content[:20])
        with refuses_line(folder, "damaged", error=CheckpointError):
            build_vit(folder, pretrained=True, image_size=None)
        (folder / name).write_bytes(content)
    for name, text, said in (
        ("preprocessor_config.json", '{"image_mean": 0.5}', "three numbers"),
        ("preprocessor_config.json", "{", "damaged"),
        ("config.json", "[]", "got list"),
    ):
        (folder / name).write_text(text)
        with refuses_line(folder, name, said, error=CheckpointError):
            build_vit(folder, pretrained=True, image_size=None)


def test_a_parameter_that_is_missing_is_named(vit: VisionTransformer, write: WriteFolder, refuses_line: Any) -> None:
    state = as_transformers(vit)
    del state["encoder.layer.1.attention.attention.key.bias"]
    folder = write(state)
    with refuses_line(folder, "lacks blocks.1.attn.qkv.bias", error=CheckpointError):
        build_vit(folder, pretrained=True, image_size=None)
