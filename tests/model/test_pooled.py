"""Any timm model as the backbone of a plain classifier, against timm's own forward pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from ifam.errors import CheckpointError
from ifam.model.backbone import Backbone, patch_size, whole_patches
from ifam.model.base import Classifier
from ifam.model.build import build_vit
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.pooled import PooledBackbone
from ifam.model.two_stage import IFAM
from ifam.storage import DESCRIPTION, WEIGHTS, load, save

pytestmark = [  # of timm, for windows of another size
    pytest.mark.filterwarnings(f"ignore:{said}") for said in ("Using a non-tuple sequence", "torch.searchsorted")
]
CONVOLUTIONAL = ["test_resnet", "test_convnext", "test_efficientnet", "test_nfnet"]
WITH_GRID = ["test_maxvit", "test_vit_relpos", "vit_tiny_r_s16_p8_224"]  # windows, no class token, a hybrid
ONE_SIZE = "mixer_s32_224"


def make(name: str = "test_resnet", **options: Any) -> PlainClassifier:
    """A plain classifier with random weights, and batch statistics that are not the initial ones."""
    model = PlainClassifier(name, 3, pretrained=False, **options)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval()


def timms(model: PlainClassifier, **options: Any) -> Any:
    """The same network as timm makes it, with the same weights."""
    network = timm.create_model(model.backbone_name, pretrained=False, num_classes=0, **options)
    network.load_state_dict(model.backbone.model.state_dict())
    return network.eval()


def state_of_batches(module: nn.Module) -> list[Tensor]:
    return [value.clone() for name, value in module.named_buffers() if "running" in name or "tracked" in name]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("size", [(64, 64), (50, 71)], ids=str)
@torch.inference_mode()
def test_the_summary_is_timms_output(name: str, size: tuple[int, int]) -> None:
    model, images = make(name, image_size=64), torch.randn(2, 3, *size)
    expected = timms(model)(images)
    backbone = model.backbone
    assert isinstance(backbone, PooledBackbone)
    assert torch.equal(backbone.summary(images), expected)
    assert torch.equal(backbone(images), expected)
    assert backbone.width == expected.shape[1]
    scores = model.classifier.head(nn.functional.layer_norm(expected, [backbone.width]))
    torch.testing.assert_close(model(images).logits, scores)


@pytest.mark.parametrize("name", WITH_GRID)
@torch.inference_mode()
def test_the_summary_of_a_resized_grid_is_timms(name: str) -> None:
    model, images = make(name, image_size=(64, 96)), torch.randn(2, 3, 64, 96)
    assert model.backbone.image_size == (64, 96)
    expected = timms(model, img_size=(64, 96))(images)
    assert torch.equal(model.backbone.summary(images), expected)
    height, _ = model.backbone.patch_size
    model.set_image_size((64 - height + 1, 96))  # an incomplete last row of patches is filled with the mean colour
    assert model.preprocessing.image_size == (64 - height + 1, 96)
    assert torch.equal(
        model.backbone.summary(images[:, :, : -height + 1]), model.backbone.summary(images * filled(height))
    )


def filled(height: int) -> Tensor:
    """One where an image of 64 rows keeps its pixels, zero in the rows that are made up."""
    return (torch.arange(64) < 64 - height + 1).float()[:, None]


def test_sizes_and_channels() -> None:
    backbone = make().backbone
    assert (backbone.image_size, backbone.patch_size, backbone.in_channels) == ((160, 160), (1, 1), 3)
    assert backbone.dtype == torch.float32
    assert make().to(torch.bfloat16).backbone.summary(torch.zeros(1, 3, 64, 64)).dtype == torch.bfloat16
    assert make("test_maxvit").backbone.patch_size == (32, 32)
    assert make("vit_tiny_r_s16_p8_224").backbone.patch_size == (32, 32)  # a stem of 4, then patches of 8
    assert make("efficientvit_m0").backbone.patch_size == (32, 32)  # a stride of 64, but 224 is its own size
    swin = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=12, num_heads=(1, 1, 1, 1))
    assert patch_size(swin) == (32, 32)
    assert whole_patches((33, 64), (32, 32)) == (64, 64)


@pytest.mark.parametrize(
    ("name", "kind"), [("test_vit", Backbone), ("test_vit_relpos", PooledBackbone), ("test_resnet", PooledBackbone)]
)
def test_plain_transformers_stay_opened(name: str, kind: type) -> None:
    model = make(name)
    assert type(model.backbone) is kind
    inner = "vit" if kind is Backbone else "model"
    assert {".".join(key.split(".")[:3]) for key in model.state_dict() if "backbone" in key} == {
        f"classifier.backbone.{inner}"
    }


@pytest.mark.parametrize("with_rates", [False, True])
def test_batch_statistics_move_only_where_something_is_trained(with_rates: bool) -> None:
    model = make().train().requires_grad_(False)
    if with_rates:
        model.backbone.model.conv1[0].weight.requires_grad_()
    before = state_of_batches(model)
    assert len(before) > 10
    model(torch.randn(4, 3, 64, 64))  # frozen after train(): the loop does not call it again
    moved = [not torch.equal(*pair) for pair in zip(before, state_of_batches(model), strict=True)]
    assert any(moved) == with_rates
    model.train()
    assert model.training
    assert model.backbone.training == with_rates
    assert {layer.training for layer in model.backbone.modules()} == {with_rates}


def test_building_and_resizing_leave_batch_statistics_and_the_mode_alone() -> None:
    network = timm.create_model("test_resnet", pretrained=False)
    before = state_of_batches(network)
    model = PlainClassifier(network, 2)
    model.set_image_size((64, 64))
    assert all(torch.equal(*pair) for pair in zip(before, state_of_batches(model), strict=True))
    assert {layer.training for layer in model.modules()} == {True}
    model.eval().set_image_size((32, 32))
    assert {layer.training for layer in model.modules()} == {False}
    assert network.num_classes == 1000, "the given network is copied"


@torch.inference_mode()
def test_nothing_that_a_model_cached_in_eval_mode_outlives_its_weights() -> None:
    """LeViT and its kin keep attention biases, which only ``train`` forgets; Lightning sets the modes by hand."""
    model, images = make("efficientvit_m0"), torch.randn(2, 3, 224, 224)
    model(images)
    for layer in model.modules():
        layer.training = True
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention_biases" in name:
                parameter.add_(torch.randn_like(parameter))
        model(images)
    for layer in model.modules():
        layer.training = False
    torch.testing.assert_close(model.backbone(images), timms(model)(images))


@pytest.mark.parametrize("name", ["test_resnet", "test_maxvit"])
@pytest.mark.parametrize("by_name", [True, False])
@torch.inference_mode()
def test_save_and_load(name: str, by_name: bool, tmp_path: Path) -> None:
    source = name if by_name else timm.create_model(name, pretrained=False, num_classes=7)
    model = PlainClassifier(source, 3, image_size=(64, 96), pretrained=False, class_names=["a", "b", "c"]).eval()
    assert model.backbone_name == (name if by_name else None)
    save(model, tmp_path / "model")
    loaded, images = load(tmp_path / "model"), torch.randn(2, 3, 64, 96)
    assert isinstance(loaded, PlainClassifier)
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert loaded.preprocessing == model.preprocessing
    assert (loaded.backbone_name, loaded.backbone.image_size) == (name, (64, 96))
    save(loaded, tmp_path / "again")
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.mark.parametrize(
    ("name", "options"), [("test_resnet", {"drop_rate": 0.2}), ("test_vit_relpos", {"num_heads": 1})], ids=str
)
def test_an_instance_that_its_name_does_not_describe(
    name: str, options: dict[str, Any], tmp_path: Path, refuses_line: Any
) -> None:
    model = PlainClassifier(timm.create_model(name, pretrained=False, **options), 2)
    with refuses_line("backbone", name, "further arguments"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_instances_without_a_name_are_refused(make_vit: Any, tmp_path: Path, refuses_line: Any) -> None:
    for module in (nn.Linear(2, 2), make_vit(class_token=False, global_pool="avg")):
        with refuses_line("backbone", "timm.create_model", type(module).__name__):
            PlainClassifier(module, 2)
    description = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "drop_path_rate": 0.1}
    (tmp_path / "vit.json").write_text(json.dumps(description))
    with refuses_line("backbone", "without the name"):
        PlainClassifier(tmp_path / "vit.json", 2)


def test_a_model_that_does_not_pool_is_refused(refuses_line: Any) -> None:
    with refuses_line("backbone", "pools", "test_resnet"):
        PlainClassifier(timm.create_model("test_resnet", pretrained=False, global_pool=""), 2)


@pytest.mark.parametrize("classifier", [IFAM, MaskedClassifier])
def test_models_with_masks_need_selectable_tokens(classifier: type[Classifier], refuses_line: Any) -> None:
    options: dict[str, Any] = {"num_classes": 2, "pretrained": False}
    options |= {"masking": "early"} if classifier is MaskedClassifier else {}
    for backbone in ("test_resnet", timm.create_model("test_resnet", pretrained=False)):
        with refuses_line("backbone: expected a timm VisionTransformer, got ResNet"):
            classifier(backbone, **options)
    with refuses_line("vit_tiny_patch16_224"):
        classifier("vit_tiny_patch61_224", **options)


def test_the_nearest_names_are_of_all_models(refuses_line: Any) -> None:
    with refuses_line("resnet50", "nearest"):
        PlainClassifier("resnet_50", 2)
    with refuses_line("ifam-nano"):
        PlainClassifier("ifam-nan", 2)


def test_sizes_that_a_model_cannot_take(refuses_line: Any) -> None:
    model = make(ONE_SIZE)
    with refuses_line("image size", "its own 224 × 224", "got 96 × 64", ONE_SIZE):
        model.set_image_size((96, 64))
    with refuses_line("image size", "its own 224 × 224", "got 96 × 64", ONE_SIZE):
        model(torch.zeros(1, 3, 96, 64))
    with refuses_line("image size", "its own 224 × 224", "got 96 × 96", ONE_SIZE):
        make(ONE_SIZE, image_size=96)
    assert model(torch.zeros(1, 3, 224, 224)).logits.shape == (1, 3)
    with refuses_line("image size", "test_convnext", "got 8 × 8"):
        make("test_convnext").set_image_size((8, 8))
    with refuses_line("images", "(B, 3, height, width)"):
        make()(torch.zeros(1, 4, 64, 64))


@pytest.mark.parametrize("name", ["test_convnext", "test_maxvit"])
@torch.inference_mode()
def test_weights_files(name: str, tmp_path: Path) -> None:
    """With the classification layer, which is not needed; ConvNeXt's last norm lies beside it."""
    network = timm.create_model(
        name, pretrained=False, num_classes=5, **({"img_size": 64} if "max" in name else {})
    ).eval()
    path, images = tmp_path / "own.safetensors", torch.randn(2, 3, 64, 64)
    metadata = {"architecture": name, "image_size": "64", "mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.1]"}
    safetensors.torch.save_file(network.state_dict(), path, metadata=metadata)
    model = PlainClassifier(path, 2).eval()
    assert model.backbone_name == name
    assert (model.backbone.image_size, model.preprocessing.image_size) == ((64, 64), (64, 64))
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    network.reset_classifier(0)
    assert torch.equal(model.backbone.summary(images), network(images))
    with pytest.raises(CheckpointError, match="VisionTransformer"):
        build_vit(path, pretrained=True, image_size=None)
    safetensors.torch.save_file(make("test_resnet").backbone.model.state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="another architecture"):
        PlainClassifier(path, 2)


