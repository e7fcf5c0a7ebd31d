"""Exported files say what the model says, refuse to say anything else, and keep the promise of the mask."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from conftest import randomise
from generated import write_scenes
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import ifam
from ifam.cli import main
from ifam.data.read import read_table
from ifam.errors import ExportError
from ifam.evaluate import evaluate
from ifam.exporting.accuracy import accuracy_change, check_scorable
from ifam.exporting.comparison import Exported, compare
from ifam.exporting.export import drawn_images, export
from ifam.exporting.formats import FORMATS
from ifam.exporting.graphs import PartsGraph, make_graph, only_selected
from ifam.exporting.metadata import describe_preprocessing
from ifam.model.masked import MaskedClassifier
from ifam.preprocessing import Preprocessing
from ifam.storage import WEIGHTS, save

NAMES = {"onnx": "model.onnx", "torch": "model.pt2"}
CLASSES = ["rook", "kite", "Ähre", "a/b"]
KINDS: dict[str, Callable[[], Any]] = {
    "registers, one part": lambda: tiny({"reg_tokens": 2}, num_parts=1),
    "incomplete patches": lambda: tiny(preprocessing=Preprocessing(image_size=(30, 26), resize="squash")),
    "evidence in pixels": lambda: tiny(evidence="pixels", preprocessing=Preprocessing(image_size=(30, 26))),
    "soft masks": lambda: tiny(soft_masks=True),
    "late mask": lambda: tiny(second_stage=False),
    "given masks, early": lambda: MaskedClassifier(tiny_vit(), 4, masking="early"),
    "given masks, late": lambda: MaskedClassifier(tiny_vit(), 4, masking="late", masks="tokencut"),
    "plain": lambda: ifam.PlainClassifier(tiny_vit(), 4),
    "convolutional": lambda: ifam.PlainClassifier("test_resnet", 4, 32, pretrained=False),
}


def tiny_vit(**changes: Any) -> VisionTransformer:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 0}
    vit = VisionTransformer(**arguments | changes)
    randomise(vit)
    return vit


def tiny(vit: dict[str, Any] | None = None, **options: Any) -> ifam.IFAM:
    torch.manual_seed(0)
    model = ifam.IFAM(tiny_vit(**vit or {}), **{"num_parts": 3, "num_classes": 4, "class_names": CLASSES} | options)
    randomise(model)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and what was exported of it, in both formats."""
    folder = tmp_path_factory.mktemp("exported")
    save(tiny(), folder)
    for format, name in NAMES.items():
        export(tiny(), folder / name, format)
    return folder


def open_file(path: Path) -> Exported:
    return FORMATS["onnx" if path.suffix == ".onnx" else "torch"].open(path)


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        *((kind, "torch") for kind in KINDS),
        ("evidence in pixels", "onnx"),
        ("late mask", "onnx"),
        ("convolutional", "onnx"),
    ],
)
def test_every_kind_of_model(kind: str, format: str, tmp_path: Path) -> None:
    result = export(KINDS[kind](), tmp_path / NAMES[format], format)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[format]]
    assert result.num_bytes == result.path.stat().st_size
    found = result.comparison
    assert found.images == (12 if isinstance(KINDS[kind](), ifam.PlainClassifier) else 36)
    assert found.logit_difference < 1e-4
    assert found.with_evidence > found.images / 4


@pytest.mark.parametrize("format", NAMES)
@torch.inference_mode()
def test_the_file_says_what_the_model_says(format: str, folder: Path) -> None:
    model, images = tiny(), torch.randn(5, 3, 32, 32)
    parts_on = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1]]).bool()
    found = open_file(folder / NAMES[format])(images, parts_on)
    assert list(found) == ["logits", "mask", "parts", "part_maps", "kept", "pixels"]
    for row, removed in enumerate(([], [0, 1, 2], [0], [1], [0, 1])):
        expected = model(images[row : row + 1], remove_parts=removed)
        for key, value in found.items():
            torch.testing.assert_close(value[row : row + 1], getattr(expected, key), atol=1e-4, rtol=0)
    assert found["kept"][1] == 0
    assert found["logits"].isfinite().all()


@pytest.mark.parametrize("format", NAMES)
def test_no_path_of_this_machine_is_in_a_file(format: str, folder: Path) -> None:
    if format == "onnx":
        contents = [(folder / NAMES[format]).read_bytes()]
    else:
        with zipfile.ZipFile(folder / NAMES[format]) as archive:
            contents = [archive.read(name) for name in archive.namelist()]
    places = [str(Path(module.__file__).parents[1]).encode() for module in (ifam, torch)]
    assert not [place for place in places for content in contents if place in content]


@pytest.mark.parametrize("format", NAMES)
def test_a_full_disk(format: str, folder: Path, tmp_path: Path, refuses_line: Any) -> None:
    """In a process of its own, which torch would abort; the file of before stays."""
    out = tmp_path / NAMES[format]
    shutil.copy(folder / NAMES[format], out)
    before = out.read_bytes()
    limited = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2)\n"
        "from ifam.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "export", str(folder), "--format", format, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {out}: expected room to write this file, got: file too large"
    )
    assert "Traceback" not in done.stderr
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(out.name, before)]


