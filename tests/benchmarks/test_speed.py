"""The speed benchmark: what it measures is what it says, on models small enough for a test."""

import json
import os
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ifam.benchmarks.speed import run as running
from ifam.benchmarks.speed.around import loading, processes
from ifam.benchmarks.speed.cases import (
    Bench,
    Measurement,
    Setting,
    compiled_training,
    inference,
    leave_one_out,
    make_images,
    make_mask,
    make_model,
    precisions,
    training,
    training_memory,
    training_step,
)
from ifam.benchmarks.speed.report import draw
from ifam.benchmarks.speed.run import run_speed
from ifam.benchmarks.speed.suite import Case, on_cpu, on_gpu
from ifam.benchmarks.speed.theirs import Checkout, fixed_mask
from ifam.benchmarks.speed.timing import in_turn, matrix_product_rate, operations, peak_memory
from ifam.cli import main
from ifam.errors import DataError, UsageError
from ifam.model.linear import Linear
from ifam.model.two_stage import IFAM
from ifam.output import Selection

NAME = "vit_tiny_patch16_224"
SETTING = Setting(backbone=NAME, image_size=64, kept=(1.0, 0.25, 0.25), num_parts=3)
BENCH = Bench(device="cpu", rounds=1)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A stand-in for the authors' code: their names, their layout, another model with the same mathematics."""
    files = {
        "models/__init__.py": "from .two_stage_double_classification import *",
        "models/two_stage_double_classification.py": """
            import torch
            from transformers.models.absent import SomeLayer
            from utils import helper


            class Inherits(SomeLayer):
                pass


            class Stage(torch.nn.Module):
                def __init__(self, vit, K, C):
                    super().__init__()
                    self.blocks, self.patch_embed, self.norm = vit.blocks, vit.patch_embed, vit.norm
                    self.cls_token, self.pos_embed = vit.cls_token, vit.pos_embed
                    self.fc_landmarks = torch.nn.Conv2d(vit.embed_dim, K + 1, 1, bias=False)
                    self.modulation = torch.nn.LayerNorm([vit.embed_dim, K + 1])
                    self.fc_class_landmarks = torch.nn.Linear(vit.embed_dim, C, bias=False)
                    self.vit = vit

                def forward(self, x):
                    tokens = self.vit.forward_features(x)[:, 1:]
                    side = int(tokens.shape[1] ** 0.5)
                    maps = self.fc_landmarks(tokens.mT.unflatten(2, (side, side))).softmax(1)
                    pooled = torch.einsum("bkn,bnd->bdk", maps.flatten(2), tokens)
                    features = self.modulation(pooled)
                    scores = self.fc_class_landmarks(features[..., :-1].mT).mT
                    hard = torch.stack([maps[:, 0] > 0.5, maps[:, 0] <= 0.5], 1).float()
                    return features, maps, (hard, hard), scores, maps


            class SecondStage(torch.nn.Module):
                def __init__(self, vit, C):
                    super().__init__()
                    self.vit = vit
                    self.fc_norm = torch.nn.LayerNorm(vit.embed_dim)
                    self.head = torch.nn.Linear(vit.embed_dim, C, bias=False)

                def forward(self, x, mask):
                    logits = []
                    for image, keep in zip(x, mask):
                        tokens = self.vit._pos_embed(self.vit.patch_embed(image[None]))
                        keep = torch.cat([keep.new_ones(1), keep]).bool()
                        encoded = self.vit.norm(self.vit.blocks(tokens[:, keep]))
                        logits.append(self.head(self.fc_norm(encoded[:, 0])))
                    return torch.cat(logits)


            class FullTwoStageModelDoubleClassify(torch.nn.Module):
                def __init__(self, one, two, num_landmarks, num_classes, part_dropout, part_dropout_stage_2):
                    super().__init__()
                    self.num_landmarks = num_landmarks
                    self.stage_1, self.stage_2 = Stage(one, num_landmarks, num_classes), SecondStage(two, num_classes)

                def forward(self, x):
                    features, maps, masks, scores, logits = self.stage_1(x)
                    return self.stage_2(x, masks[0][:, 0].flatten(1)), maps, masks, features, scores, logits
            """,
        "utils/__init__.py": "import wandb\nhelper = 1",
        "utils/data_utils/__init__.py": "",
        "utils/data_utils/reversible_affine_transform.py": """
            def generate_affine_trans_params(degrees, translate, scale_ranges, shears, img_size):
                return 90.0, (0, 0), 1.0, 0.0


            def rigid_transform(img, angle, translate, scale, shear, invert):
                return img.rot90(1, (2, 3))
            """,
        "losses/__init__.py": """
            import torch


            class EnforcedPresenceLoss(torch.nn.Module):
                def __init__(self, loss_type):
                    super().__init__()

                def forward(self, maps):
                    return maps.mean()


            class PresenceLoss(EnforcedPresenceLoss):
                def __init__(self, beta, loss_type):
                    super().__init__(loss_type)


            class TotalVariationLoss(EnforcedPresenceLoss):
                def __init__(self, reduction):
                    super().__init__(reduction)


            def orthogonality_loss(features):
                return features.square().mean()


            def equivariance_loss(maps, others, source, num_landmarks, translate, angle, scale, shear):
                return (maps - others).square().mean()


            def pixel_wise_entropy_loss(maps):
                return maps.square().mean()
            """,
    }
    for name, text in files.items():
        path = tmp_path / "authors" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path / "authors"


