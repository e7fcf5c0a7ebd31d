"""A lock holds a folder as long as it is that folder."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from generated import tiny_config
from runs import PROCESSES, run, start

from ifam.data.table import ImageTable
from ifam.errors import MovedError
from ifam.files import append_line, write_text
from ifam.training import lock
from ifam.training.lock import is_locked, locked
from ifam.training.module import TrainingModule

LOCK = "checkpoints/.lock"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("made_again", [False, True])
@pytest.mark.parametrize("what", ["run", "run/checkpoints", "run/checkpoints/.lock", "."])
def test_nothing_is_written_into_a_folder_that_is_another_now(
    what: str, made_again: bool, tmp_path: Path, refuses_line: Any
) -> None:
    above = tmp_path / "above"
    folder = above / "run"
    with locked(folder / LOCK):
        write_text(folder / "a.txt", "mine")
        (above / what).rename(tmp_path / "moved")
        if made_again:
            (folder / LOCK).parent.mkdir(parents=True, exist_ok=True)
            (folder / LOCK).touch()
        before = files(tmp_path)
        for write in (write_text, append_line):
            for name in ("a.txt", "checkpoints/last.ckpt", "first/deep/b.txt"):
                with refuses_line(folder, "another" if made_again else "deleted or moved", error=MovedError):
                    write(folder / name, "text")
        assert files(tmp_path) == before
        write_text(tmp_path / "elsewhere.txt", "text")
    write_text(folder / "a.txt", "of the next")


def test_a_folder_that_is_deleted_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    take, folder = lock._lock, tmp_path / "run"
    left = [3]

    def delete_first(file: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            shutil.rmtree(folder)
        take(file)

    monkeypatch.setattr(lock, "_lock", delete_first)
    with locked(folder / LOCK):
        write_text(folder / "a.txt", "text")
    left[0] = 1000
    with refuses_line(folder, "comes and goes"), locked(folder / LOCK):
        pass


def test_a_link_is_no_lock(tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "victim")
    with refuses_line(LOCK, "got a link"), locked(tmp_path / "run" / LOCK):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def hold(path: Path, held: Any) -> None:
    with locked(path):
        held.set()
        time.sleep(60)


def test_whether_another_process_holds_it(tmp_path: Path) -> None:
    held = PROCESSES.Event()
    assert not is_locked(tmp_path / LOCK)
    process = start(hold, tmp_path / LOCK, held)
    assert held.wait(60)
    assert is_locked(tmp_path / LOCK)
    process.kill()
    process.join()
    assert not is_locked(tmp_path / LOCK)


def test_a_moment_of_another_is_no_holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, calls = lock._lock, list[int]()

    def busy_first(file: Any) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise BlockingIOError(lock.HELD[1], "held")
        take(file)

    monkeypatch.setattr(lock, "_lock", busy_first)
    with locked(tmp_path / LOCK):
        assert len(calls) == 3


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_whose_folder_was_replaced_leaves_the_other_alone(
    epoch: int, scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    """One run's weights never come under another's description."""
    folder = tmp_path / "run"
    run(tiny_config(seed=1, optimizer__epochs=1), scenes, tmp_path / "other")
    other, begin = files(tmp_path / "other"), TrainingModule.on_train_epoch_start

    def replace(module: TrainingModule) -> None:
        begin(module)
        if module.current_epoch == epoch:
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "other", folder)

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", replace)
    with refuses_line(folder, "got another in its place", error=MovedError):
        run(tiny_config(), scenes, folder)
    assert files(folder) == other


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "metrics.jsonl", "data.json"])
def test_a_folder_of_something_else_is_no_place_for_a_run(
    name: str, scenes: ImageTable, tmp_path: Path, refuses_line: Any
) -> None:
    for text in ("notes", "{}", "[]"):
        (tmp_path / name).write_text(text)
        with refuses_line(tmp_path, "expected a new folder", name, "choose another"):
            run(tiny_config(), scenes, tmp_path)
        assert (tmp_path / name).read_text() == text
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_name_that_no_folder_can_have(resume: bool, scenes: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line("expected a name that a file can have", "too long"):
        run(tiny_config(), scenes, tmp_path / ("x" * 300), resume=resume)
