import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ifam.errors import CheckpointError, UsageError
from ifam.model import build
from ifam.model.backbone import resize
from ifam.model.build import Architecture, build_vit, describe
from ifam.model.two_stage import IFAM
from ifam.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ifam.storage import load, save

NAME = "vit_tiny_patch16_224"
METADATA = {"architecture": NAME, "image_size": "224", "mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.1]"}
WriteFile = Callable[..., Path]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Half-precision weights, with those of a classification head that is not needed."""
    vit = timm.create_model(NAME, pretrained=False, num_classes=3)
    return {name: value.half() for name, value in vit.state_dict().items()}


@pytest.fixture
def write(weights: dict[str, Tensor], tmp_path: Path) -> WriteFile:
    def write(metadata: dict[str, str] | None, state: dict[str, Tensor] | None = None) -> Path:
        path = tmp_path / "backbone.safetensors"
        safetensors.torch.save_file(weights if state is None else state, path, metadata=metadata)
        return path

    return write


def test_a_weights_file_says_what_it_is(write: WriteFile, weights: dict[str, Tensor]) -> None:
    path = write(METADATA)
    start = build_vit(path, pretrained=True, image_size=None)
    assert (start.name, start.mean, start.std) == (NAME, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    for name, value in start.vit.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].float())
    random = build_vit(str(path), pretrained=False, image_size=None).vit
    assert not torch.equal(random.cls_token, start.vit.cls_token)


def test_a_model_takes_over_the_normalisation_of_its_weights_file(write: WriteFile) -> None:
    model = IFAM(write(METADATA), 2, 2, image_size=(32, 48), second_stage=False)
    assert model.backbone_name == NAME
    assert model.preprocessing.image_size == (32, 48)
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert model.stage1.vit.patch_embed.grid_size == (2, 3)


def test_a_tag_of_timm_is_not_claimed_for_other_weights(write: WriteFile) -> None:
    said = {"source": "encoder of another model: ViT-Ti/16 fine-tuned", "license": "MIT; upstream Apache-2.0"}
    model = IFAM(write(METADATA | {"architecture": f"{NAME}.augreg_in21k"} | said), 2, 2, second_stage=False)
    assert model.backbone_title == f"{NAME}; weights: {said['source']}; licence: {said['license']}"
    random = IFAM(f"{NAME}.augreg_in21k", 2, 2, pretrained=False, second_stage=False)
    assert random.backbone_title == f"{NAME}; weights: not known; licence: not known"


def test_a_weights_file_that_names_a_place_on_the_network(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    def reach(*arguments: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", reach)
    with refuses_line("hf-hub:someone/model", error=CheckpointError):
        build_vit(write(METADATA | {"architecture": "hf-hub:someone/model"}), pretrained=True, image_size=None)


def test_a_model_from_a_place_is_saved_without_it(tmp_path: Path) -> None:
    """The user may name one of the hub or a folder; what is saved of it is timm's name, which is rebuilt anywhere."""
    config = {"architecture": "test_vit", "pretrained_cfg": {"license": "cc0-1.0"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    model = IFAM(f"local-dir:{tmp_path}", 2, 2, image_size=48, second_stage=False)
    assert torch.equal(model.stage1.vit.cls_token, state["cls_token"])
    assert model.architecture == Architecture(name="test_vit")
    assert model.backbone_title == f"test_vit; weights: local-dir:{tmp_path}; licence: cc0-1.0"


def test_position_embeddings_of_another_size(write: WriteFile, weights: dict[str, Tensor]) -> None:
    state = weights | {"pos_embed": torch.randn(1, 1 + 2 * 2, 192)}
    vit = build_vit(write(METADATA | {"image_size": "32"}, state), pretrained=True, image_size=None).vit
    assert torch.equal(vit.pos_embed, state["pos_embed"])


def test_a_weights_file_without_a_timm_name(make_vit: Any, tmp_path: Path) -> None:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    vit = VisionTransformer(**arguments)
    path = tmp_path / "own.safetensors"
    metadata = {"arguments": json.dumps(arguments), "image_size": "32", "mean": "[0.5, 0.5, 0.5]"}
    safetensors.torch.save_file(vit.state_dict(), path, metadata=metadata)
    start = build_vit(path, pretrained=True, image_size=None)
    assert (start.name, start.mean, start.std) == (None, (0.5, 0.5, 0.5), IMAGENET_STD)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(start.vit.forward_features(images), vit.forward_features(images))
    model = IFAM(path, num_parts=2, num_classes=2).eval()
    save(model, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model")(images).logits, model(images).logits)


def test_the_embedded_backbone() -> None:
    """At most 4 million parameters and 8 MB, with a card; nothing is downloaded."""
    path = build.EMBEDDED["ifam-nano"]
    assert path.stat().st_size <= 8e6
    assert "Apache-2.0" in path.with_suffix(".md").read_text()
    start = build_vit("ifam-nano", pretrained=True, image_size=None)
    assert sum(parameter.numel() for parameter in start.vit.parameters()) <= 4e6
    assert start.vit.patch_embed.img_size == (112, 112)
    model = IFAM("ifam-nano", num_parts=1, num_classes=2).eval()
    assert model.stage1.grid((112, 112)) == (14, 14)
    with safetensors.safe_open(path, framework="pt") as file:
        assert torch.equal(model.stage1.vit.pos_embed, file.get_tensor("pos_embed").float())
    with pytest.raises(UsageError, match="ifam-nano"):
        build_vit("ifam-nan", pretrained=True, image_size=None)


def test_normalisation_is_imagenets_where_nothing_is_said(write: WriteFile, make_vit: Any) -> None:
    vit = make_vit()
    for backbone, mean in ((vit, IMAGENET_MEAN), (write({"architecture": NAME}), (0.5, 0.5, 0.5))):
        assert build_vit(backbone, pretrained=True, image_size=None).mean == mean, "timm's own for a named architecture"
    assert build_vit(vit, pretrained=True, image_size=None).std == IMAGENET_STD


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "architecture"),
        ({"format": "pt"}, "format"),
        ({"architecture": "vit_tiny_patch61_224"}, "vit_tiny_patch16_224"),
        ({"architecture": "resnet10t", "image_size": "64"}, "ResNet"),
        ({"architecture": "vit_tiny_patch16_384"}, "pos_embed"),
        ({"architecture": "vit_tiny_r_s16_p8_224"}, "patch embedding"),
        (METADATA | {"image_size": "large"}, "large"),
        (METADATA | {"mean": "grey"}, "Expecting value"),
        (METADATA | {"mean": "0.5"}, "float"),
        ({"arguments": "[3]"}, "odd"),
        ({"arguments": "{"}, "odd"),
        ({"arguments": '{"embed_dim": 7, "num_heads": 3}'}, "odd"),
        ({"arguments": '{"width": 7}'}, "width"),
        ({"arguments": '{"embed_dim": 24, "depth": 1, "num_heads": 3}'}, "another architecture"),
    ],
    ids=str,
)
def test_odd_metadata(metadata: dict[str, str] | None, said: str, write: WriteFile, refuses_line: Any) -> None:
    path = write(metadata)
    with refuses_line(path, said, error=CheckpointError):
        build_vit(path, pretrained=True, image_size=None)