class TestTheirs:
    def test_their_model_has_our_weights_and_sees_our_mask(self, checkout: Path) -> None:
        model = make_model(SETTING, "cpu")
        images, mask = make_images(SETTING, "cpu"), make_mask(model, SETTING, "cpu")
        theirs = Checkout(checkout).with_weights_of(model)
        assert not [layer for layer in theirs.modules() if isinstance(layer, Linear)], "nothing of ours makes it faster"
        with torch.inference_mode():
            with fixed_mask(theirs, mask):
                torch.testing.assert_close(theirs(images)[0], model.classify(images, mask), atol=1e-5, rtol=1e-5)
            assert not torch.allclose(theirs(images)[0], model.classify(images, mask), atol=1e-4)  # its own mask again

    def test_nothing_of_theirs_stays_importable(self, checkout: Path) -> None:
        before = dict(sys.modules), list(sys.path), list(sys.meta_path)
        Checkout(checkout)
        assert {"models", "layers", "utils", "losses", "transformers"}.isdisjoint(sys.modules.keys() - before[0].keys())
        assert (sys.path, sys.meta_path) == before[1:]

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="expected a checkout of the authors' code, found no models/"):
            Checkout(tmp_path)


class TestCases:
    def test_the_mask_keeps_what_was_asked(self) -> None:
        mask = make_mask(make_model(SETTING, "cpu"), SETTING, "cpu")
        assert mask.flatten(1).sum(1).tolist() == [16, 4, 4]

    def test_inference_compares_outputs_with_theirs(self, checkout: Path) -> None:
        found = inference(SETTING, replace(BENCH, checkout=Checkout(checkout)))
        assert found.numbers["largest difference of logits"] < 1e-5 < found.numbers["largest logit"]
        assert set(found.seconds) == {"ifam", "one pass", "stage 2", "stage 2, all tokens", "authors"}
        middle = {side: values[0] for side, values in found.seconds.items()}
        assert found.numbers["times the authors' throughput"] == middle["authors"] / middle["ifam"]
        assert found.numbers["images/s"] == 3 / middle["ifam"]

    def test_leave_one_out_keeps_what_was_asked(self) -> None:
        found = leave_one_out(SETTING, BENCH)
        assert found.numbers["kept before a part is left out"] == pytest.approx(0.5)

    def test_a_step_of_training_keeps_what_was_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shares = []
        select = IFAM.select

        def noting(*arguments: Any, **options: Any) -> Selection:
            selection = select(*arguments, **options)
            shares.append(selection.mask.float().mean().item())
            return selection

        monkeypatch.setattr(IFAM, "select", noting)
        training_step(SETTING, "cpu", "exact")()
        assert shares == [0.5]

    def test_training_and_precision(self, checkout: Path) -> None:
        found = training(SETTING, replace(BENCH, checkout=Checkout(checkout)))
        assert set(found.seconds) == {"ifam, exact", "ifam, cut", "authors"}
        assert 0 < precisions(SETTING, BENCH).numbers["largest difference of stage 1's logits"] < 0.1

    @pytest.mark.filterwarnings("default")  # of the compiler's own
    def test_a_compiled_step_is_measured_beside_one_as_it_is(self) -> None:
        found = compiled_training(SETTING, BENCH)
        middle = {side: values[0] for side, values in found.seconds.items()}
        assert found.numbers["times the steps, compiled"] == middle["as it is"] / middle["compiled"]

    def test_the_peak_of_a_step_holds_its_activations(self) -> None:
        found = training_memory(SETTING, BENCH)
        assert found.numbers["peak of a step, exact, MiB"] > 1


