"""Models, backbones and checkpoints that are damaged, of another make, enormous, or code."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save

from hostile.case import DAMAGES, TRAIN, Case, Expected, Material, Write, fresh

PER_DAMAGE = 4
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 10**6, 10**9, 10**18, 10**400, 0.5, -1e308, float("nan"), float("inf"), "", "x", "1", "\0",
    "../../etc/passwd", "\ud800", [], [1], [1, 2], [10**6, 10**6], [0, 0], [-1, 48], [48, 48, 48], ["a", "a"],
    ["a", "b\nc"],
    [None, None], {}, {"a": 1}, {"x": [1]}, [[1]], "__import__('os').system('touch pwned')",
)  # fmt: skip


def model_cases() -> Iterator[Case]:
    for fault, damage in DAMAGES.items():
        for number in range(PER_DAMAGE):
            yield _case(
                f"weights/{fault}/{number}", _model(lambda content, random, damage=damage: damage(content, random))
            )
            yield _case(f"description/{fault}/{number}", _described_as(damage))
            if number < 3:
                yield _case(f"backbone/{fault}/{number}", _backbone_damaged(damage))
                yield _case(f"snapshot/{fault}/{number}", _snapshot_damaged(damage))
                yield _case(f"checkpoint/{fault}/{number}", _checkpoint_damaged(damage))
    for name, header in HEADERS.items():
        yield _case(f"header/{name}", _model(lambda content, random, header=header: header(content)), "refused")
    for name, change in STATES.items():
        yield _case(
            f"state/{name}", _model(lambda content, random, change=change: _changed_state(content, change)), "refused"
        )
    for path in DESCRIPTION:
        for number, value in enumerate(VALUES):
            if (len(".".join(path)) + number) % 4 == 0:
                yield _case(f"description/{'.'.join(path)}/{number}", _described(path, value))
    for name, content in PICKLES.items():
        for surface in ("import", "resume"):
            yield _case(f"pickle/{name}/{surface}", _pickle(content, surface), "refused")
        yield _case(f"pickle/{name}/as weights", _model(lambda whole, random, content=content: content()), "refused")
        yield _case(f"pickle/{name}/as backbone", _backbone(content, {}), "refused")
    for name, (path, value) in DESCRIPTIONS.items():
        yield _case(f"description/{name}", _described(path, value), "refused")
    for name, metadata in BACKBONES.items():
        yield _case(f"backbone/{name}", _backbone(None, metadata), "refused")
    for number, value in enumerate(VALUES):
        for key in ("hidden_size", "num_hidden_layers", "image_size", "model_type")[number % 2 :: 2]:
            yield _case(f"hub/{key}/{number}", _hub({key: value}))
    for name, spoil in PLACES.items():
        yield _case(f"place/{name}", _placed(spoil), "refused")


def _case(name: str, write: Write, expected: Expected | None = None) -> Case:
    return Case(name=f"models/{name}", write=write, expected=expected)


def _copy(material: Material, place: Path) -> Path:
    folder = place / "in/model"
    shutil.copytree(material.model, folder)
    return folder


def _predict(material: Material) -> list[str]:
    return ["ifam", "predict", "in/model", str(material.photograph), "--out", "out/rows.jsonl"]


def _model(change: Callable[[bytes, Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        path = _copy(material, place) / "model.safetensors"
        fresh(path, change(path.read_bytes(), random))
        return _predict(material)

    return write


def _described_as(damage: Callable[[bytes, Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        path = _copy(material, place) / "model.json"
        fresh(path, damage(path.read_bytes(), random))
        return _predict(material)

    return write


DESCRIPTION = (
    ("format",), ("kind",), ("backbone",), ("backbone", "name"), ("backbone", "arguments"), ("image_size",),
    ("backbone_origin",),
    ("backbone", "arguments", "embed_dim"), ("backbone", "arguments", "depth"), ("backbone", "arguments", "num_heads"),
    ("backbone", "arguments", "patch_size"), ("backbone", "arguments", "mlp_ratio"),
    ("backbone", "arguments", "reg_tokens"), ("backbone", "arguments", "qkv_bias"),
    ("backbone", "arguments", "norm_layer"), ("backbone", "arguments", "unknown"),
    ("class_names",), ("preprocessing",), ("preprocessing", "image_size"), ("preprocessing", "mean"),
    ("preprocessing", "std"), ("preprocessing", "resize"), ("training_group_sizes",), ("options",),
    ("options", "num_parts"), ("options", "temperature"), ("options", "mask_gradient"), ("options", "second_stage"),
    ("options", "part_dropout"), ("token_thresholds",), ("token_thresholds", "0.9"),
)  # fmt: skip


DESCRIPTIONS: dict[str, tuple[tuple[str, ...], Any]] = {
    "a backbone of the hub": (("backbone",), {"name": "hf-hub:someone/model", "arguments": {}}),
    "a backbone in a folder": (("backbone",), {"name": "local-dir:/etc", "arguments": {}}),
    "images of another size": (("preprocessing", "image_size"), [480, 480]),
    "images of half pixels": (("preprocessing", "image_size"), [48.5, 48.5]),
    "deviations of 0": (("preprocessing", "std"), [0, 0, 0]),
    "names twice": (("class_names",), ["a", "a"]),
    "names of two lines": (("class_names",), ["a", "b\n# c"]),
    "names that clear the screen": (("class_names",), ["a", "\x1b[2J"]),
    "negative thresholds": (("token_thresholds",), {"0.9": [-1.0, -1.0]}),
    "a switch of text": (("options", "soft_masks"), "no"),
    "no one's weights": (("backbone_origin",), {"source": ["x"]}),
}


def _described(path: tuple[str, ...], value: Any) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        file = _copy(material, place) / "model.json"
        description = target = json.loads(file.read_text())
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        file.write_text(json.dumps(description))
        if path[0] == "token_thresholds":
            return [*_predict(material), "--token-quantile", "0.9"]
        return random.choice(
            (_predict(material), ["ifam", "evaluate", "in/model", str(material.scenes), "--json", "out/x.json"])
        )

    return write


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def header(content: bytes) -> bytes:
        length = struct.unpack("<Q", content[:8])[0]
        values = json.loads(content[8 : 8 + length])
        change(values)
        text = json.dumps(values).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return header


def _first(**changes: Any) -> Callable[[bytes], bytes]:
    """Changes of the first tensor's entry."""

    def change(values: dict[str, Any]) -> None:
        name = next(name for name in values if name != "__metadata__")
        values[name] |= changes

    return _header(change)


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "length 0": lambda content: bytes(8) + content[8:],
    "length 1": lambda content: struct.pack("<Q", 1) + content[8:],
    "length 2^63": lambda content: struct.pack("<Q", 2**63) + content[8:],
    "length 2^64 - 1": lambda content: b"\xff" * 8 + content[8:],
    "length of the file": lambda content: struct.pack("<Q", len(content)) + content[8:],
    "one too short": lambda content: struct.pack("<Q", struct.unpack("<Q", content[:8])[0] - 1) + content[8:],
    "one too long": lambda content: struct.pack("<Q", struct.unpack("<Q", content[:8])[0] + 1) + content[8:],
    "no JSON": lambda content: struct.pack("<Q", 9) + b"not json!" + content,
    "a list": lambda content: struct.pack("<Q", 2) + b"[]" + content,
    "null": lambda content: struct.pack("<Q", 4) + b"null" + content,
    "deep": lambda content: struct.pack("<Q", 100_000) + b"[" * 100_000,
    "deep names": lambda content: struct.pack("<Q", 500_000) + b'{"a":' * 100_000,
    "not UTF-8": lambda content: struct.pack("<Q", 4) + b'{"\xff' + content,
    "nothing": lambda content: b"",
    "eight bytes": lambda content: content[:8],
    "no tensors": lambda content: struct.pack("<Q", 2) + b"{}",
    "huge shape": _first(shape=[10**6, 10**6, 10**6]),
    "overflowing shape": _first(shape=[2**63, 2, 2]),
    "negative shape": _first(shape=[-1, 4]),
    "shape of text": _first(shape="x"),
    "shape of halves": _first(shape=[0.5]),
    "shape of zeros": _first(shape=[0, 10**9]),
    "many dimensions": _first(shape=[1] * 100_000),
    "unknown kind": _first(dtype="F17"),
    "other kind": _first(dtype="F64"),
    "negative place": _first(data_offsets=[-1, 4]),
    "place beyond the end": _first(data_offsets=[0, 10**12]),
    "place backwards": _first(data_offsets=[400, 0]),
    "metadata as numbers": _header(lambda values: values.update(__metadata__={"format": 3})),
    "metadata as list": _header(lambda values: values.update(__metadata__=[1])),
    "another tensor": _header(lambda values: values.update(x={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})),
}
State = dict[str, torch.Tensor]