def test_a_full_mask(tmp_path: Path) -> None:
    model = tiny()
    with torch.no_grad():
        model.prototypes += 10
        model.prototypes[0] -= 10  # nothing is as near as the first part
    found = export(model, tmp_path / "model.pt2", "torch").comparison
    assert found.with_evidence > found.images / 3
    outputs = open_file(tmp_path / "model.pt2")(torch.randn(2, 3, 32, 32), torch.ones(2, 3, dtype=torch.bool))
    assert outputs["kept"].tolist() == [1, 1]


@pytest.mark.parametrize("format", NAMES)
def test_pixels_outside_the_mask_change_no_bit_of_the_file(format: str, folder: Path) -> None:
    images, run, on = torch.randn(8, 3, 32, 32), open_file(folder / NAMES[format]), torch.ones(8, 3, dtype=torch.bool)
    before = run(images, on)
    pixels = before["mask"].repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    after = run(torch.where(pixels, images, images + 1e-3 * torch.randn_like(images)), on)
    held = (before["mask"] == after["mask"]).flatten(1).all(1) & (before["kept"] > 0) & (before["kept"] < 1)
    assert held.sum() >= 3  # that little moves few masks
    assert not torch.equal(before["part_maps"][held], after["part_maps"][held])
    assert torch.equal(before["logits"][held], after["logits"][held])


@pytest.mark.parametrize("format", NAMES)
def test_pixels_outside_the_outline_change_no_bit_of_the_file(format: str, tmp_path: Path) -> None:
    export(tiny(evidence="pixels"), tmp_path / NAMES[format], format)
    images, run, on = torch.randn(24, 3, 32, 32), open_file(tmp_path / NAMES[format]), torch.ones(24, 3).bool()
    before = run(images, on)
    patches = before["mask"].repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert (before["pixels"] <= patches).all()
    assert 0 < before["pixels"].sum() < patches.sum()
    pixels = before["pixels"][:, None]
    after = run(torch.where(pixels, images, images + 1e-4 * torch.randn_like(images)), on)
    held = (before["pixels"] == after["pixels"]).flatten(1).all(1) & (before["mask"] == after["mask"]).flatten(1).all(1)
    held &= before["pixels"].flatten(1).any(1)
    assert held.sum() >= 3  # that little moves few outlines
    assert torch.equal(before["logits"][held], after["logits"][held])
    inside = run(torch.where(pixels, images + 1e-4 * torch.randn_like(images), images), on)
    assert (inside["logits"][held] != before["logits"][held]).any(1).all()


def test_infinities_outside_the_mask_do_not_reach_stage_2() -> None:
    images, mask = torch.full((1, 3, 10, 16), torch.inf), torch.tensor([[[True, False], [False, False]]])
    images[:, :, :8, :8] = 1
    seen = only_selected(images, mask, (8, 8))
    assert seen.sum() == 3 * 64