class TestAround:
    def test_processes_share_the_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        found = processes(replace(SETTING, kept=(1.0,)), BENCH)
        assert {side: len(times) for side, times in found.seconds.items()} == {"1 processes": 1, "2 processes": 1}
        assert found.numbers["images/s, 2 processes"] == 1 / min(found.seconds["2 processes"])

    def test_the_loader_is_measured_without_processes_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        found = loading(SETTING, BENCH)
        assert set(found.seconds) == {"0 workers", "1 workers"}
        assert found.numbers["images/s, 0 workers"] == 64 / min(found.seconds["0 workers"])


class TestTiming:
    def test_sides_take_turns_and_the_first_round_does_not_count(self) -> None:
        calls: list[str] = []
        seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, "cpu")
        assert calls == ["a", "b"] * 3
        assert {side: len(values) for side, values in seconds.items()} == {"a": 2, "b": 2}

    def test_operations_of_a_product_and_of_attention(self) -> None:
        assert operations(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 2 * 3 * 4 * 5
        q = torch.ones(1, 2, 6, 8)
        attention = operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
        assert attention == 2 * (2 * 2 * 6 * 6 * 8)

    def test_the_rate_is_one_that_a_machine_could_have(self) -> None:
        assert 1e8 < matrix_product_rate(64, 32, torch.float32, "cpu", rounds=1) < 1e15

    def test_a_gpu_may_have_its_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, str]] = []

        def noting(name: str) -> Any:
            return lambda device: asked.append((name, device)) or 7

        for name in ("synchronize", "memory_allocated", "reset_peak_memory_stats", "max_memory_allocated"):
            monkeypatch.setattr(torch.cuda, name, noting(name))
        assert peak_memory(lambda: lambda: None, (), "cuda:1") == 0
        assert {name for name, _ in asked} >= {"synchronize", "max_memory_allocated"}
        assert {device for _, device in asked} == {"cuda:1"}


class TestRun:
    def test_files_tables_and_curves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        even = [replace(SETTING, kept=(share,)) for share in (0.25, 1.0)]
        monkeypatch.setattr(
            running, "on_cpu", lambda: {"inference": Case(title="Inference", measure=inference, settings=even)}
        )
        file = tmp_path / "speed.json"
        assert main(["benchmark", "speed", "--rounds", "1", "--device", "cpu", "--json", str(file)]) == 0
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["circumstances"]["versions"]["torch"] == torch.__version__.split("+")[0]
        assert [len(m["seconds"]["ifam"]) for m in content["cases"]["inference"]] == [1, 1]
        out = capsys.readouterr().out
        assert f"**{NAME}, 64 px, batch 1, 25% in 1, K = 3, 32-true**" in out
        assert file.with_suffix(".png").is_file()

    def test_one_point_is_no_curve(self, tmp_path: Path) -> None:
        alone = Measurement(case="inference", setting=SETTING, images=1, seconds={"ifam": [1.0]})
        assert not draw({"inference": [alone]}, tmp_path / "speed.png")

    def test_bad_arguments(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(UsageError, match="methods: expected some of inference, image-size"):
            run_speed(["inferense"], BENCH, json_path=tmp_path / "speed.json", command="")
        for device in ("cuda", "cuda:0"):  # whose cases are others
            with pytest.raises(UsageError, match="memory, loading, got 'processes'"):
                run_speed(["processes"], replace(BENCH, device=device), json_path=tmp_path / "speed.json", command="")
        assert main(["benchmark", "speed", "--rounds", "0"]) == 2
        assert main(["benchmark", "speed", "--reference", str(tmp_path)]) == 1
        assert "rounds: expected 1 or more, got 0" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "given",
        [["--precision", "32-true"], ["--backbone", "test_vit"], ["--image-size", "48"], ["--seeds", "0", "1", "2"],
         ["--set", "seed=1"], ["--data", "birds", "--epochs", "3"]],
    )  # fmt: skip
    def test_what_it_would_not_use_is_refused(self, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["benchmark", "speed", *given]) == 2
        named = ", ".join(word for word in given if word.startswith("--"))
        assert f"since each case says what it times, got {named}; leave them out" in capsys.readouterr().err

    def test_settings_are_of_models_that_exist(self) -> None:
        import timm

        for case in (*on_cpu().values(), *on_gpu().values()):
            for setting in case.settings:
                assert timm.is_model(setting.backbone)
                assert setting.image_size % 14 == 0
