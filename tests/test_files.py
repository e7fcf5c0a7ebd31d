import errno
import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ifam import files
from ifam.errors import CheckpointError, DataError, OutputError
from ifam.files import (
    MIB,
    append_line,
    as_utf8,
    guarding,
    last_name,
    make_folder,
    make_room,
    parse_json,
    printable,
    read_json,
    replacing,
    to_json,
    without_folders,
    write_text,
)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("/home/anna/ward 7/vit.safetensors", "vit.safetensors"),
        ("C:\\Users\\anna\\run\\", "run"),
        ("runs/last/", "last"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2"),
        ("hf:microsoft/rad-dino", "hf:microsoft/rad-dino"),
        ("hf-hub:timm/vit_tiny", "hf-hub:timm/vit_tiny"),
        ("", ""),
    ],
)
def test_settings_that_leave_this_machine_hold_last_names(value: str, name: str) -> None:
    assert last_name(value) == name
    settings = {"model": {"backbone": value, "size": [1.5, value]}, "seed": 17, "ema": None}
    assert without_folders(settings) == {"model": {"backbone": name, "size": [1.5, name]}, "seed": 17, "ema": None}


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert [last_name(value) for value in (".", "./", "../run", "..")] == ["run", "run", "run", tmp_path.name]


def test_what_stood_there_stands_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(len(path.read_text()) / 0))
    assert path.read_text() == "old"
    write_text(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "new")]


