import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ifam import files
from ifam.errors import CheckpointError, DataError, OutputError
from ifam.files import append_line, as_utf8, printable, read_json, remove_leftovers, replacing, write_text


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
    assert order == [tmp_path / f".a.{os.getpid()}.txt", "renamed", tmp_path]
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


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    for name in (".last.12.ckpt", ".last.345.ckpt", "last.ckpt", ".other.12.ckpt", ".lock"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "last.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".other.12.ckpt", "last.ckpt"]


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