@pytest.mark.parametrize("format", NAMES)
def test_the_metadata_are_enough_to_use_the_file(format: str, folder: Path) -> None:
    path = folder / NAMES[format]
    if format == "onnx":
        extra = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    else:
        extra = {"ifam.json": ""}
        torch.export.load(path, extra_files=extra)
    found = json.loads(extra["ifam.json"])
    assert (found["image_size"], found["grid"], found["num_parts"]) == ([32, 32], [4, 4], 3)
    assert (found["class_names"], found["resize"]) == (CLASSES, "crop")
    assert (found["mean"], found["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert list(found["inputs"]) == ["images", "parts_on"]
    assert "changes no bit" in found["guarantee"]
    assert found["weights_sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "logits": (lambda found: found | {"logits": found["logits"] + 2e-4}, "logits within 0.0001, got a difference of"),
    "not a number": (lambda found: found | {"logits": found["logits"] * torch.nan}, "got a difference of nan"),
    "masks": (lambda found: found | {"mask": ~found["mask"]}, "expected the model's masks"),
    "parts": (lambda found: found | {"parts": (found["parts"] + 1) % 4}, "expected the model's masks"),
    "maps": (lambda found: found | {"part_maps": found["part_maps"].roll(1, 1)}, "expected the model's part maps"),
    "share": (lambda found: found | {"kept": found["kept"] + 0.1}, "expected the model's masks"),
    "deaf": (lambda found: found | {"parts": found["parts"].clone().fill_(3)}, "expected the model's masks"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_refused(wrong: str, refuses_line: Any) -> None:
    change, message = WRONG[wrong]
    graph = make_graph(tiny())
    images = drawn_images(graph.model.preprocessing, 3)
    compare(graph, graph, [images]).require_equal("model.onnx")
    with refuses_line("model.onnx", message, "nothing was written", error=ExportError):
        compare(graph, lambda *inputs: change(graph(*inputs)), [images]).require_equal("model.onnx")


def test_a_graph_of_other_weights_is_refused_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    path, kind = tmp_path / "model.onnx", FORMATS["onnx"]
    path.write_bytes(b"old, with ifam.json")

    def write(graph: PartsGraph, path: Path, metadata: Any) -> None:
        weight = graph.model.stage2.head.weight
        weight[0, 0] += 0.01
        kind.write(graph, path, metadata)
        weight[0, 0] -= 0.01

    monkeypatch.setitem(FORMATS, "onnx", replace(kind, write=write))
    with refuses_line("expected the model's logits", error=ExportError):
        export(tiny(), path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old, with ifam.json"]


def test_ties_are_counted_and_not_held_against_the_file() -> None:
    model = tiny()
    with torch.no_grad():
        model.prototypes[1] = model.prototypes[0]  # every token of the one could as well be of the other
    graph = make_graph(model)

    def swap(*inputs: Tensor) -> dict[str, Tensor]:
        found = graph(*inputs)
        parts = found["parts"]
        return found | {"parts": torch.where(parts == 0, 1, parts)}

    found = compare(graph, swap, drawn_images(model.preprocessing, 4).split(2))
    assert found.moved == 0
    assert 0 < found.moved_ties <= found.ties < found.tokens


@pytest.mark.parametrize("alike", [False, True])
def test_int8(alike: bool, folder: Path, tmp_path: Path) -> None:
    model = tiny()
    if alike:  # weights that both stages share are in the file once
        assert model.stage2 is not None
        model.stage2.backbone.load_state_dict(model.stage1.state_dict())
    handlers = list(logging.getLogger().handlers)
    result = export(model, tmp_path / "model.onnx", int8=True)
    assert logging.getLogger().handlers == handlers
    assert result.rounded is not None
    assert result.comparison.logit_difference < 1e-4 < result.rounded.logit_difference < 0.5
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert nodes.count("MatMulNBits") == 2 * 4 - 1, "the last block computes queries apart, outside of its layer"


def test_accuracy_change_counts_right_answers(tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path / "scenes"))
    model = tiny(num_classes=2, class_names=["finch", "gull"])
    graph = make_graph(model)

    def gull(*inputs: Tensor) -> dict[str, Tensor]:
        return graph(*inputs) | {"logits": torch.tensor([0.0, 1.0]).expand(len(inputs[0]), 2)}

    always, same = accuracy_change(model, gull, table, batch_size=3), accuracy_change(model, graph, table)
    assert (always.images, always.file_accuracy, always.moved) == (8, 0.5, 0)
    assert same.answers_changed == same.moved == 0
    assert same.logit_difference < 1e-4
    assert same.accuracy == same.file_accuracy == evaluate(model, table).accuracy


def raise_disk_full(*arguments: Any, **options: Any) -> None:
    raise OSError("disk full")


class TestCommand:
    def test_export(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        save(tiny(num_classes=2, class_names=["finch", "gull"]), tmp_path / "run")
        data, out = write_scenes(tmp_path / "scenes"), tmp_path / "deep/model.pt2"
        arguments = ["export", str(tmp_path / "run"), "--format", "torch", "--out", str(out)]
        assert main([*arguments, "--data", str(data)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith(f"{out}: 0.")
        assert "compared with the model on 36 inputs" in said[1]
        assert said[2].startswith("test, 8 images: accuracy ")
        assert "0 answers changed" in said[2]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--out", "x.pt2"], "expected a name ending in .onnx for the format onnx, got 'x.pt2'"),
            (["--out", "x.pt2", "--format", "torch", "--int8"], "int8: expected the format onnx, got torch"),
            (["--out", "x.tf", "--format", "tf"], "invalid choice: 'tf'"),
        ],
    )
    def test_bad_input(
        self, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save(tiny(), tmp_path / "run")
        assert main(["export", str(tmp_path / "run"), *arguments]) == 2
        assert said in (err := capsys.readouterr().err)
        assert err.count("\n") == 1

    def test_what_cannot_be_exported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
        model: Any = "run"
        with refuses_line("expected a model of this package, got a str"):
            ifam.export(model, tmp_path / "model.onnx")
        with refuses_line("expected a model that needs no masks"):
            check_scorable(KINDS["given masks, early"]())
        with monkeypatch.context() as patch, refuses_line("can export, got OSError: disk full;", error=ExportError):
            patch.setattr(torch.export, "save", raise_disk_full)
            ifam.export(tiny(), tmp_path / "model.pt2", "torch")
        monkeypatch.setattr("ifam.exporting.formats.ONNX_LIMIT", 1000)
        with refuses_line("expected at most 1,000 bytes", "--format torch", error=ExportError):
            ifam.export(tiny(), tmp_path / "model.onnx")
        monkeypatch.setattr("ifam.exporting.formats.find_spec", lambda name: None)
        with refuses_line("onnx, onnxscript, onnxruntime", "pip install 'ifam[export]'"):
            ifam.export(tiny(), tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []


def test_the_words_of_a_view_that_is_cut_from_a_larger_one() -> None:
    cut = Preprocessing(image_size=(224, 112), crop_ratio=0.875)
    assert "until it covers 256 × 128 pixels, and the 224 × 112 in the centre cut out" in describe_preprocessing(cut)
    assert "until it covers 224 × 112 pixels, and the centre cut out" in describe_preprocessing(cut.whole())
