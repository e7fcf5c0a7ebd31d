"""Every number of the reference implementation, from both forms of its checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from ifam.losses import functional as losses
from ifam.losses.equivariance import RigidTransform
from ifam.model.reference import load_reference
from ifam.model.two_stage import IFAM

DATA = Path(__file__).parent / "data"
ARGUMENTS = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "init_values", "reg_tokens", "no_embed_class")

LOSSES = {
    "total_variation": losses.total_variation,
    "entropy": losses.entropy,
    "concentration": losses.concentration,
    "presence_original": losses.foreground_presence,
    "presence_soft_constraint_beta0.1": lambda maps: losses.foreground_presence(maps, "soft_constraint", beta=0.1),
    "presence_tanh": lambda maps: losses.foreground_presence(maps, "tanh"),
    "presence_soft_tanh": lambda maps: losses.foreground_presence(maps, "soft_tanh"),
    "background_presence_enforced_presence": losses.background_presence,
    "background_presence_log": lambda maps: losses.background_presence(maps, "log"),
    "background_presence_linear": lambda maps: losses.background_presence(maps, "linear"),
    "background_presence_mse": lambda maps: losses.background_presence(maps, "mse"),
}


class Case:
    def __init__(self, folder: Path, checkpoint: str) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.expected = load_file(folder / "expected.safetensors")
        vit = VisionTransformer(num_classes=0, **{name: self.config[name] for name in ARGUMENTS})
        self.model: IFAM = load_reference(folder / checkpoint, backbone=vit)

    def assert_close(self, name: str, actual: Tensor) -> None:
        expected = self.expected[name]
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))

    def assert_mask(self, name: str, mask: Tensor) -> None:
        assert mask.dtype == torch.bool
        assert torch.equal(mask, self.expected[name].bool())


@pytest.fixture(
    params=[
        (model, file)
        for model in ("plain_vit", "dinov2_registers")
        for file in ("checkpoint.safetensors", "snapshot_best.pt")
    ],
    ids="-".join,
)
def case(request: pytest.FixtureRequest) -> Case:
    folder, checkpoint = request.param
    return Case(DATA / folder, checkpoint)


@torch.inference_mode()
def test_stage1(case: Case) -> None:
    model, images = case.model, case.expected["image"]
    tokens = model.stage1(images)[:, model.stage1.num_prefix_tokens :]
    case.assert_close("stage1.patch_tokens", tokens)
    dots = (tokens @ model.prototypes.T).transpose(1, 2)
    case.assert_close("stage1.part_dot_products", dots.unflatten(2, model.stage1.grid(images.shape[2:])))
    out = model(images)
    case.assert_close("stage1.part_logits", out.part_logits)
    case.assert_close("stage1.part_maps", out.part_maps)
    case.assert_close("stage1.part_features_modulated", out.part_features)
    case.assert_close("stage1.logits_per_part", out.stage1_part_logits)
    case.assert_close("stage1.logits", out.stage1_logits)
    case.assert_mask("stage1.mask_hard", out.mask)


@torch.inference_mode()
def test_stage2(case: Case) -> None:
    model, images, mask = case.model, case.expected["image"], case.expected["given_mask"].bool()
    case.assert_close("stage2.logits", model(images).logits)
    case.assert_close("stage2.logits_given_mask", model.classify(images, mask))
    case.assert_close("stage2.logits_given_mask", model(images, mask=mask).logits)
    assert model.stage2 is not None
    case.assert_close("stage2.logits_given_mask", model.stage2.forward_masked(images, mask))


@torch.inference_mode()
def test_soft_masks(case: Case) -> None:
    model, images = case.model, case.expected["image"]
    model.soft_masks = True
    case.assert_close("stage1.mask_soft", model.select(model.discover(images)).weights)
    case.assert_close("soft.stage2.logits", model(images).logits)


@pytest.mark.parametrize("parts", [[0], [1, 2]], ids=str)
@torch.inference_mode()
def test_removed_parts(case: Case, parts: list[int]) -> None:
    out = case.model(case.expected["image"], remove_parts=parts)
    name = "_".join(["remove", *map(str, parts)])
    case.assert_mask(f"{name}.mask_hard", out.mask)
    case.assert_close(f"{name}.stage2.logits", out.logits)


@pytest.fixture(params=["plain_vit", "dinov2_registers"])
def once(request: pytest.FixtureRequest) -> Case:
    return Case(DATA / request.param, "checkpoint.safetensors")


def test_losses(once: Case) -> None:
    maps = once.expected["losses.maps"]
    actual = {name: float(loss(maps)) for name, loss in LOSSES.items()}
    actual["orthogonality"] = float(losses.orthogonality(once.expected["losses.features"]))
    expected = {name: value for name, value in once.config["losses"].items() if name != "equivariance"}
    assert actual == pytest.approx(expected, abs=1e-5)


def move_back(maps: Tensor, angle: float, shift: list[float], scale: float) -> Tensor:
    """The reference's back-transform: undo the shift in pixels of the map, then rotate and scale back."""
    nearest = {"shear": [0.0], "interpolation": InterpolationMode.NEAREST}
    maps = affine(maps, angle=0.0, translate=[-part for part in shift], scale=1.0, **nearest)
    return affine(maps, angle=-angle, translate=[0, 0], scale=1 / scale, **nearest)


@torch.inference_mode()
def test_equivariance(once: Case) -> None:
    images, transform = once.expected["image"], once.config["equivariance_transform"]
    pixels, size = transform["translate_pixels"], once.config["img_size"]
    view = RigidTransform(
        angle=transform["angle_degrees"], shift=(pixels[0] / size, pixels[1] / size), scale=transform["scale"]
    ).apply(images)
    once.assert_close("equivariance.image_transformed", view)
    maps, maps_of_view = (once.model.discover(batch).part_maps for batch in (images, view))
    once.assert_close("equivariance.maps_transformed", maps_of_view)
    grid = maps.shape[-1]
    back = move_back(
        maps_of_view, transform["angle_degrees"], [part * grid / size for part in pixels], transform["scale"]
    )
    assert float(losses.equivariance(maps, back)) == pytest.approx(once.config["losses"]["equivariance"], abs=1e-5)
