import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

import ifam
from ifam import storage
from ifam.errors import CheckpointError, DataError
from ifam.model import build
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.preprocessing import Preprocessing
from ifam.storage import DESCRIPTION, FORMAT, WEIGHTS, load, save

XRAY = Preprocessing(image_size=(30, 30), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1), resize="squash")


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32)


@pytest.fixture
def saved(make_model: Any, tmp_path: Path) -> Path:
    save(make_model(), tmp_path / "model")
    return tmp_path / "model"


@torch.inference_mode()
def test_a_loaded_model_is_the_saved_one(make_model: Any, tmp_path: Path) -> None:
    options = {
        "num_parts": 5,
        "mask_gradient": "exact",
        "part_dropout": 0.1,
        "stage2_part_dropout": 0.2,
        "temperature": 0.7,
    }
    model = make_model(class_names=["rook", "kite", "Ähre", "a/b"], preprocessing=XRAY, **options)
    model.token_thresholds = {0.9: [1.5, 0.0, 1e-9, 2.0, 3.0], 0.99: [2.5] * 5}
    model.training_group_sizes = {"rook/land": 7, "kite/sea": 0}
    save(model.train(), tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, IFAM)
    assert not loaded.training
    batch = images()
    expected, actual = model.eval()(batch), loaded(batch)
    assert all(torch.equal(getattr(actual, name), value) for name, value in vars(expected).items())
    assert torch.equal(loaded(batch, token_quantile=0.9).mask, model(batch, token_quantile=0.9).mask)
    for name in ("class_names", "preprocessing", "token_thresholds", "training_group_sizes", *options):
        assert getattr(loaded, name) == getattr(model, name), name


@pytest.mark.parametrize("options", [{"soft_masks": True}, {"second_stage": False}], ids=str)
@torch.inference_mode()
def test_variants_of_the_model(options: dict[str, bool], make_model: Any, tmp_path: Path) -> None:
    model, batch = make_model(**options), images()
    save(model, tmp_path)
    loaded = load(str(tmp_path))
    assert isinstance(loaded, IFAM)
    assert loaded.soft_masks == model.soft_masks
    assert (loaded.stage2 is None) == (model.stage2 is None)
    assert torch.equal(loaded(batch).logits, model(batch).logits)


@torch.inference_mode()
def test_the_plain_classifier(make_vit: Any, tmp_path: Path) -> None:
    model, batch = PlainClassifier(make_vit(reg_tokens=2), 3, class_names=["a", "b", "c"]).eval(), images()
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, PlainClassifier)
    assert torch.equal(loaded(batch).logits, model(batch).logits)
    assert loaded.class_names == ["a", "b", "c"]


@torch.inference_mode()
def test_a_named_backbone_is_loaded_without_its_pretrained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = IFAM("vit_tiny_patch16_224", 2, 2, image_size=(32, 48), pretrained=False, second_stage=False).eval()
    save(model, tmp_path)
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        assert not pretrained
        return create(name, **options)

    monkeypatch.setattr(build.timm, "create_model", offline)
    loaded, batch = load(tmp_path), torch.randn(1, 3, 32, 48)
    assert loaded.backbone_name == "vit_tiny_patch16_224"
    assert torch.equal(loaded(batch).logits, model(batch).logits)