def test_damaged_files(write: WriteFile, weights: dict[str, Tensor], tmp_path: Path, refuses_line: Any) -> None:
    load = partial(build_vit, pretrained=True, image_size=None)
    with refuses_line(tmp_path / "none.safetensors", "found none", error=CheckpointError):
        load(tmp_path / "none.safetensors")
    with refuses_line(tmp_path, error=CheckpointError):
        (tmp_path / "folder.safetensors").mkdir()
        load(tmp_path / "folder.safetensors")
    lacking = {name: value for name, value in weights.items() if name != "norm.bias"}
    with refuses_line("lacks norm.bias", error=CheckpointError):
        load(write(METADATA, lacking))
    with refuses_line("unknown extra", error=CheckpointError):
        load(write(METADATA, weights | {"extra": torch.zeros(1)}))
    path = write(METADATA)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:20], b"", b"x" * 5000):
        path.write_bytes(part)
        with refuses_line(path, "damaged", error=CheckpointError):
            load(path)


def test_what_cannot_be_used_is_refused_before_its_weights_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refuses_line: Any
) -> None:
    create = timm.create_model

    def offline(name: str, **options: Any) -> nn.Module:
        assert not options["pretrained"]
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    for name, said in (("resnet18", "ResNet"), ("vit_base_r26_s32_224", "another patch embedding")):
        with refuses_line("backbone", said):
            build_vit(name, pretrained=True, image_size=None, pooled=False)
    with refuses_line("backbone", str(tmp_path), "without config.json"):
        build_vit(tmp_path, pretrained=True, image_size=None, pooled=False)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host\nand a page of hints")

    monkeypatch.setattr(build.timm, "create_model", offline)
    with refuses_line(NAME, "no route to host", ".safetensors", "pretrained=False"):
        IFAM(NAME, 2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"img_size": (24, 40), "reg_tokens": 3, "no_embed_class": True, "init_values": 0.3},
        {"qk_norm": True, "qkv_bias": False, "proj_bias": False, "mlp_ratio": 2.5},
        {"pre_norm": True, "pos_embed": "none"},
        {"pos_drop_rate": 0.1, "proj_drop_rate": 0.2},
        {"patch_size": (4, 8)},
    ],
    ids=str,
)
@torch.inference_mode()
def test_a_described_transformer_computes_the_same(arguments: dict[str, Any], make_vit: Any) -> None:
    vit = make_vit(**arguments)
    architecture = describe(vit)
    stored = Architecture(**json.loads(json.dumps({"arguments": dict(architecture.arguments)})))
    rebuilt = stored.build()
    resize(rebuilt, vit.patch_embed.img_size)
    rebuilt.load_state_dict(vit.state_dict())
    images = torch.randn(2, 3, *vit.patch_embed.img_size)
    assert torch.equal(rebuilt.eval()(images), vit(images))
    vit.train(), rebuilt.train()
    torch.manual_seed(1)
    expected = vit(images)
    torch.manual_seed(1)
    assert torch.equal(rebuilt(images), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"norm_layer": partial(nn.LayerNorm, eps=1e-5)},
        {"act_layer": partial(nn.GELU, approximate="tanh")},
        {"act_layer": "relu"},
        {"in_chans": 4},
        {"global_pool": "avg"},
        {"scale_attn_norm": True},
        {"final_norm": False},
    ],
    ids=str,
)
def test_a_transformer_that_cannot_be_described_is_refused(
    arguments: dict[str, Any], make_vit: Any, refuses_line: Any
) -> None:
    with refuses_line("VisionTransformer"):
        describe(make_vit(**arguments))


