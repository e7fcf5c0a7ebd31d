"""The certificate: it holds for models that keep the promise, and fails for those that do not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ifam
from ifam.cli import main
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
    photographs[3].write_bytes(b"")
    with pytest.raises(DataError, match=r"03\.png"):
        verify(make(), photographs)