def test_the_file_and_then_its_folder_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content before the name: after a power cut a name without its content would be worse than none."""
    order: list[object] = []
    rename = Path.replace
    monkeypatch.setattr(files, "_sync", lambda path, flags: order.append(path))
    monkeypatch.setattr(Path, "replace", lambda path, to: (order.append("renamed"), rename(path, to))[1])
    write_text(tmp_path / "a.txt", "text")
    temporary = order.pop(0)
    assert isinstance(temporary, Path)
    assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
    assert order == ["renamed", tmp_path]
    order.clear()
    with replacing(tmp_path / "b.txt", durable=False) as temporary:
        temporary.write_text("text")
    assert order == ["renamed"]


def test_lines_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    path = tmp_path / "a.jsonl"
    append_line(path, "1")
    append_line(path, "ä")
    assert path.read_text(encoding="utf-8") == "1\nä\n"

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "fsync", fail)
    with refuses_line(path, "no space left", error=OutputError):
        append_line(path, "3")


def test_a_full_disk_of_another_file_is_not_blamed_on_this_one(tmp_path: Path, refuses_line: Any) -> None:
    """While rows are written here, pictures are written there."""
    there = tmp_path / "there"
    for error in (OutputError(f"{there}: full"), OSError(errno.ENOSPC, "No space left on device", str(there / "x"))):
        with refuses_line(there, error=OutputError), replacing(tmp_path / "rows.jsonl"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                raise error  # noqa: B904


def test_a_full_disk_that_takes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", fail)
    with refuses_line(tmp_path / "new", "expected room", "MiB free", error=OutputError):
        make_folder(tmp_path / "new/deep")


def test_links_are_replaced_and_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "a.txt").symlink_to("target")
    write_text(tmp_path / "a.txt", "new")
    assert ((tmp_path / "a.txt").read_text(), (tmp_path / "a.txt").is_symlink()) == ("new", False)
    (tmp_path / "lines").symlink_to("target")
    with pytest.raises(OSError, match="symbolic links"):
        append_line(tmp_path / "lines", "1")
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize("name", ["a" * 300 + ".txt", "ä" * 130 + ".txt", "a" * 252 + ".txt", "a\0.txt"])
def test_names_that_no_file_can_have_are_refused_before_the_work(name: str, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line("expected a name that a file can have", "choose another"):
        make_room(tmp_path / name)
    with refuses_line("expected a folder to write to", "choose another"):
        make_folder(tmp_path / name)


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "ä" * 125 + ".txt", "." + "a" * 254, "a." + "b" * 250])
def test_the_longest_names(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_guarded_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it writes, and when what was written would get its name; also by another way to the same file."""
    calls: list[int] = []

    def refuse_from_now() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise OutputError("gone")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with guarding(Path("run"), refuse_from_now):
        write_text("outside.txt", "text")
        with pytest.raises(OutputError, match="gone"):
            write_text(tmp_path / "run/deep/a.txt", "text")
        assert len(calls) == 3
        for write in (write_text, append_line):
            with pytest.raises(OutputError, match="gone"):
                write(tmp_path / "run/b.txt", "text")
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    write_text("run/a.txt", "text")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("I/O error: No space left on device (os error 28)")],
)
def test_no_room(error: Exception, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line(tmp_path / "a.bin", "room for 3.0 MiB", "no space left", "MiB free", error=OutputError):  # noqa: SIM117
        with replacing(tmp_path / "a.bin", size=3 * 2**20):
            raise error
    with pytest.raises(ValueError, match=re.escape("(os error 5)")), replacing(tmp_path / "a.bin"):
        raise ValueError("(os error 5)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"null", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000])
def test_json_that_is_none(content: bytes, tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / "x.json").write_bytes(content)
    for error in (DataError, CheckpointError):
        with refuses_line(tmp_path / "x.json", "expected", "JSON", error=error):
            read_json(tmp_path / "x.json", error)
    with refuses_line("none.json", "No such file", error=DataError):
        read_json(tmp_path / "none.json")


def test_names_in_another_encoding(tmp_path: Path) -> None:
    assert as_utf8("é\udcff\n") == "é\\udcff\n"
    assert printable("é \udcff\n\x1b[2J\u202e") == "é \\udcff \\x1b[2J\\u202e"
    write_text(tmp_path / "a", "é\udcff")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\\udcff"


@pytest.mark.parametrize(
    "text",
    ['{"a": [' + "[]," * 200_000 + "[]]}", '{"a": "' + "x" * (8 * MIB) + '"}', "[" * 200_000],
    ids=["lists", "letters", "nested"],
)
def test_json_that_would_grow_is_refused_before_it_does(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"x\.json: expected JSON of at most 8 MiB with at most 100,000 lists"):
        read_json(tmp_path / "x.json", CheckpointError)
    with pytest.raises(CheckpointError, match="line 1: expected JSON of at most 8 MiB"):
        parse_json(text, "line 1", CheckpointError)
    assert tracemalloc.get_traced_memory()[1] < 5 * len(text) + MIB
    tracemalloc.stop()


def test_a_json_file_of_holes(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.write(b"{")
        file.truncate(3 * 2**30)
    with pytest.raises(DataError, match="at most 8 MiB"):
        read_json(tmp_path / "x.json")


def test_json_of_many_names_is_read(tmp_path: Path) -> None:
    names = {"class_names": [f"species {number}" for number in range(100_000)]}
    write_text(tmp_path / "x.json", json.dumps(names))
    assert read_json(tmp_path / "x.json") == names
    write_text(tmp_path / "y.json", json.dumps({f"class/{number:08}.jpg": "train" for number in range(300_000)}))
    with pytest.raises(DataError):
        read_json(tmp_path / "y.json")
    assert len(read_json(tmp_path / "y.json", limit=64 * MIB)) == 300_000


def test_json_has_no_number_for_what_is_none() -> None:
    values = {"a": [1.5, float("nan"), (float("inf"), -2)], "b": {"c": float("-inf"), "d": "NaN é"}, "e": True}
    read = json.loads(to_json(values), parse_constant=pytest.fail)
    assert read == {"a": [1.5, None, [None, -2]], "b": {"c": None, "d": "NaN é"}, "e": True}
    assert "é" in to_json(values, ensure_ascii=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_has_no_end_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"pipe or a device|directory"):
        files.sha256(path)