def test_a_json_file_describes_a_transformer(tmp_path: Path) -> None:
    path = tmp_path / "vit.json"
    path.write_text('{"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}')
    assert IFAM(path, num_parts=2, num_classes=2).stage1.width == 24


@pytest.mark.parametrize("text", ["{", '{"heads": 3}', "[1]"])
def test_an_odd_json_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vit.json"
    path.write_text(text)
    said = r"vit\.json: expected a JSON file .*, got: .*; check the path and the arguments$"
    with pytest.raises(UsageError, match=said) as error:
        IFAM(path, num_parts=2, num_classes=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"embed_dim": 3 * 10**6},
        {"depth": 10**9},
        {"reg_tokens": 10**9},
        {"img_size": 10**6},
        {"num_heads": 0},
        {"evil": 1},
    ],
    ids=str,
)
def test_a_file_that_describes_more_than_it_holds(changes: dict[str, Any], tmp_path: Path, refuses_line: Any) -> None:
    """Refused before memory is taken: the first alone would need a hundred terabytes."""
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    state = VisionTransformer(**arguments, num_classes=0).state_dict()
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(state, path, metadata={"arguments": json.dumps(arguments | changes)})
    with refuses_line(path, error=CheckpointError):
        build_vit(path, pretrained=True, image_size=None)


def test_images_without_end(make_vit: Any, refuses_line: Any) -> None:
    with refuses_line("at most 10,000 pixels"):
        build_vit(make_vit(), pretrained=False, image_size=(10**6, 10**6))
