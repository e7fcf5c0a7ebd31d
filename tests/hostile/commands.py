"""Command lines that nobody would write, but a script with an empty variable, or a bored child."""

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from hostile.case import Case, Expected, Material, Write, brief, fresh
from ifam.cli import parser

VALUES = (
    "", " ", "-1", "0", "1e999", "nan", "inf", "9" * 30, "9" * 5000, "x", "é", "\udcff", "\x1b[2J", "a\nb", "--", "-",
    "*", "[", "None", "true", "0x10", "1.5", "١", "../x", "/dev/null", "/dev/full", "/proc/1/mem", "/etc/passwd",
    "x" * 300, "x" * 100_000, "a/" * 3000, "~", "$(touch pwned)", "'; touch pwned", "%s%n", "{0}", "<b>",
    "hf:../x", "hf:a/b", "file:///x",
)  # fmt: skip
WRITING = {"--out", "--json", "--overlays", "--figure", "--token-figure", "--markdown", "--runs"}
"""options whose values are put below ``out``: what a user names is written to, and the tests may run as root"""
STARTS = {"demo", "benchmark", "app"}
"""commands that would begin long work or a server: only with values that have to be refused"""
POSITIONS: dict[str, tuple[str, ...]] = {
    "demo": (), "doctor": ("DATA",), "train": ("DATA",), "evaluate": ("RUN", "DATA"), "calibrate": ("RUN", "DATA"),
    "intervene": ("RUN", "DATA"), "predict": ("RUN", "IMAGE"), "verify": ("RUN", "IMAGE"), "report": ("RUN", "DATA"),
    "app": ("RUN",), "export": ("RUN",), "import": ("FILE",), "benchmark": ("NAME",),
}  # fmt: skip
REQUIRED = {
    "train": ("--out", "out/run", "--backbone", "test_vit", "--set", "model.pretrained=false",
              "--epochs", "1", "--workers", "0"),
    "report": ("--out", "out/report.html"),
    "export": ("--format", "onnx", "--out", "out/model.onnx"),
    "import": ("--backbone", "test_vit", "--out", "out/model"),
}  # fmt: skip


def command_cases() -> Iterator[Case]:
    for command, options in _options().items():
        for position, option in enumerate(option for option in options if command != "demo" or option != "--out"):
            for value in VALUES[position % 13 :: 13] if command not in STARTS else VALUES[1:12:4]:
                name = f"{command}/{option}/{brief(value)}"
                yield Case(name=f"commands/{name}", write=_with(command, option, value))
            yield Case(name=f"commands/{command}/{option}/nothing", write=_with(command, option, None))
    for command, places in POSITIONS.items():
        for number, place in enumerate(places):
            for value in VALUES[(len(command) + number) % 3 :: 3]:
                if value != "--" and (command, value) != ("app", "hf:a/b"):  # the former means: all that follows
                    yield Case(name=f"commands/{command}/{place}/{brief(value)}", write=_at(command, place, value))
        yield Case(name=f"commands/{command}/more words", write=_more(command, ["x"] * 50))
        yield Case(name=f"commands/{command}/many words", write=_more(command, ["none/x"] * 5000))
        yield Case(name=f"commands/{command}/unknown", write=_more(command, ["--zzz"]), expected="refused")
    for name, (write, expected) in OUTPUTS.items():
        yield Case(name=f"commands/output/{name}", write=write, expected=expected)
    for number in range(40):
        yield Case(name=f"commands/shuffled/{number}", write=_shuffled)


def _options() -> dict[str, list[str]]:
    """The options of every command that take a value."""
    subparsers = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {
        name: [
            next(word for word in action.option_strings if word.startswith("--"))
            for action in command._actions
            if action.option_strings and action.nargs != 0
        ]
        for name, command in subparsers.choices.items()
    }


def _words(command: str, material: Material, **others: str) -> list[str]:
    right = {
        "DATA": material.scenes,
        "RUN": material.model,
        "IMAGE": material.photograph,
        "FILE": "none.pt",
        "NAME": "none",
    }
    if command in STARTS:
        right |= {"RUN": material.root / "plain"}
    return [others.get(place, str(right[place])) for place in POSITIONS[command]]


def _with(command: str, option: str, given_value: str | None) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        value = given_value
        required = list(REQUIRED.get(command, ()))
        if option in required:
            where = required.index(option)
            del required[where : where + 2]
        if option in WRITING and value is not None and value not in ("", "--"):
            value = f"out/{value.replace('..', 'up')}"
        given = [option] if value is None else [f"{option}={value}"] if value.startswith("-") else [option, value]
        harmless = ["--out", "file/x"] if command == "demo" and option != "--out" else []
        fresh(place / "file", "")
        return ["ifam", command, *_words(command, material), *required, *harmless, *given]

    return write


def _at(command: str, where: str, value: str) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        return ["ifam", command, *REQUIRED.get(command, ()), *_words(command, material, **{where: value})]

    return write


