"""The certificate: it holds for models that keep the promise, and fails for those that do not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_image
from PIL import Image
from torch import Tensor

import ifam
from ifam.cli import main
from ifam.data.images import open_image
from ifam.data.transforms import test_transform as view_of
from ifam.errors import DataError, UsageError
from ifam.storage import save
from ifam.verify import changed_bits, mask_leakage, verify


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{number:02d}.png" for number in range(9)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return paths


def make(**options: Any) -> ifam.IFAM:
    torch.manual_seed(0)
    return ifam.IFAM("vit_tiny_patch16_224", 3, 2, 64, pretrained=False, **options).eval()


@pytest.mark.parametrize("batch_size", [4, 9])
def test_an_early_mask_holds(photographs: list[Path], batch_size: int) -> None:
    found = verify(make(), photographs, batch_size=batch_size)
    assert found.holds
    assert [changes.bits for changes in found.outside.values()] == [0, 0, 0]
    assert found.inside.images == found.with_evidence == found.num_images == 9
    assert 0 < found.mask_iou < 1
    assert found.leakage is None  # nine images are too few


@pytest.mark.parametrize(
    ("batch_size", "lenders"),
    [
        (1, [1, 0, 3, 2, 5, 4, 7, 6, 0]),  # two at a time, and the first lends to the ninth
        (2, [1, 0, 3, 2, 5, 4, 7, 6, 0]),
        (4, [3, 0, 1, 2, 7, 4, 5, 6, 0]),
        (9, [8, 0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
@torch.inference_mode()
def test_no_photograph_lends_itself_its_background(
    photographs: list[Path], batch_size: int, lenders: list[int]
) -> None:
    model = make()
    found = verify(model, photographs, batch_size=batch_size)
    view = view_of(model.preprocessing)
    images = torch.stack([view(open_image(path)) for path in photographs])
    overlaps = []
    for image, lender in zip(images, images[lenders], strict=True):
        mask = model(image[None]).mask[0]
        other = lender.clone()
        for row, column in mask.nonzero().tolist():
            place = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
            other[:, *place] = image[:, *place]
        anew = model(other[None]).mask[0]
        overlaps.append(float((mask & anew).sum() / (mask | anew).sum()))
    assert found.mask_iou == pytest.approx(sum(overlaps) / 9)


def test_bfloat16_holds_too(photographs: list[Path]) -> None:
    assert verify(make(), photographs, precision="bf16-mixed").holds


@pytest.mark.parametrize("options", [{"soft_masks": True}, {"second_stage": False}])
def test_soft_and_late_masks_do_not(photographs: list[Path], options: dict[str, bool]) -> None:
    found = verify(make(**options), photographs)
    assert not found.holds
    assert found.outside["noise"].images == 9
    assert found.outside["noise"].largest > 0
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_model_that_nothing_moves_is_no_proof(photographs: list[Path]) -> None:
    model = make()
    assert model.stage2 is not None
    torch.nn.init.zeros_(model.stage2.head.weight)
    found = verify(model, photographs)
    assert not found.outside["noise"].bits
    assert not found.holds


def test_bits_are_counted() -> None:
    before = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    after = torch.tensor([[1.0, -2.0], [3.0, 0.0]])  # the sign is one bit
    assert changed_bits(before, after) == [1, 0]
    assert changed_bits(before.bfloat16(), after.bfloat16()) == [1, 0]


class TestLeakage:
    masks = torch.rand(200, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    answers = torch.arange(200) % 2

    def test_a_mask_that_writes_the_answer_is_caught(self) -> None:
        masks = self.masks.clone()
        masks[:, 0, 0] = self.answers.bool()
        found = mask_leakage(masks, self.answers, ("a", "b"), seed=0)
        assert found is not None
        assert found.balanced_accuracy > 0.95
        assert found.is_suspicious

    def test_masks_that_say_nothing_are_at_chance(self) -> None:
        found = mask_leakage(self.masks, self.answers, ("a", "b"), seed=0)
        assert found is not None
        assert found.low < 0.5 < found.high
        assert found.chance == 0.5
        assert not found.is_suspicious

    def test_rare_answers_are_left_out(self) -> None:
        answers = self.answers.clone()
        answers[:5] = 2
        found = mask_leakage(self.masks, answers, ("a", "b", "c"), seed=0)
        assert found is not None
        assert (found.classes, found.num_images) == (("a", "b"), 195)
        assert mask_leakage(self.masks, torch.zeros(200, dtype=torch.long), ("a", "b"), seed=0) is None


class TestLeakageOfAModel:
    """Stage 1 is blind to red, and red is all that stage 2 answers by."""

    @pytest.fixture
    def coloured(self, tmp_path: Path) -> list[Path]:
        random = np.random.default_rng(0)
        paths = []
        for number in range(60):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            pixels[..., 0] = 255 * (number % 2)
            paths.append(write_image(tmp_path / f"coloured/{number:02d}.png", pixels))
        return paths

    @pytest.fixture
    @torch.no_grad()
    def model(self, make_model: Any, coloured: list[Path]) -> ifam.IFAM:
        built: ifam.IFAM = make_model(num_classes=2, class_names=["green", "red"])
        assert built.stage2 is not None
        built.stage1.vit.patch_embed.proj.weight[:, 0] = 0
        built.stage2.backbone.vit.patch_embed.proj.weight[:, 1:] = 0
        view = view_of(built.preprocessing)
        images = torch.stack([view(open_image(path)) for path in coloured])
        features = built.stage2.backbone.forward_selected(images, built(images).mask)
        direction, middle = features[1::2].mean(0) - features[::2].mean(0), features.mean(0)
        direction -= direction @ middle / (middle @ middle) * middle  # 0 half way, since there is no bias
        built.stage2.head.weight.copy_(torch.stack([-direction, direction]))
        assert (built(images).logits.argmax(1) == torch.arange(60) % 2).float().mean() > 0.9
        return built

    def test_masks_that_do_not_know_the_class_are_not_flagged(self, model: ifam.IFAM, coloured: list[Path]) -> None:
        found = verify(model, coloured)
        assert found.holds
        assert found.leakage is not None
        assert (found.leakage.classes, found.leakage.num_images) == (("green", "red"), 60)
        assert found.leakage.low <= found.leakage.chance <= found.leakage.high
        assert not found.leakage.is_suspicious

    def test_a_selector_that_writes_the_class_into_its_mask_is_flagged(
        self, model: ifam.IFAM, coloured: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        discover, select, red = model.discover, model.select, [torch.empty(0)]

        def look(images: Tensor) -> Any:
            red[0] = images[:, 0].mean((1, 2)) > 0
            return discover(images)

        def write(discovery: Any, **options: Any) -> Any:
            selection = select(discovery, **options)
            mask = selection.mask.clone()
            mask[:, 0, 0] = red[0]  # one patch of sixteen
            return replace(selection, mask=mask, weights=mask.float())

        monkeypatch.setattr(model, "discover", look)
        monkeypatch.setattr(model, "select", write)
        found = verify(model, coloured)
        assert found.holds  # given the mask, nothing outside it counts: that is what the leak hides behind
        assert found.leakage is not None
        assert found.leakage.is_suspicious
        assert found.leakage.chance < found.leakage.low <= found.leakage.balanced_accuracy <= found.leakage.high


class TestCommand:
    def test_certificate(self, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        save(make(), tmp_path / "run")
        file = tmp_path / "certificate.json"
        assert main(["verify", str(tmp_path / "run"), str(photographs[0].parent), "--json", str(file)]) == 0
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["holds"]
        assert content["outside"]["infinity"] == {"images": 0, "bits": 0, "largest": 0.0}
        assert len(content["model_sha256"]) == len(content["images_sha256"]) == 64
        out = capsys.readouterr().out
        assert "holds: no pixel outside the mask changed a bit of any prediction" in out
        assert "mask leakage: not measured" in out

    def test_a_broken_promise_is_an_exit_status(
        self, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save(make(soft_masks=True), tmp_path / "run")
        assert main(["verify", str(tmp_path / "run"), str(photographs[0].parent)]) == 1
        said = capsys.readouterr()
        assert "does not hold: pixels outside the mask changed predictions" in said.out
        assert "error: verify: the prediction does not rest on the mask alone" in said.err


def test_bad_input(photographs: list[Path]) -> None:
    with pytest.raises(UsageError, match="expected two images or more"):
        verify(make(), photographs[:1])
    plain: Any = ifam.PlainClassifier("resnet18", num_classes=2, image_size=64, pretrained=False)
    with pytest.raises(UsageError, match="expected a model with parts, got a PlainClassifier"):
        verify(plain, photographs)
    for seed in (-1, 2**32):
        with pytest.raises(UsageError, match=f"seed: expected a number from 0 to 4294967295, got {seed}"):
            verify(make(), photographs, seed=seed)
    photographs[3].write_bytes(b"")
    with pytest.raises(DataError, match=r"03\.png: .*; replace it or take it out$"):
        verify(make(), photographs)