def _changed_state(content: bytes, change: Callable[[State], object]) -> bytes:
    from safetensors.torch import load

    state = load(content)
    change(state)
    return save(state, metadata={"format": "pt"})


def _filled(value: float, only: str = "") -> Callable[[State], object]:
    return lambda state: [tensor.fill_(value) for name, tensor in state.items() if only in name]


STATES: dict[str, Callable[[State], object]] = {
    "NaN": _filled(float("nan")),
    "one NaN": lambda state: state["prototypes"].view(-1)[:1].fill_(float("nan")),
    "infinite": _filled(float("inf"), "head"),
    "minus infinity": _filled(float("-inf"), "prototypes"),
    "one tensor less": lambda state: state.pop("prototypes"),
    "one tensor more": lambda state: state.update(more=torch.zeros(3)),
    "another name": lambda state: state.update(prototype=state.pop("prototypes")),
    "transposed": lambda state: state.update(prototypes=state["prototypes"].T.contiguous()),
    "flat": lambda state: state.update(prototypes=state["prototypes"].flatten()),
    "empty": lambda state: state.clear(),
    "more parts": lambda state: state.update(prototypes=torch.zeros(9, 24)),
    "whole numbers": lambda state: state.update(prototypes=state["prototypes"].long()),
    "all whole numbers": lambda state: state.update({name: value.long() for name, value in state.items()}),
    "truths": lambda state: state.update(prototypes=state["prototypes"] > 0),
    "complex": lambda state: state.update(prototypes=state["prototypes"].to(torch.complex64)),
    "eight bits": lambda state: state.update(prototypes=state["prototypes"].to(torch.float8_e5m2)),
    "two precisions": lambda state: state.update(prototypes=state["prototypes"].double()),
    "no rows": lambda state: state.update(prototypes=torch.zeros(0, 24)),
}