def _more(command: str, words: list[str]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        fresh(place / "file", "")
        harmless = ["--out", "file/x"] if command == "demo" else []
        return ["ifam", command, *harmless, *_words(command, material), *words, *REQUIRED.get(command, ())]

    return write


def _shuffled(place: Path, material: Material, random: Random) -> list[str]:
    command = random.choice([name for name in POSITIONS if name not in STARTS])
    words = [*REQUIRED.get(command, ()), *_words(command, material), random.choice(VALUES), "--seed"]
    random.shuffle(words)
    return ["ifam", *words] if random.random() < 0.1 else ["ifam", command, *words]


TRAIN_OPTIONS = REQUIRED["train"][2:]
Arguments = Callable[[Material], list[str]]


def _output(prepare: Callable[[Path], object], arguments: Arguments) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        prepare(place)
        return arguments(material)

    return write


def _file(name: str, mode: int | None = None) -> Callable[[Path], object]:
    return lambda place: fresh(place / name, "here before")


def _link(name: str, to: str) -> Callable[[Path], object]:
    return lambda place: (place / name).symlink_to(to)


def _nothing(place: Path) -> None:
    """All is well there."""


def _data_in_place(place: Path) -> None:
    for label in ("finch", "gull"):
        for number in range(6):
            fresh(
                place / f"out/data/{label}/{number}.ppm",
                b"P6 20 20 255\n" + bytes([number * 9, 5, 9]) * 400 + label.encode(),
            )


PREDICT: Arguments = lambda material: ["ifam", "predict", str(material.model), str(material.photograph)]  # noqa: E731
EVALUATE: Arguments = lambda material: ["ifam", "evaluate", str(material.model), str(material.scenes)]  # noqa: E731
TRAIN: Arguments = lambda material: ["ifam", "train", str(material.scenes), *TRAIN_OPTIONS]  # noqa: E731
EXPORT: Arguments = lambda material: ["ifam", "export", str(material.model), "--format", "onnx"]  # noqa: E731
IMPORT: Arguments = lambda material: ["ifam", "import", "none.pt", "--backbone", "test_vit"]  # noqa: E731
WRITERS: dict[str, tuple[Arguments, str, str]] = {
    "predictions": (PREDICT, "--out", "x.jsonl"),
    "a table": (PREDICT, "--out", "x.parquet"),
    "numbers": (EVALUATE, "--json", "x.json"),
    "a model file": (EXPORT, "--out", "x.onnx"),
}
SPOILERS: dict[str, Callable[[str], Callable[[Path], object]]] = {
    "a folder stands there": lambda name: lambda place: (place / "out" / name).mkdir(),
    "a folder with files stands there": lambda name: _file(f"out/{name}/x"),
    "a file is above it": lambda name: lambda place: (shutil.rmtree(place / "out"), fresh(place / "out", "")),
    "a pipe stands there": lambda name: lambda place: os.mkfifo(place / "out" / name),
    "a link to nowhere": lambda name: _link(f"out/{name}", "gone/x"),
    "a link to itself": lambda name: _link(f"out/{name}", name),
    "a link to a device": lambda name: _link(f"out/{name}", "/dev/full"),
}
OUTPUTS: dict[str, tuple[Write, Expected | None]] = {
    f"{what}, {spoiler}": (
        _output(
            spoil(name), lambda material, run=run, option=option, name=name: [*run(material), option, f"out/{name}"]
        ),
        None,
    )
    for what, (run, option, name) in WRITERS.items()
    for spoiler, spoil in SPOILERS.items()
} | {
    "a run in a file": (_output(_file("out/run"), lambda material: [*TRAIN(material), "--out", "out/run"]), "refused"),
    "a run below a file": (
        _output(_file("out/x"), lambda material: [*TRAIN(material), "--out", "out/x/run"]),
        "refused",
    ),
    "a run in a circle": (
        _output(_link("out/x", "x"), lambda material: [*TRAIN(material), "--out", "out/x"]),
        "refused",
    ),
    "a run of a long name": (
        _output(_nothing, lambda material: [*TRAIN(material), "--out", "out/" + "x" * 400]),
        "refused",
    ),
    "a run inside its data": (
        _output(
            _data_in_place, lambda material: ["ifam", "train", "out/data", *TRAIN_OPTIONS, "--out", "out/data/run"]
        ),
        None,
    ),
    "a run that is its data": (
        _output(_data_in_place, lambda material: ["ifam", "train", "out/data", *TRAIN_OPTIONS, "--out", "out/data"]),
        None,
    ),
    "pictures in a file": (
        _output(_file("out/p"), lambda material: [*PREDICT(material), "--overlays", "out/p"]),
        "refused",
    ),
    "predictions without a suffix": (  # a folder of shards
        _output(_nothing, lambda material: [*PREDICT(material), "--out", "out/x"]),
        "works",
    ),
    "predictions of another suffix": (
        _output(_nothing, lambda material: [*PREDICT(material), "--out", "out/x.txt"]),
        "refused",
    ),
    "a model in a file": (_output(_file("out/m"), lambda material: [*IMPORT(material), "--out", "out/m"]), "refused"),
}