def test_normalisation_is_that_of_the_model() -> None:
    config = timm.get_pretrained_cfg("test_convnext")
    preprocessing = make("test_convnext").preprocessing
    assert (preprocessing.mean, preprocessing.std) == (config.mean, config.std)
    assert preprocessing.image_size == (160, 160)


@pytest.mark.parametrize("name", ["test_resnet", "test_maxvit", "vit_tiny_r_s16_p8_224"])
def test_the_last_feature_map(name: str) -> None:
    backbone, images = make(name, image_size=(96, 64)).backbone, torch.randn(2, 3, 96, 64)
    captured: list[Tensor] = []
    hook = backbone.last_features.register_forward_hook(lambda layer, inputs, output: captured.append(output))
    backbone(images)
    hook.remove()
    maps = backbone.feature_grid(captured[0], images)
    assert maps.shape[0] == 2
    assert maps.shape[2] * 2 == maps.shape[3] * 3
    if name == "test_resnet":
        torch.testing.assert_close(maps.mean((2, 3)), backbone(images))


def test_a_model_without_named_feature_maps(refuses_line: Any) -> None:
    backbone = make().backbone
    with refuses_line("backbone", "grid", "test_resnet"):
        backbone.feature_grid(torch.zeros(1, 11, 4), torch.zeros(1, 3, 64, 64))
    backbone.model.feature_info = []
    with refuses_line("backbone", "feature maps", "test_resnet"):
        _ = backbone.last_features