class _Code:
    """What a pickle would run."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def _saved(value: Any, **options: Any) -> Callable[[], bytes]:
    def content() -> bytes:
        file = io.BytesIO()
        torch.save(value() if callable(value) and not isinstance(value, torch.nn.Module) else value, file, **options)
        return file.getvalue()

    return content


def _deflated() -> bytes:
    """A checkpoint whose pickle is a gibibyte of nothing, in a mebibyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**30))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def _stretched(*shape: int) -> Callable[[], Any]:
    """A number that says that it is billions."""
    return lambda: {
        "model_state": {
            "stage_1.fc_landmarks.weight": torch.zeros(1).expand(*shape),
            "stage_1.fc_class_landmarks.weight": torch.zeros(1).expand(*shape[:2]),
            **{f"stage_{stage}": torch.zeros(1) for stage in (1, 2)},
            **{
                name: torch.zeros(3)
                for name in ("stage_1.modulation.weight", "stage_1.modulation.bias", "stage_2.fc_norm.weight",
                             "stage_2.fc_norm.bias", "stage_2.head.weight")
            },
        }
    }  # fmt: skip


PICKLES: dict[str, Callable[[], bytes]] = {
    "system": _saved(lambda: {"model_state": _Code(os.system, "touch pwned")}),
    "plain system": lambda: pickle.dumps(_Code(os.system, "touch pwned")),
    "old pickle": lambda: pickle.dumps(_Code(os.system, "touch pwned"), protocol=0),
    "eval": _saved(lambda: {"a": _Code(eval, "open('pwned', 'w')")}),
    "exec in old format": _saved(lambda: _Code(exec, "open('pwned', 'w')"), _use_new_zipfile_serialization=False),
    "remove": _saved(lambda: _Code(os.remove, "in/x")),
    "import": _saved(lambda: _Code(__import__, "antigravity")),
    "a whole module": _saved(torch.nn.Linear(2, 2)),
    "numbers": _saved({"a": 1, "b": "x"}),
    "a list": _saved([1, 2, 3]),
    "names as numbers": _saved({1: torch.zeros(2)}),
    "sparse": _saved({"model_state": {"a": torch.zeros(9, 9).to_sparse()}}),
    "meta": _saved({"model_state": {"a": torch.zeros(9, 9, device="meta")}}),
    "quantised": _saved({"model_state": {"a": torch.zeros(9, dtype=torch.complex64)}}),
    "empty": _saved({}),
    "another model": _saved({"model_state": {"fc.weight": torch.zeros(2, 2)}}),
    "stretched": _saved(_stretched(3, 10**6, 10**6)),
    "many classes": _saved(_stretched(10**9, 24)),
    "bomb": _deflated,
    "not a pickle": lambda: b"hello",
    "zip of nothing": lambda: b"PK\5\6" + bytes(18),
    "deep": lambda: b"\x80\x02" + b"(" * 200_000 + b".",
    "deep lists": lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "memo": lambda: b"\x80\x02h\xff.",
    "huge text": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "huge bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "future": lambda: b"\x80\xff.",
}


