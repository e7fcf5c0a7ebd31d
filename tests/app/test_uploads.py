"""Photographs between upload and question."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from ifam.app import uploads
from ifam.app.uploads import LOCK, MAX_FILES, Uploads, file_name, private_folder, remove_leftovers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_each_upload_is_a_file_of_its_own(tmp_path: Path) -> None:
    waiting = Uploads(tmp_path)
    first, second = (waiting.add("bird.jpg", b"the same bytes") for _ in range(2))
    assert first != second
    with waiting.taken(first) as path:
        assert path.read_bytes() == b"the same bytes"
    assert files(tmp_path) == [second]
    with waiting.taken(second) as path:
        assert path.name == "bird.jpg"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_asked_about_once(tmp_path: Path, refuses_line: Any) -> None:
    waiting = Uploads(tmp_path)
    path = waiting.add("bird.jpg", b"x")
    (tmp_path / "mine.jpg").write_bytes(b"x")
    with waiting.taken(path):
        waiting.remove(path)  # in use: it stays
        assert path.is_file()
    for other in (path, tmp_path / "mine.jpg", Path("/etc/hostname"), tmp_path):
        with refuses_line("drop it again"), waiting.taken(other):
            pass
    assert (tmp_path / "mine.jpg").is_file()


def test_few_files_and_few_bytes_wait_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Uploads(tmp_path)
    paths = [waiting.add(f"{number}.jpg", b"x") for number in range(MAX_FILES + 3)]
    assert sorted(files(tmp_path)) == sorted(paths[3:])
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    large = [waiting.add("large.jpg", b"x" * 40) for _ in range(3)]
    found = files(tmp_path)
    assert large[0] not in found
    assert set(large[1:]) <= set(found)
    assert sum(path.stat().st_size for path in found) <= 100


def test_what_is_in_use_is_not_what_goes(tmp_path: Path) -> None:
    waiting = Uploads(tmp_path)
    with waiting.taken(waiting.add("first.jpg", b"x")) as first:
        for _ in range(MAX_FILES + 1):
            waiting.add("other.jpg", b"x")
        assert first.is_file()


def test_uploads_at_the_same_time(tmp_path: Path) -> None:
    waiting = Uploads(tmp_path)

    def often() -> None:
        for _ in range(50):
            with waiting.taken(waiting.add("bird.jpg", b"x")):
                pass

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Uploads(tmp_path)

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        waiting.add("bird.jpg", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("bird.jpg", "bird.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\bird.jpg", "bird.jpg"),
        ("Möwe (2).png", "Möwe (2).png"),
        ("<img src=x>.png", "_img src_x_.png"),
        ("a\x00b\n.png", "a_b_.png"),
        ("a" * 300 + ".png", "a" * 56 + ".png"),
        ("..", "photograph"),
        ("", "photograph"),
        ("a/", "photograph"),
    ],
)
def test_names_are_harmless(name: str, kept: str) -> None:
    assert file_name(name) == kept
    assert len(file_name("鳥" * 300 + ".png").encode()) < 255


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_is_private_and_goes(temporary: Path) -> None:
    with private_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "bird.jpg").write_bytes(b"x")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_page_left_goes_and_what_another_one_has_stays(temporary: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from ifam.app.uploads import private_folder\n"
        "with private_folder() as folder: (folder / 'bird.jpg').write_bytes(b'x'); print(folder, flush=True); "
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    pipes: Any = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"TMPDIR": str(temporary)}}
    with private_folder() as own, subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        other = Path(process.stdout.readline().strip())
        remove_leftovers(temporary)
        assert sorted(temporary.iterdir()) == sorted([own, other])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (other / "bird.jpg").is_file()
        with private_folder() as third:
            assert sorted(temporary.iterdir()) == sorted([own, third])


def test_folders_that_are_no_leftovers_stay(temporary: Path) -> None:
    precious = temporary / "precious"
    precious.mkdir(mode=0o700)
    (precious / LOCK).touch()
    (temporary / "ifam-app-link").symlink_to(precious)
    (temporary / "ifam-app-file").touch()
    for name, mode, has_lock in (("ifam-app-mine", 0o700, False), ("ifam-app-shared", 0o777, True)):
        folder = temporary / name
        folder.mkdir()
        folder.chmod(mode)
        (folder / "thesis.txt").touch()
        if has_lock:
            (folder / LOCK).touch()
    before = sorted(temporary.rglob("*"))
    remove_leftovers(temporary)
    assert sorted(temporary.rglob("*")) == before