@torch.inference_mode()
def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    save(load(saved), tmp_path / "again")
    for name in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_backbone_that_cannot_be_rebuilt_is_refused_before_anything_is_written(
    make_model: Any, tmp_path: Path, refuses_line: Any
) -> None:
    model = make_model({"act_layer": partial(nn.GELU, approximate="tanh")})
    with refuses_line("backbone", "timm name"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_model(
    saved: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert set(before) == {WEIGHTS, DESCRIPTION}

    def half(state: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(before[WEIGHTS][:1000])
        raise OSError("no space left on device")

    monkeypatch.setattr(storage, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        save(make_model(), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_missing_files(saved: Path, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line(tmp_path / "none", DESCRIPTION, error=CheckpointError):
        load(tmp_path / "none")
    (saved / WEIGHTS).unlink()
    with refuses_line(saved / WEIGHTS, "found none", error=CheckpointError):
        load(saved)
    (saved / DESCRIPTION).unlink()
    with refuses_line(saved, error=CheckpointError):
        load(saved)


def test_damaged_weights(saved: Path, make_model: Any, refuses_line: Any) -> None:
    path = saved / WEIGHTS
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"garbage"):
        path.write_bytes(content)
        with refuses_line(path, "damaged", error=CheckpointError):
            load(saved)
    state = make_model(num_parts=2).state_dict()
    safetensors.torch.save_file(state, path)
    with refuses_line(path, "prototypes", error=CheckpointError):
        load(saved)


def edit(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    description = json.loads((saved / DESCRIPTION).read_text())
    change(description)
    (saved / DESCRIPTION).write_text(json.dumps(description))


KEYS = [
    "format",
    "kind",
    "backbone",
    "image_size",
    "class_names",
    "preprocessing",
    "training_group_sizes",
    "options",
    "token_thresholds",
]


def test_the_keys_of_the_description(saved: Path) -> None:
    assert list(json.loads((saved / DESCRIPTION).read_text())) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_a_description_that_lacks_something(key: str, saved: Path, refuses_line: Any) -> None:
    edit(saved, lambda description: description.pop(key))
    with refuses_line(saved / DESCRIPTION, error=CheckpointError):
        load(saved)


@pytest.mark.parametrize("value", [None, 3, "x", [], ["x"], {"x": 1}], ids=str)
@pytest.mark.parametrize("key", ["format", "kind", "backbone", "image_size", "class_names", "preprocessing", "options"])
def test_a_description_with_an_odd_value(key: str, value: object, saved: Path, refuses_line: Any) -> None:
    edit(saved, lambda description: description.update({key: value}))
    with refuses_line(saved, error=CheckpointError):
        load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"{}"], ids=str)
def test_a_garbled_description(content: bytes, saved: Path, refuses_line: Any) -> None:
    (saved / DESCRIPTION).write_bytes(content)
    with refuses_line(saved / DESCRIPTION, error=CheckpointError):
        load(saved)


def test_another_format(saved: Path, refuses_line: Any) -> None:
    edit(saved, lambda description: description.update(format=FORMAT + 1))
    with refuses_line(saved / DESCRIPTION, f"format {FORMAT}", f"got {FORMAT + 1}", error=CheckpointError):
        load(saved)


@pytest.mark.parametrize(
    ("error", "said"), [(OSError("not reachable\nmore lines"), "not reachable"), (OSError(), "OSError")]
)
def test_a_model_that_is_not_on_the_hub(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with refuses_line("hf:someone/birds", f"could not get it: {said}", error=CheckpointError):
        load("hf:someone/birds")


@torch.inference_mode()
def test_a_model_from_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, **options: object) -> str:
        assert repository == "someone/birds"
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    batch = images()
    assert torch.equal(load("hf:someone/birds")(batch).logits, load(saved)(batch).logits)


def test_saved_models_can_be_read_by_whoever_reads_other_files(make_model: Any, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    ifam.save(make_model(), tmp_path / "model")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert modes == {(tmp_path / "other").stat().st_mode}
    assert ifam.load(tmp_path / "model").num_parts == make_model().num_parts


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("backbone", "arguments", "embed_dim"), 3 * 10**6),
        (("backbone", "arguments", "depth"), 10**9),
        (("backbone", "arguments", "reg_tokens"), 10**9),
        (("image_size",), [10**6, 10**6]),
        (("options", "num_parts"), 10**9),
        (("options", "temperature"), 10**400),
        (("class_names",), [1, 2, 3, 4]),
        (("training_group_sizes",), [1]),
        (("token_thresholds",), {"0.9": [1]}),
        (("preprocessing", "mean"), [float("nan")] * 3),
        (("preprocessing", "std"), [float("inf")] * 3),
        (("preprocessing", "std"), [0.0, 1.0, 1.0]),
        (("preprocessing", "image_size"), [96, 96]),
        (("preprocessing", "image_size"), [32.0, 32.0]),
        (("class_names",), ["a", "b", "c", "a"]),
        (("class_names",), ["a", "b", "c", "d\n## e"]),
        (("class_names",), ["a", "b", "c", "\x1b[2J"]),
        (("class_names",), ["a", "b", "c", ""]),
        (("training_group_sizes",), {"a": -1}),
        (("training_group_sizes",), {"a": True}),
        (("options", "temperature"), float("inf")),
        (("options", "num_parts"), 0),
        (("options", "second_stage"), "x"),
        (("token_thresholds",), {"0.9": [1.0, -1.0, 1.0]}),
        (("token_thresholds",), {"0.9": [1.0, float("nan"), 1.0]}),
        (("token_thresholds",), {"nan": [1.0, 1.0, 1.0]}),
        (("token_thresholds",), {"1.5": [1.0, 1.0, 1.0]}),
        (("backbone_origin",), {"source": 3}),
        (("backbone_origin",), ["x"]),
    ],
    ids=str,
)
def test_a_description_that_asks_for_too_much(
    place: tuple[str, ...], value: object, saved: Path, refuses_line: Any
) -> None:
    def change(description: dict[str, Any]) -> None:
        for step in place[:-1]:
            description = description[step]
        description[place[-1]] = value

    edit(saved, change)
    with refuses_line(saved, error=CheckpointError):
        load(saved)


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float64])
def test_weights_of_other_types(kind: torch.dtype, saved: Path, refuses_line: Any) -> None:
    """The last is refused because the others are float32: a model is saved in one type."""
    state = safetensors.torch.load_file(saved / WEIGHTS)
    state["prototypes"] = state["prototypes"].to(kind)
    safetensors.torch.save_file(state, saved / WEIGHTS)
    with refuses_line(saved / WEIGHTS, "floating-point", "prototypes", error=CheckpointError):
        load(saved)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_that_was_saved_in_another_precision(kind: torch.dtype, make_model: Any, tmp_path: Path) -> None:
    model = make_model().to(kind)
    save(model, tmp_path)
    state = load(tmp_path).state_dict()
    assert all(torch.equal(state[name], value.float()) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "hf_hub:someone/model", "local-dir:/somewhere", "HF-HUB:a/b"])