def _pickle(content: Callable[[], bytes], surface: str) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        if surface == "resume":
            shutil.copytree(material.run, place / "out/run")
            fresh(place / "out/run/checkpoints/last.ckpt", content())
            return ["ifam", "train", str(material.folders), "--out", "out/run", "--resume"]
        fresh(place / "in/x.pt", content())
        return ["ifam", "import", "in/x.pt", "--backbone", "test_vit", "--out", "out/model"]

    return write


def _checkpoint_damaged(damage: Callable[[bytes, Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        shutil.copytree(material.run, place / "out/run")
        path = place / "out/run/checkpoints/last.ckpt"
        fresh(path, damage(path.read_bytes(), random))
        return ["ifam", "train", str(material.folders), "--out", "out/run", "--resume"]

    return write


def _snapshot_damaged(damage: Callable[[bytes, Random], bytes]) -> Write:
    content = _saved(lambda: {"model_state": {name: torch.zeros(3, 4) for name in map(str, range(20))}})

    def write(place: Path, material: Material, random: Random) -> list[str]:
        fresh(place / "in/x.pt", damage(content(), random))
        return ["ifam", "import", "in/x.pt", "--backbone", "test_vit", "--out", "out/model"]

    return write


def _train_on(material: Material, backbone: str) -> list[str]:
    arguments = ["--out", "out/run", "--backbone", backbone, "--image-size", "48", *TRAIN]
    return ["ifam", "train", str(material.scenes), *arguments]


def _tiny_backbone(**metadata: str) -> bytes:
    from timm.models.vision_transformer import VisionTransformer

    arguments = {"img_size": 48, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
    state = VisionTransformer(**arguments, num_classes=0).state_dict()
    return save(state, metadata={"arguments": json.dumps(arguments), **metadata})


def _backbone_damaged(damage: Callable[[bytes, Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        fresh(place / "in/x.safetensors", damage(_tiny_backbone(), random))
        return _train_on(material, "in/x.safetensors")

    return write


def _backbone(content: Callable[[], bytes] | None, metadata: dict[str, str]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        fresh(place / "in/x.safetensors", _tiny_backbone(**metadata) if content is None else content())
        return _train_on(material, "in/x.safetensors")

    return write


def _arguments(**changes: Any) -> dict[str, str]:
    arguments = {"img_size": 48, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
    return {"arguments": json.dumps(arguments | changes)}


BACKBONES: dict[str, dict[str, str]] = {
    "another architecture": {"architecture": "test_vit"},
    "an architecture of nobody": {"architecture": "vit_of_nobody"},
    "an architecture of the hub": {"architecture": "hf-hub:someone/model"},
    "a local architecture": {"architecture": "local-dir:/etc"},
    "no transformer": {"architecture": "resnet18"},
    "architecture of nothing": {"architecture": ""},
    "architecture with letters": {"architecture": "\x1b[2J../../x"},
    "arguments of nothing": {"arguments": ""},
    "arguments as list": {"arguments": "[1]"},
    "arguments as number": {"arguments": "3"},
    "deep arguments": {"arguments": "[" * 100_000},
    "wide": _arguments(embed_dim=30_000),
    "very wide": _arguments(embed_dim=3 * 10**9),
    "deep network": _arguments(depth=10**5),
    "very deep network": _arguments(depth=10**9),
    "many pixels": _arguments(img_size=10**6),
    "no patches": _arguments(patch_size=0),
    "no heads": _arguments(num_heads=0),
    "odd heads": _arguments(num_heads=5),
    "negative width": _arguments(embed_dim=-24),
    "width of text": _arguments(embed_dim="x"),
    "registers": _arguments(reg_tokens=10**9),
    "unknown argument": _arguments(evil=1),
    "layer by name": _arguments(norm_layer="os.system"),
    "block by name": _arguments(block_fn="os.system"),
    "wide in the middle": _arguments(mlp_ratio=1e9),
    "size of text": {"image_size": "x"},
    "size of 10^9": {"image_size": "1000000000"},
    "size of 0": {"image_size": "0"},
    "mean of text": {"mean": "x"},
    "mean of one": {"mean": "[1]"},
    "mean of NaN": {"mean": "[NaN, NaN, NaN]"},
    "deviation of 0": {"std": "[0, 0, 0]"},
    "deviation of NaN": {"std": "[NaN, 1, 1]"},
}


def _hub(changes: dict[str, Any]) -> Write:
    config = {"model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3,
              "image_size": 48, "patch_size": 16, "mlp_ratio": 4, "qkv_bias": True}  # fmt: skip

    def write(place: Path, material: Material, random: Random) -> list[str]:
        fresh(place / "in/dino/config.json", json.dumps(config | changes))
        fresh(place / "in/dino/model.safetensors", _tiny_backbone())
        return _train_on(material, "in/dino")

    return write


PLACES: dict[str, Callable[[Path], object]] = {
    "weights are a folder": lambda folder: _replaced(folder / "model.safetensors").mkdir(),
    "weights are a pipe": lambda folder: os.mkfifo(_replaced(folder / "model.safetensors")),
    "weights are zeros": lambda folder: _replaced(folder / "model.safetensors").symlink_to("/dev/zero"),
    "weights are nowhere": lambda folder: _replaced(folder / "model.safetensors").symlink_to("gone"),
    "weights are passwords": lambda folder: _replaced(folder / "model.safetensors").symlink_to("/etc/passwd"),
    "description is a folder": lambda folder: _replaced(folder / "model.json").mkdir(),
    "description is a pipe": lambda folder: os.mkfifo(_replaced(folder / "model.json")),
    "description is zeros": lambda folder: _replaced(folder / "model.json").symlink_to("/dev/zero"),
    "description is weights": lambda folder: shutil.copy(folder / "model.safetensors", folder / "model.json"),
    "weights are a description": lambda folder: shutil.copy(folder / "model.json", folder / "model.safetensors"),
    "no weights": lambda folder: _replaced(folder / "model.safetensors"),
    "no description": lambda folder: _replaced(folder / "model.json"),
    "very deep description": lambda folder: (folder / "model.json").write_text('{"format":' * 50_000),
    "weights of NaN and text": lambda folder: (folder / "model.safetensors").write_text("nan"),
}


def _replaced(path: Path) -> Path:
    path.unlink()
    return path


def _placed(spoil: Callable[[Path], object]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        spoil(_copy(material, place))
        return _predict(material)

    return write
