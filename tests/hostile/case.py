"""One input: how it is written, what is run on it, and damage to bytes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal

from generated import write_image, write_scenes

Expected = Literal["works", "refused"]
Write = Callable[[Path, "Material", Random], Sequence[str]]
"""Writes an input into a folder, and returns the arguments of the command line that is started there.

What is to be written goes to ``out``; nothing else may change."""
SEED = 0
TRAIN = ("--device", "cpu", "--workers", "0", "--batch-size", "4", "--epochs", "1")


@dataclass(frozen=True, kw_only=True)
class Case:
    """An input by its name, whose first word is its kind."""

    name: str
    write: Write
    expected: Expected | None = None
    """None: either will do"""

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    def random(self) -> Random:
        """Its own, so that no case depends on those before it."""
        return Random(f"{SEED} {self.name}")


class Material:
    """What is in order and shared by the cases, which may not change it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def scenes(self) -> Path:
        """A data set in the layout of Waterbirds."""
        return self._made("scenes", lambda path: write_scenes(path, {"train": 1, "val": 1, "test": 1}))

    @cached_property
    def photograph(self) -> Path:
        return self._made("bird.png", lambda path: write_image(path, [[[9, 120, 200]] * 48] * 48))

    @cached_property
    def model(self) -> Path:
        """A folder with a model of two stages."""
        return self._made("model", _save_model)

    @cached_property
    def plain(self) -> Path:
        """A folder with a model without parts."""
        return self._made("plain", _save_plain)

    @cached_property
    def run(self) -> Path:
        """The folder of a training of one epoch on `folders`, which may be resumed for another."""
        return self._made("run", lambda path: _train(self.folders, path))

    @cached_property
    def folders(self) -> Path:
        """Class folders, without splits."""
        return self._made("folders", _write_folders)

    def build(self) -> None:
        """All of it, now."""
        for name in ("scenes", "photograph", "model", "plain", "run"):
            getattr(self, name)

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.root / name
        if not path.exists():
            make(path)
        return path


def damage(data: bytes, random: Random) -> bytes:
    """A whole file with one of the faults that disks, networks and enemies make."""
    return random.choice(list(DAMAGES.values()))(data, random)


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 3, 20))):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _head_flipped(data: bytes, random: Random) -> bytes:
    return _flipped(data[:64], random) + data[64:]


def _zeroed(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    length = random.randrange(1, 65)
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def _huge_number(data: bytes, random: Random) -> bytes:
    """Where a length or a size may be."""
    start = random.randrange(min(len(data), 80))
    return (
        data[:start]
        + random.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
        + data[start + 4 :]
    )


def _inserted(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + random.randbytes(random.randrange(1, 40)) + data[start:]


def _deleted(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.randrange(1, 40) :]


DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "truncated": lambda data, random: data[: random.randrange(len(data))],
    "flipped": _flipped,
    "head": _head_flipped,
    "zeroed": _zeroed,
    "huge": _huge_number,
    "inserted": _inserted,
    "deleted": _deleted,
    "repeated": lambda data, random: data[: random.randrange(len(data))] + data,
    "followed": lambda data, random: data + random.randbytes(100),
}


def cases(kind: str, bases: dict[str, Write], expected: Expected | None = None) -> Iterator[Case]:
    """A case for each way to write."""
    for name, write in bases.items():
        yield Case(name=f"{kind}/{name}", write=write, expected=expected)


def brief(value: str) -> str:
    """A value as a part of a name: unlike those of others, and not too long."""
    shown = ascii(value)[1:-1]
    return shown if len(shown) <= 40 else f"{shown[:30]}… of {len(value)}"


def fresh(path: Path, content: bytes | str) -> Path:
    """A file with its folders; text as UTF-8, lone surrogates as the bytes that they stand for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    return path


def _write_folders(path: Path) -> None:
    for label in ("finch", "gull"):
        for number in range(10):
            write_image(path / label / f"{number}.png", [[[20 * number, 100, 30]] * 48] * 48)


def _vit() -> object:
    import torch
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(img_size=48, patch_size=16, embed_dim=24, depth=1, num_heads=3, num_classes=0)


def _save_model(path: Path) -> None:
    from ifam.model.two_stage import IFAM
    from ifam.storage import save

    model = IFAM(_vit(), num_parts=2, num_classes=2, class_names=["finch", "gull"])  # type: ignore[arg-type]
    model.token_thresholds = {0.9: [1e9, 1e9]}
    save(model, path)


def _save_plain(path: Path) -> None:
    from ifam.model.classifier import PlainClassifier
    from ifam.storage import save

    save(PlainClassifier(_vit(), 2, class_names=["finch", "gull"]), path)  # type: ignore[arg-type]


def _train(data: Path, path: Path) -> None:
    from generated import tiny_config

    from ifam.data.read import read_table
    from ifam.training.run import train

    train(tiny_config(optimizer__epochs=1), read_table(data), path, say=lambda line: None)
