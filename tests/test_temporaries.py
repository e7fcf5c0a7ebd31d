"""Temporary files: nobody plants them, all of them fit, and those of the dead go away."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ifam import temporaries
from ifam.temporaries import fitting, remove_leftovers, temporary_beside, temporary_name


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_temporary_is_new_and_goes_away(tmp_path: Path) -> None:
    (tmp_path / "made").touch()
    with temporary_beside(tmp_path / "a.png") as one, temporary_beside(tmp_path / "a.png") as other:
        assert one != other
        assert (one.parent, one.suffix, one.name[:3]) == (tmp_path, ".png", ".a.")
        assert one.stat().st_mode == (tmp_path / "made").stat().st_mode
        os.replace(one, tmp_path / "a.png")
    assert names(tmp_path) == {"made", "a.png"}


def test_a_signal_while_a_temporary_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def closed_and_interrupted(descriptor: int) -> None:
        close(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", closed_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        temporary_beside(tmp_path / "a.txt").__enter__()
    monkeypatch.undo()
    assert names(tmp_path) == set()


def test_a_temporary_whose_block_was_never_entered_goes_with_the_program(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from ifam.temporaries import temporary_beside
kept = temporary_beside(Path({str(tmp_path)!r}) / "a.txt")
kept.__enter__()
assert os.listdir({str(tmp_path)!r})
if os.fork() == 0:
    raise SystemExit  # a child deletes nothing of its parent's
os.wait()
assert os.listdir({str(tmp_path)!r})
os._exit(0) if {{hard}} else None
"""
    for hard, left in ((False, 0), (True, 1)):
        subprocess.run([sys.executable, "-c", code.replace("{hard}", str(hard))], check=True)
        assert len(names(tmp_path)) == left


def test_a_planted_name_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("precious")
    for target in ("victim", "none"):
        planted = tmp_path / f".{target}.tmp"
        planted.symlink_to(target)
        monkeypatch.setattr(temporaries, "temporary_name", lambda path, planted=planted: planted)
        with pytest.raises(FileExistsError), temporary_beside(tmp_path / "a.txt"):
            pass
        assert planted.is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "none").exists()


def test_only_the_dead_leave_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    written = temporary_name(tmp_path / "last.ckpt").name
    machine = re.findall(r"ifam-([0-9a-f]{8})-", written)[0]
    others = written.replace(machine, "0" * 8 if machine != "0" * 8 else "1" * 8)
    dead = written.replace(f"-{os.getpid()}-", f"-{child}-")
    alive = written.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    old = others.replace(".last", ".older")
    users = (".last.12.ckpt", ".last.ifam.ckpt", "last.ckpt", written[1:], f"{dead}.bak.png", ".lock")
    for name in (written, dead, alive, others, old, *users):
        (tmp_path / name).touch()
    (tmp_path / f"{dead[:-5]}.png").symlink_to("none")
    (tmp_path / f"{dead[:-5]}.folder").mkdir()
    (tmp_path / f"{dead[:-5]}.folder/1.png").touch()
    os.utime(tmp_path / old, (0, time.time() - 25 * 3600))
    with temporary_beside(tmp_path / "mine.ckpt") as mine:
        monkeypatch.chdir(tmp_path)
        remove_leftovers(Path())
        assert names(tmp_path) == {alive, others, mine.name, *users}  # not one of this process that was not begun by it
    remove_leftovers(tmp_path / "none")


@pytest.mark.parametrize("name", ["x" * 300, "ä" * 200, "\udcff" * 200])
def test_shortened_names(name: str) -> None:
    assert fitting(name, 255) != fitting(f"{name}.", 255)
    assert len(fitting(name, 100).encode("utf-8")) <= 100
    assert fitting(name, 100) == fitting(name, 100)
    assert fitting("ä" * 50, 100) == "ä" * 50
