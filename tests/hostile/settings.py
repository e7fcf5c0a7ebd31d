"""Settings of runs: YAML and JSON that a person, an old version or an enemy wrote."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml
from generated import tiny_config

from hostile.case import DAMAGES, Case, Expected, Material, Write, brief, fresh
from ifam.config import to_dict

VALUES = (
    "", "null", "~", "true", "-1", "0", "0.5", "1e3", "1e999", "-1e999", ".nan", ".inf", "-.inf", "9" * 30, "9" * 5000,
    "-" + "9" * 30, "0x" + "f" * 5000, "1_0", "0o8", "12:30:45", "2001-99-99", "2001-01-01", "[]", "{}", "[1, 2]",
    "[1, 2, 3]", "[[1]]", "{a: 1}", "''", "'\\0'", '"\\0"', "x", "'é'", '"\\ud800"', "../../etc/passwd", "/dev/zero",
    "'[x'", "!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!!binary aGk=", "!!float x",
    "!!int x", "!x y", "&a [*a]", "*b", "x: y", "auto", "light",
)  # fmt: skip
HUGE = (10**9, 10**30, 1e300)
"""numbers that are too large for anything, given to a training that would begin"""


def settings_cases() -> Iterator[Case]:
    names = list(_dotted(to_dict(tiny_config())))
    for position, name in enumerate(names):
        for value in VALUES[position % 9 :: 9]:
            yield _config(f"{name}={brief(value)}", lambda random, name=name, value=value: _with(name, value))
    for name in NUMBERS:
        for number in HUGE:
            yield Case(name=f"settings/huge/{name}={number:g}", write=_begun(f"{name}={number!r}"))
    for position, name in enumerate(names):
        yield Case(name=f"settings/set/{name}", write=_begun(f"{name}={VALUES[position % len(VALUES)]}"))
    for name, (text, expected) in WHOLE.items():
        yield _config(f"whole/{name}", lambda random, text=text: text() if callable(text) else text, expected)
        yield Case(name=f"settings/value/{name}", write=_begun_with(text))
    for fault, damage in DAMAGES.items():
        for number in range(6):
            yield _config(f"{fault}/{number}", lambda random, damage=damage: damage(_base(), random))
    for what, spoil in FILES.items():
        yield Case(name=f"settings/file/{what}", write=_spoilt(spoil), expected="refused")
    for file in RUN_FILES:
        for name, content in JSON.items():
            yield Case(name=f"settings/{file}/{name}", write=_run_with(file, content))
        for fault, damage in DAMAGES.items():
            yield Case(name=f"settings/{file}/{fault}/0", write=_run_damaged(file, damage))


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name


NUMBERS = tuple(
    name
    for name in _dotted(to_dict(tiny_config()))
    if name
    in {
        "model.num_parts", "model.image_size", "optimizer.batch_size", "optimizer.accumulate", "optimizer.epochs",
        "optimizer.lr_heads", "optimizer.weight_decay", "optimizer.gradient_clip", "losses.stage1", "losses.entropy",
        "workers", "seed", "checkpoint_minutes", "model.temperature", "model.centre_lean",
    }
)  # fmt: skip


def _base() -> bytes:
    return yaml.safe_dump(to_dict(tiny_config(optimizer__epochs=1)), sort_keys=False).encode()


def _with(name: str, value: str) -> str:
    """The text with one value exchanged, as it is, for another."""
    lines, wanted = _base().decode().splitlines(), name.split(".")
    depth = 0
    for number, line in enumerate(lines):
        indent, _, key = line.partition(wanted[depth])
        if indent == "  " * depth and key.startswith(":") and (depth := depth + 1) == len(wanted):
            lines[number] = f"{indent}{wanted[-1]}: {value}"
            return "\n".join(lines)
    raise AssertionError(name)


def _config(name: str, text: Callable[[Random], str | bytes], expected: Expected | None = None) -> Case:
    """Read before the data, which is not there: a training would be another matter, and a long one."""

    def write(place: Path, material: Material, random: Random) -> list[str]:
        path = fresh(place / "in/config.yaml", text(random))
        return ["ifam", "train", "in/none", "--config", str(path), "--out", "out/run"]

    return Case(name=f"settings/{name}", write=write, expected=expected)


def _begun(setting: str) -> Write:
    """A training with one setting that may be accepted."""

    def write(place: Path, material: Material, random: Random) -> list[str]:
        path = fresh(place / "in/config.yaml", _base())
        arguments = ["--config", str(path), "--out", "out/run", "--set", setting]
        return ["ifam", "train", str(material.scenes), *arguments]

    return write


def _begun_with(text: str | bytes | Callable[[], str | bytes]) -> Write:
    """The same text as a value on the command line, which holds some 100 kB at most."""

    def write(place: Path, material: Material, random: Random) -> list[str]:
        value = text() if callable(text) else text
        shown = (value if isinstance(value, str) else value.decode("utf-8", "surrogateescape"))[:100_000]
        return ["ifam", "train", "in/none", "--out", "out/run", "--set", f"seed={shown}"]

    return write


def _laughs(merge: bool) -> str:
    start = "a0: &a0 {x: 1}\n" if merge else "a0: &a0 [lol]\n"
    more = (", ".join([f"*a{number}"] * 9) for number in range(12))
    return start + "".join(
        f"a{number}: &a{number} {'{<<: [' + each + ']}' if merge else '[' + each + ']'}\n"
        for number, each in enumerate(more, start=1)
    )


WHOLE: dict[str, tuple[Any, Expected | None]] = {
    "empty": ("", "refused"),
    "comment": ("# nothing", "refused"),
    "list": ("- 1\n- 2", "refused"),
    "number": ("3", "refused"),
    "text": ("hello", "refused"),
    "null": ("null", "refused"),
    "unknown name": ("sead: 1", "refused"),
    "unknown section": ("model: {parts: 3}", "refused"),
    "section as list": ("model: [1]", "refused"),
    "names as numbers": ("1: 2", "refused"),
    "names as lists": ("[1, 2]: 3", "refused"),
    "names as mappings": ("? {a: 1}\n: 2", "refused"),
    "name twice": ("seed: 1\nseed: 2", None),
    "two documents": ("seed: 1\n---\nseed: 2", "refused"),
    "tabs": ("model:\n\tnum_parts: 3", "refused"),
    "byte order mark": (b"\xef\xbb\xbfseed: 1", "refused"),
    "UTF-16": ("seed: 1".encode("utf-16"), "refused"),
    "not UTF-8": (b"seed: \xff", "refused"),
    "NUL": (b"seed: \0", "refused"),
    "noise": (bytes(range(256)), "refused"),
    "billion laughs": (lambda: _laughs(merge=False), "refused"),
    "billion laughs as a setting": (lambda: _laughs(merge=False) + "seed: *a9", "refused"),
    "billion merged laughs": (lambda: _laughs(merge=True), "refused"),
    "list in itself": ("seed: &a [*a]", "refused"),
    "mapping in itself": ("&a {model: *a}", "refused"),
    "deep list": ("[" * 5_000, "refused"),
    "deeper list": ("seed: " + "[" * 40_000, "refused"),
    "deep mapping": ("{a: " * 9_000, "refused"),
    "deep sections": ("\n".join("  " * number + "a:" for number in range(300)), "refused"),
    "many names": ("\n".join(f"a{number}: 1" for number in range(5_000)), "refused"),
    "very long": (lambda: "# " + "x" * 30_000_000 + "\nseed: 1", "refused"),
    "very many": (lambda: "- 1\n" * 2_000_000, "refused"),
    "code": ("!!python/object/apply:os.system ['touch pwned']", "refused"),
    "code as a name": ("!!python/object/apply:os.system ['touch pwned']: 1", "refused"),
    "module": ("seed: !!python/module:os", "refused"),
    "object": ("seed: !!python/object/new:os.system ['touch pwned']", "refused"),
    "long name": ("x" * 60_000 + ": 1", "refused"),
    "control letters": ('"\\e[2J": 1', "refused"),
    "open quote": ("seed: 'x", "refused"),
    "anchor without name": ("seed: &", "refused"),
    "directive": ("%YAML 9.9\n---\nseed: 1", None),
    "tag directive": ("%TAG ! tag:yaml.org,2002:python/\n---\nseed: !name:os.system", "refused"),
}
FILES: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: __import__("os").mkfifo(path),
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: path.symlink_to("/dev/null"),
    "passwords": lambda path: path.symlink_to("/etc/passwd"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "missing": lambda path: None,
}


def _spoilt(spoil: Callable[[Path], object]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        (place / "in").mkdir()
        spoil(place / "in/config.yaml")
        return ["ifam", "train", "in/none", "--config", "in/config.yaml", "--out", "out/run"]

    return write


RUN_FILES = ("config.yaml", "data.json", "metrics.jsonl", "result.json", "splits.json")
JSON: dict[str, str] = {
    "empty": "",
    "null": "null",
    "number": "3",
    "list": "[1, {}]",
    "text": '"x"',
    "other names": '{"a": 1}',
    "lists as values": '{"classes": 1, "groups": [[]], "images": "x", "digest": [], "epoch": [], "best_epoch": []}',
    "nulls": '{"classes": null, "epoch": null, "best_epoch": null, "seconds": null, "val/groups": null}',
    "nan": '{"epoch": NaN, "best_epoch": Infinity, "seconds": NaN, "val/groups": {"a": NaN}, "finch/0.png": NaN}',
    "huge": '{"epoch": 1e999, "best_epoch": ' + "9" * 30 + ', "seconds": ' + "9" * 30 + "}",
    "long number": '{"epoch": ' + "9" * 5000 + "}",
    "deep": "[" * 100_000,
    "deep names": '{"a":' * 100_000,
    "surrogate": '{"\\ud800": "\\udfff"}',
    "wrong splits": json.dumps({f"finch/{number}.png": "dev" for number in range(10)}),
    "splits as numbers": json.dumps({f"finch/{number}.png": number for number in range(10)}),
    "not UTF-8": "\udcff",
    "two values": "{} {}",
}


def _commands(file: str) -> list[list[str]]:
    resume = ["ifam", "train", "DATA", "--out", "out/run", "--resume"]
    evaluate = ["ifam", "evaluate", "out/run", "DATA"]
    report = ["ifam", "report", "out/run", "DATA", "--out", "out/report.html"]
    return {
        "config.yaml": [resume, report],
        "data.json": [resume, report],
        "metrics.jsonl": [resume, ["summary", "out/run"], report],
        "result.json": [["summary", "out/run"], resume],
        "splits.json": [evaluate, report, resume],
    }[file]


def _run(file: str, place: Path, material: Material, random: Random) -> list[str]:
    shutil.copytree(material.run, place / "out/run")
    arguments = random.choice(_commands(file))
    return [str(material.folders) if word == "DATA" else word for word in arguments]


def _run_with(file: str, content: str) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        arguments = _run(file, place, material, random)
        fresh(place / "out/run" / file, content)
        return arguments

    return write


def _run_damaged(file: str, damage: Callable[[bytes, Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        arguments = _run(file, place, material, random)
        path = place / "out/run" / file
        fresh(path, damage(path.read_bytes(), random))
        return arguments

    return write
