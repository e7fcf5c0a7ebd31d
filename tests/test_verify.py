"""The certificate: it holds for models that keep the promise, and fails for those that do not."""

import hashlib
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
from ifam.data.table import table_of_files
from ifam.data.transforms import test_transform as view_of
from ifam.errors import DataError, UsageError
from ifam.model.masked import MaskedClassifier
from ifam.storage import save
from ifam.verify import Certificate, lend, mask_leakage, verify
from ifam.verify.audit import changed_bits


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


@pytest.mark.parametrize("batch_size", [1, 4, 40])
def test_an_early_mask_holds(photographs: list[Path], batch_size: int) -> None:
    found = verify(make(), photographs, batch_size=batch_size)
    assert found.holds
    assert [changes.bits for changes in found.outside.values()] == [0, 0, 0]
    assert found.inside.images == found.with_evidence == found.num_images == 9
    assert 0 < found.mask_iou < 1
    assert found.leakage is None  # nine images are too few


def test_evidence_in_pixels_holds_to_the_outline(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = verify(make(evidence="pixels"), photographs)
    assert found.holds
    assert [changes.bits for changes in found.outside.values()] == [0, 0, 0]
    assert found.inside.images == found.with_evidence == 9
    save(make(evidence="pixels"), tmp_path / "model")
    assert main(["verify", str(tmp_path / "model"), *map(str, photographs)]) == 0
    assert "holds: no pixel outside the outline changed a bit of any prediction" in capsys.readouterr().out
    whole_patches = ifam.IFAM.classify
    monkeypatch.setattr(
        ifam.IFAM, "classify", lambda self, images, mask, pixels=None: whole_patches(self, images, mask)
    )
    doctored = verify(make(evidence="pixels"), photographs)
    assert not doctored.holds
    assert doctored.outside["another photograph"].images > 0


class TestLending:
    @pytest.mark.parametrize("counts", [(5, 5), (8, 2), (4, 3, 2)])
    def test_across_answers_and_evenly(self, counts: tuple[int, ...]) -> None:
        answers = np.repeat(np.arange(len(counts)), counts)
        lenders = lend(answers, 2, seed=3)
        assert (answers[lenders] != answers).all()
        for answer in range(len(counts)):
            lent = np.bincount(lenders[0, answers == answer], minlength=len(answers))[answers != answer]
            assert lent.max() - lent.min() <= 1  # of those that can lend, none lends twice before all have once
        assert (lenders[0] != lenders[1]).all()

    def test_one_answer_for_all(self) -> None:
        lenders = lend(np.zeros(4, dtype=np.int64), 3, seed=0)
        assert (lenders != np.arange(4)).all()
        assert [sorted(each) for each in lenders.tolist()] == [[0, 1, 2, 3]] * 3

    def test_the_seed_decides(self) -> None:
        answers = np.arange(40) % 2
        first, again, other = (lend(answers, 1, seed=seed) for seed in (0, 0, 1))
        assert (first == again).all()
        assert (first != other).any()


@torch.inference_mode()
def test_other_backgrounds_by_hand(photographs: list[Path]) -> None:
    """Patch by patch, with the lenders of the audit."""
    model = make()
    found = verify(model, photographs, seed=5)
    view = view_of(model.preprocessing)
    paths = sorted(photographs, key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
    images = torch.stack([view(open_image(path)) for path in paths])
    answers, masks = model(images).logits.argmax(1), model(images).mask
    overlaps, moved = [], []
    lent = lend(answers.numpy(), 3, seed=5)
    for turn in range(3):
        for row in range(len(images)):
            mask = masks[row]
            other = torch.zeros_like(images[row])
            for y, x in np.ndindex(4, 4):
                place = slice(16 * y, 16 * y + 16), slice(16 * x, 16 * x + 16)
                lenders = [lent[(turn + later) % 3, row] for later in range(3)]
                free = [lender for lender in lenders if not masks[lender, y, x]]
                if mask[y, x]:
                    other[:, *place] = images[row][:, *place]
                elif free:
                    other[:, *place] = images[free[0]][:, *place]
            anew = model(other[None])
            overlaps.append(float((mask & anew.mask[0]).sum() / (mask | anew.mask[0]).sum()))
            moved.append(bool(anew.logits.argmax() != answers[row]))
    assert found.mask_iou == pytest.approx(np.mean(overlaps))
    assert found.answers_moved == pytest.approx(np.mean(moved))


def test_the_order_of_the_files_and_their_names_change_no_digit(photographs: list[Path], tmp_path: Path) -> None:
    def findings(paths: list[Path]) -> dict[str, Any]:
        return {name: value for name, value in verify(make(), paths).to_dict().items() if name != "photographs"}

    first = findings(photographs)
    assert first == findings(photographs[::-1])
    renamed = [path.rename(tmp_path / f"{9 - number}.png") for number, path in enumerate(photographs)]
    assert first == findings(renamed)


def test_a_sample_is_the_same_whatever_the_order(photographs: list[Path]) -> None:
    found = verify(make(), photographs, sample=4)
    again = verify(make(), photographs[::-1], sample=4)
    assert (found.num_images, found.photographs) == (4, again.photographs)


def test_copies_are_refused(photographs: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(photographs[2].read_bytes())
    with pytest.raises(DataError, match=r"expected every photograph once, got 1 copy, the first is .*02\.png"):
        verify(make(), [*photographs, copy])


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
    masks = torch.rand(400, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    answers = torch.arange(400) % 2

    def test_a_mask_that_writes_the_answer_is_caught(self) -> None:
        masks = self.masks.clone()
        masks[:, 0, 0] = self.answers.bool()
        found = mask_leakage(masks, self.answers, ("a", "b"), seed=0)
        assert found is not None
        assert min(found.linear.estimate or 0, found.nonlinear.estimate or 0) > 0.95
        assert found.is_suspicious

    def test_a_code_of_two_patches_is_caught_by_the_second_classifier_alone(self) -> None:
        masks = self.masks.clone()
        coin = torch.rand(400, generator=torch.Generator().manual_seed(1)) < 0.5
        masks[:, 0, 0], masks[:, 5, 5] = coin, coin ^ self.answers.bool()
        found = mask_leakage(masks, self.answers, ("a", "b"), seed=0)
        assert found is not None
        assert (found.linear.estimate or 1) < 0.65
        assert (found.nonlinear.estimate or 0) > 0.9
        assert found.best is found.nonlinear
        assert found.is_suspicious

    def test_masks_that_say_nothing_are_at_chance(self) -> None:
        found = mask_leakage(self.masks, self.answers, ("a", "b"), seed=0)
        assert found is not None
        for interval in (found.linear, found.nonlinear):
            assert interval.low is not None
            assert interval.high is not None
            assert interval.low < 0.5 < interval.high
        assert found.chance == 0.5
        assert not found.is_suspicious

    def test_rare_answers_are_left_out(self) -> None:
        answers = self.answers.clone()
        answers[:5] = 2
        found = mask_leakage(self.masks, answers, ("a", "b", "c"), seed=0)
        assert found is not None
        assert (found.classes, found.num_images) == (("a", "b"), 395)
        assert mask_leakage(self.masks, torch.zeros(400, dtype=torch.long), ("a", "b"), seed=0) is None


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
        assert not found.leakage.is_suspicious
        assert not found.mask_decides
        filled = found.mask_alone["other photographs"]
        assert (filled.stays.estimate or 0) < 0.2  # the other colour is what lies in the mask then
        assert not found.background_decides
        assert not found.is_suspicious

    @pytest.fixture
    def selects_by_red(self, model: ifam.IFAM, monkeypatch: pytest.MonkeyPatch) -> ifam.IFAM:
        """One patch of sixteen is selected where the image is red, and its neighbour where it is not."""
        discover, select, red = model.discover, model.select, [torch.empty(0)]

        def look(images: Tensor) -> Any:
            red[0] = images[:, 0].mean((1, 2)) > 0
            return discover(images)

        def write(discovery: Any, **options: Any) -> Any:
            selection = select(discovery, **options)
            mask = selection.mask.clone()
            mask[:, 0, 0], mask[:, 0, 1] = red[0], ~red[0]
            return replace(selection, mask=mask, weights=mask.float())

        monkeypatch.setattr(model, "discover", look)
        monkeypatch.setattr(model, "select", write)
        return model

    def test_a_selector_that_writes_the_class_into_its_mask_is_flagged(
        self, selects_by_red: ifam.IFAM, coloured: list[Path]
    ) -> None:
        found = verify(selects_by_red, coloured)
        assert found.holds  # given the mask, nothing outside it counts: that is what the leak hides behind
        assert found.leakage is not None
        assert found.leakage.is_suspicious
        assert found.is_suspicious
        assert not found.mask_decides  # stage 2 does not read what is written there

    def test_a_second_stage_that_reads_it_there_is_decided_by_the_mask(
        self, selects_by_red: ifam.IFAM, coloured: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(images: Tensor, selection: Any) -> Tensor:
            written = selection.mask[:, 0, 0].float()
            inside = images.flatten(1).std(1)  # so that the control finds that pixels count a little
            return torch.stack([1 - written, written + 1e-3 * inside * selection.mask.flatten(1).any(1)], 1)

        monkeypatch.setattr(selects_by_red, "second_stage", read)
        found = verify(selects_by_red, coloured)
        assert found.mask_decides
        for alone in found.mask_alone.values():
            assert alone.stays.estimate == 1
            assert alone.chance == pytest.approx(0.5, abs=0.02)
        assert found.most_decided is not None


def test_a_constant_answer_is_no_decision_of_the_mask(photographs: list[Path]) -> None:
    model = make()
    assert model.stage2 is not None
    torch.nn.init.zeros_(model.stage2.head.weight)  # both scores alike: always the first class
    found = verify(model, photographs)
    assert all(alone.stays.estimate == alone.chance == 1 for alone in found.mask_alone.values())
    assert not found.mask_decides
    assert found.is_one_answer


def test_images_without_evidence_do_not_count_as_decided(photographs: list[Path], monkeypatch: Any) -> None:
    model = make()
    select = model.select

    def nothing(discovery: Any, **options: Any) -> Any:
        selection = select(discovery, **options)
        return replace(selection, mask=torch.zeros_like(selection.mask), weights=torch.zeros_like(selection.weights))

    monkeypatch.setattr(model, "select", nothing)
    found = verify(model, photographs)
    assert (found.with_evidence, found.mask_alone, found.most_decided) == (0, {}, None)
    assert not found.mask_decides


class TestGivenMasks:
    def test_early_masks_hold_and_late_ones_do_not(self, photographs: list[Path]) -> None:
        def certified(masking: Any) -> Certificate:
            torch.manual_seed(0)
            model = MaskedClassifier("vit_tiny_patch16_224", 2, 64, masking=masking, pretrained=False)
            names = [path.parent / f"mask-{path.name}" for path in photographs]
            for number, name in enumerate(names):
                pixels = np.zeros((64, 64), dtype=np.uint8)
                pixels[16:48, 16 : 32 + number] = 255
                Image.fromarray(pixels).save(name)
            table = table_of_files(photographs, ("0", "1"))
            samples = [replace(sample, mask=mask) for sample, mask in zip(table.samples, names, strict=True)]
            return verify(model.eval(), replace(table, samples=tuple(samples)))

        early, late = certified("early"), certified("late")
        assert early.holds
        assert (early.mask_iou, early.answers_moved) == (1, 0)  # the mask does not come from the image
        assert not late.holds

    def test_masks_are_needed(self, photographs: list[Path]) -> None:
        model = MaskedClassifier("vit_tiny_patch16_224", 2, 64, masking="early", pretrained=False)
        with pytest.raises(DataError, match=r"expected a mask \(annotated\) for every image"):
            verify(model, photographs)


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        save(make(), tmp_path / "run")
        return tmp_path / "run"

    @pytest.fixture
    def certified(self, run: Path, photographs: list[Path], tmp_path: Path) -> Path:
        file = tmp_path / "certificate.json"
        assert main(["verify", str(run), str(photographs[0].parent), "--seed", "3", "--json", str(file)]) == 0
        return file

    def test_certificate(self, certified: Path, run: Path, photographs: list[Path]) -> None:
        content = json.loads(certified.read_text(encoding="utf-8"))
        assert content["holds"]
        assert content["outside"]["infinity"] == {"images": 0, "bits": 0, "largest": 0.0}
        numbers = {"seed": 3, "batch_size": 32, "rounds": 3}
        assert content["setting"] == {"precision": "32-true", "evidence": "patches", **numbers}
        assert content["machine"]["torch"] == torch.__version__.split("+")[0]
        weights = run / "model.safetensors"
        assert content["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert content["description_sha256"] == hashlib.sha256((run / "model.json").read_bytes()).hexdigest()
        assert content["model_files"][1] == {
            "name": "model.safetensors",
            "bytes": weights.stat().st_size,
            "sha256": content["weights_sha256"],
        }
        by_name = {one["name"]: one for one in content["photographs"]}
        assert by_name["00.png"]["bytes"] == photographs[0].stat().st_size
        assert by_name["00.png"]["sha256"] == hashlib.sha256(photographs[0].read_bytes()).hexdigest()
        assert str(certified.parent) not in certified.read_text(encoding="utf-8")  # no path of this machine

    def test_what_is_said(self, run: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(run), str(photographs[0].parent)]) == 0
        out = capsys.readouterr().out
        assert "holds: no pixel outside the mask changed a bit of any prediction" in out
        assert "mask leakage: not measured" in out
        assert "mask alone: with every pixel inside replaced by other photographs" in out

    def check(self, run: Path, images: Path, certificate: Path) -> int:
        return main(["verify", str(run), str(images), "--check", str(certificate)])

    def test_it_is_found_again(
        self, certified: Path, run: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        extra = photographs[0].parent / "extra.png"
        extra.write_bytes(photographs[0].read_bytes()[:-1] + b"x")  # another file: not named, not read
        photographs[1].rename(photographs[1].with_name("renamed.png"))
        assert self.check(run, photographs[0].parent, certified) == 0
        said = capsys.readouterr()
        assert "as certified: the same model, the same 9 photographs, the same findings, every number" in said.out
        assert "left out: 1 images that the certificate does not name" in said.err

    def test_another_model_another_photograph_another_number(
        self, certified: Path, run: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = photographs[0].parent
        content = json.loads(certified.read_text(encoding="utf-8"))
        certified.write_text(json.dumps(content | {"answers_moved": content["answers_moved"] + 0.2}))
        assert self.check(run, folder, certified) == 1
        assert "expected what the certificate says, answers_moved = " in capsys.readouterr().err
        certified.write_text(json.dumps(content | {"holds": False}))
        assert self.check(run, folder, certified) == 1
        assert "holds = False, got True" in capsys.readouterr().err
        certified.write_text(json.dumps(content))
        Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(photographs[4])
        assert self.check(run, folder, certified) == 1
        assert (
            "expected the 9 photographs of the certificate, 1 of them are not here as they were, the first is 04.png"
            in (capsys.readouterr().err)
        )
        save(make(temperature=2.0), run)
        assert self.check(run, folder, certified) == 1
        assert "expected the model of the certificate, whose description have SHA-256" in capsys.readouterr().err

    @pytest.mark.parametrize("content", [{}, {"kind": "ifam certificate", "version": 1}, {"num_images": 3}])
    def test_no_certificate(
        self, content: dict[str, Any], run: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = run / "other.json"
        file.write_text(json.dumps(content))
        assert self.check(run, photographs[0].parent, file) == 1
        assert "expected a certificate" in capsys.readouterr().err

    def test_a_folder_that_changes_meanwhile(
        self, run: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = verify(make(), photographs)

        def change(*args: Any, **options: Any) -> Certificate:
            save(make(temperature=3.0), run)
            return found

        monkeypatch.setattr("ifam.verify.verify", change)
        file = run.parent / "certificate.json"
        assert main(["verify", str(run), str(photographs[0].parent), "--json", str(file)]) == 1
        assert "expected the model that was loaded from there, got another one" in capsys.readouterr().err
        assert not file.exists()

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
    with pytest.raises(UsageError, match="expected a model with parts or masks, got a PlainClassifier"):
        verify(plain, photographs)
    for seed in (-1, 2**32):
        with pytest.raises(UsageError, match=f"seed: expected a number from 0 to 4294967295, got {seed}"):
            verify(make(), photographs, seed=seed)
    photographs[3].write_bytes(b"")
    with pytest.raises(DataError, match=r"03\.png: .*; replace it or take it out$"):
        verify(make(), photographs)