def test_a_loaded_model_never_reaches_the_network(
    name: str, saved: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    def reach(*arguments: object, **options: object) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", reach)
    monkeypatch.setattr("timm.models._factory.load_model_config_from_path", reach)
    edit(saved, lambda description: description.update(backbone={"name": name, "arguments": {}}))
    with refuses_line(saved / DESCRIPTION, "timm model name", name, error=CheckpointError):
        load(saved)


def test_what_the_weights_say_of_themselves_is_kept(make_vit: Any, tmp_path: Path) -> None:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    said = {"title": "Tiny ViT", "source": "ours: a/b, fine-tuned", "licence": "Apache-2.0 (upstream)"}
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(make_vit().state_dict(), path, metadata={"arguments": json.dumps(arguments), **said})
    save(IFAM(path, 2, 2), tmp_path / "model")
    assert json.loads((tmp_path / "model" / DESCRIPTION).read_text())["backbone_origin"] == {
        "title": "Tiny ViT", "source": "ours: a/b, fine-tuned", "license": "Apache-2.0 (upstream)"
    }  # fmt: skip
    save(load(tmp_path / "model"), tmp_path / "again")
    for model in (load(tmp_path / "model"), load(tmp_path / "again")):
        assert model.backbone_title == (
            "vision transformer, 2 blocks of width 24, patches of 8 × 8; weights: Tiny ViT: ours: a/b, fine-tuned; "
            "licence: Apache-2.0 (upstream)"
        )
    save(IFAM(path, 2, 2, pretrained=False), tmp_path / "random")  # of random weights the file says nothing
    assert load(tmp_path / "random").backbone_title.endswith("8 × 8; weights: not known; licence: not known")


def test_preprocessing_to_another_grid_is_refused_before_anything_is_written(
    make_model: Any, tmp_path: Path, refuses_line: Any
) -> None:
    model = make_model(preprocessing=Preprocessing(image_size=(96, 96)))
    with refuses_line("image size", "32 × 32", "96 × 96", "set_image_size"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    model.set_image_size((96, 96))
    save(model, tmp_path)
    assert load(tmp_path).preprocessing.image_size == (96, 96)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value: float, saved: Path, refuses_line: Any) -> None:
    state = safetensors.torch.load_file(saved / WEIGHTS)
    state["prototypes"][1, 2] = value
    safetensors.torch.save_file(state, saved / WEIGHTS)
    with refuses_line(saved / WEIGHTS, "finite", "prototypes", error=CheckpointError):
        load(saved)


@pytest.mark.parametrize("content", ["[1]", '{"a.png": "dev"}', '{"a.png": 3}', "{"])
def test_splits_that_are_none(content: str, tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / storage.SPLITS).write_text(content)
    with refuses_line(tmp_path / storage.SPLITS, error=DataError):
        storage.known_splits(tmp_path)
