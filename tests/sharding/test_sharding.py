"""Shards: every image once whatever happens, the same bits as without interruption, and nothing else accepted."""

import json
import os
import re
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from generated import write_image
from runs import kill_at, start
from timm.models.vision_transformer import VisionTransformer

from ifam.cli import main
from ifam.device import pick_device
from ifam.errors import DataError, MovedError, ProcessError
from ifam.model.two_stage import IFAM
from ifam.predict import PredictionSettings, predict
from ifam.processes import ALONE, VARIABLES, Processes, started
from ifam.sharding.image_list import ImageList, write_image_list
from ifam.sharding.run import part, predict_shards
from ifam.storage import load, model_sha256, save

COUNT, SIZE = 23, 4
PREDICT = ["predict", "run", "images", "--device", "cpu"]
BEGUN = [*PREDICT, "--out", "out", "--shard-size", str(SIZE)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and images in three folders, one of them unreadable."""
    monkeypatch.chdir(tmp_path)
    vit = VisionTransformer(img_size=48, patch_size=16, embed_dim=24, depth=1, num_heads=3, num_classes=0)
    save(IFAM(vit, num_parts=2, num_classes=2, class_names=["finch", "gull"]), "run")
    pixels = np.random.default_rng(0)
    for number in range(COUNT):
        write_image(Path(f"images/{number % 3}/{number:02d}.png"), pixels.integers(0, 255, (48, 52, 3)))
    Path("images/1/07.png").write_bytes(b"no image")
    return tmp_path


def images() -> list[Path]:
    return sorted(Path("images").rglob("*.png"))


def pack(folders: Sequence[str]) -> list[str]:
    """A tar file of each folder of images, with labels between them as WebDataset has them."""
    for folder in folders:
        with tarfile.open(f"{folder}.tar", "w") as out:
            for path in sorted(Path("images", folder).iterdir()):
                out.add(path, path.name)
                out.addfile(tarfile.TarInfo(f"{path.stem}.cls"))
    return [f"{folder}.tar" for folder in folders]


def rows(folder: str | Path) -> list[dict[str, Any]]:
    """As a reader of the whole folder sees them: what is no shard has a name that readers leave out."""
    found: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return found


def shards(folder: Path, **options: Any) -> Any:
    return predict_shards(load("run"), ["images"], folder, shard_size=SIZE, batch_size=3, **options)


def test_the_rows_are_those_of_one_file(place: Path) -> None:
    found = shards(Path("out"))
    assert (found.predicted, found.shards, found.missing) == (COUNT, 6, 0)
    assert (found.statuses["unreadable"], sum(found.statuses.values())) == (1, COUNT)
    assert [len(pq.read_table(part(Path("out"), number))) for number in range(6)] == [4, 4, 4, 4, 4, 3]
    expected = [vars(row) for row in predict(load("run"), images(), batch_size=5)]
    for row, one in zip(rows("out"), expected, strict=True):
        for name in ("probability", "kept"):
            assert row.pop(name) == (None if one[name] is None else pytest.approx(one[name], abs=1e-5))
            del one[name]
        assert row == one
    assert Path("out/_SUCCESS").read_text().splitlines()[0] == f"images: {COUNT}"


def predict_or_die(folder: Path, kill: tuple[Any, int]) -> None:
    torch.set_num_threads(1)
    kill_at(*kill)
    shards(folder)


@pytest.mark.parametrize("moment", ["written", "renamed"])
def test_killed_and_resumed_to_the_same_bits(place: Path, moment: str) -> None:
    """Killed at the n-th file that a call writes: the list and the manifest of the images are files as well."""
    shards(Path("straight"))
    killed = 0
    for number in (1, 2, 3, 2, 4, 3):
        process = start(predict_or_die, place / "out", (moment, number))
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
    assert killed >= 4
    assert shards(Path("out")).missing == 0
    for number in range(6):
        assert part(Path("out"), number).read_bytes() == part(Path("straight"), number).read_bytes()
    names = {path.name for path in Path("out").iterdir()}
    assert names == {path.name for path in Path("straight").iterdir()}  # no temporary left


def test_shards_that_are_there_are_not_done_again(place: Path) -> None:
    shards(Path("out"))
    times = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("part*")}
    part(Path("out"), 2).unlink()
    Path("images/0/new.png").write_bytes(b"")  # came after the list
    found = shards(Path("out"))
    assert (found.predicted, sum(found.statuses.values())) == (SIZE, COUNT)
    again = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("part*")}
    assert {name for name in times if times[name] != again[name]} == {"part-00002.parquet"}


@pytest.mark.parametrize("workers", [0, 1])
def test_tar_files_give_what_folders_give(place: Path, workers: int) -> None:
    shards(Path("of folders"))
    names = pack("012")
    Path("empty.tar").write_bytes(bytes(10240))
    found = predict_shards(load("run"), [*names, "empty.tar"], Path("out"), batch_size=3, workers=workers)
    assert (found.predicted, found.shards, found.missing) == (COUNT, 4, 0)
    in_tars, in_folders = rows("out"), rows("of folders")
    assert [row["path"] for row in in_tars] == [
        row["path"].replace("/", ".tar/", 2).replace("images.tar/", "") for row in in_folders
    ]
    for one, other in zip(in_tars, in_folders, strict=True):
        for row in (one, other):
            del row["path"], row["message"]
            row |= {name: row[name] and pytest.approx(row[name], abs=1e-5) for name in ("probability", "kept")}
        assert one == other


def test_a_folder_of_tar_files_and_a_damaged_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in pack("012"):
        Path("tars").mkdir(exist_ok=True)
        Path(name).rename(f"tars/{name}")
    content = Path("tars/1.tar").read_bytes()
    Path("tars/1.tar").write_bytes(content[:5000])
    assert main(["predict", "run", "tars", "--out", "out", "--device", "cpu"]) == 0  # a few are no failure of all
    output = capsys.readouterr()
    assert re.search(r"out is complete: \d+ images, each once, in \d+ shard", output.out)
    assert output.err == ""
    faults = [row for row in rows("out") if row["path"] == "tars/1.tar"]
    assert [row["status"] for row in faults] == ["unreadable"]
    assert "expected a whole tar file" in faults[0]["message"]
    Path("tars/1.tar").unlink()
    Path("tars/1.tar").write_bytes(b"")
    assert main(["predict", "run", "tars/1.tar", "--out", "new", "--device", "cpu"]) == 1
    assert "got none that could be read" in capsys.readouterr().err


def test_processes_share_the_work_without_talking(place: Path) -> None:
    first = shards(Path("out"), processes=Processes(rank=0, size=2))
    own = {path.name for path in Path("out").glob("part*")}
    second = shards(Path("out"), processes=Processes(rank=1, size=2))
    assert (first.predicted + second.predicted, first.statuses, first.missing) == (COUNT, None, 3)
    assert own == {f"part-0000{number}.parquet" for number in (0, 2, 4)}
    assert sum(second.statuses.values()) == COUNT
    assert [row["path"] for row in rows("out")] == [str(path) for path in images()]
    part(Path("out"), 1).unlink()
    assert shards(Path("out"), processes=Processes(rank=1, size=3)).predicted == SIZE  # of another number of processes


def test_a_process_waits_for_the_list_of_the_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def first_comes(seconds: float) -> None:
        waits.append(seconds)
        shards(Path("out"), processes=Processes(rank=0, size=2))

    monkeypatch.setattr("ifam.sharding.manifest.time.sleep", first_comes)
    assert shards(Path("out"), processes=Processes(rank=1, size=2)).missing == 0
    assert waits == [1.0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 30])
def test_shares_are_complete_and_disjoint(world_size: int) -> None:
    numbers = [n for rank in range(world_size) for n in Processes(rank=rank, size=world_size).share_of(23)]
    assert sorted(numbers) == list(range(23))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets what processes are told, and nothing else of it."""

    def fill(told: dict[str, str]) -> None:
        for name in [*VARIABLES, *(name for name in os.environ if name.startswith("SLURM_"))]:
            monkeypatch.delenv(name, raising=False)
        for name, value in told.items():
            monkeypatch.setenv(name, value)

    return fill


def test_the_share_that_the_environment_says(
    environment: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment({})
    assert started(talking=False) == ALONE
    environment({"RANK": "5", "WORLD_SIZE": "8"})
    assert started(talking=False) == Processes(rank=5, size=8)
    assert started() == ALONE  # with no word of where the others are
    environment({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "2"})
    assert started(talking=False) == started() == Processes(rank=3, size=4, local_rank=1, local_size=2)
    environment({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    monkeypatch.setattr("torch.empty", lambda *_, device: SimpleNamespace(device=SimpleNamespace(type=device[:4])))
    assert (pick_device("cuda"), pick_device("cuda:0")) == ("cuda:1", "cuda:0")


@pytest.mark.parametrize("rank", ["8", "-1", "x"])
def test_an_impossible_rank(
    rank: str,
    environment: Callable[[dict[str, str]], None],
    refuses_line: Any,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = {"RANK": rank, "WORLD_SIZE": "8"}
    environment(told)
    with refuses_line("RANK", rank):
        started(talking=False)
    environment(told | dict.fromkeys(VARIABLES[2:], "0"))
    assert main(BEGUN) == 2  # for every command, before it does anything
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*BEGUN, "--shard-size", "5"], ["out", "shard size 4", "got 5", "choose another folder"]),
        ([*BEGUN, "--min-kept", "0.5"], ["min kept 0.0", "got 0.5"]),
        ([*BEGUN, "--remove-parts", "0", "1"], ["remove parts", "got 0 1"]),
        ([*BEGUN, "--precision", "bf16-mixed"], ["precision 32-true", "got bf16-mixed"]),
        (["predict", "other", *BEGUN[2:]], ["expected model ", "got "]),
        (["predict", "run", "images/0", *BEGUN[3:]], ["images images", "got images/0"]),
        ([*PREDICT, "--out", "images"], ["images", "an empty folder", "got one with 0"]),
        ([*PREDICT, "--out", "new", "--shard-size", "0"], ["shard size", "at least 1", "got 0"]),
        ([*PREDICT, "--out", "new", "--overlays", "pictures"], ["overlays"]),
        ([*PREDICT, "--out", "new.jsonl", "--shard-size", "5"], ["shard size", "--out DIR"]),
        ([*PREDICT, "--shard-size", "5"], ["shard size", "--out DIR"]),
        (["predict", "run", "--out", "new"], ["images", "got none"]),
    ],
)
def test_refusals_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: list[str]
) -> None:
    shards(Path("out"))
    model = load("run")
    with torch.no_grad():
        next(model.parameters())[0] += 1e-3
    save(model, "other")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [text for text in said if text not in err] == [], err
    assert not list(Path("new").glob("*"))


def test_several_processes_need_a_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*PREDICT, "--out", "rows.parquet"]) == 2
    assert "--out DIR" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "asked": {}, "images_sha256": ""}', "\ud800"])
def test_damaged_manifests(place: Path, refuses_line: Any, content: str) -> None:
    shards(Path("out"))
    Path("out/_manifest.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with refuses_line("out/_manifest.json", "begin anew", error=DataError):
        shards(Path("out"))


def test_the_same_names_in_another_folder_are_other_images(
    place: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    shards(place / "out")
    part(place / "out", 1).unlink()
    shutil.copytree("images", "elsewhere/images")
    model = load("run")
    monkeypatch.chdir("elsewhere")
    with refuses_line(f"current folder {place}", f"got {place / 'elsewhere'}"):
        predict_shards(model, ["images"], place / "out", shard_size=SIZE, batch_size=3)
    absolute = [str(place / "images")]
    predict_shards(model, absolute, place / "absolute", shard_size=SIZE)
    part(place / "absolute", 1).unlink()
    monkeypatch.chdir(place)
    assert predict_shards(model, absolute, place / "absolute", shard_size=SIZE).missing == 0


@pytest.mark.parametrize("change", ["size", "time", "kind"])
@pytest.mark.parametrize("tar", [False, True])
def test_other_images_under_the_names_that_were_listed(place: Path, refuses_line: Any, change: str, tar: bool) -> None:
    """A shard that is there is left alone; of one to be done every file has to be the one that was listed."""
    named = pack("012") if tar else ["images"]

    def go_on() -> Any:
        return predict_shards(load("run"), named, Path("out"), shard_size=SIZE)

    go_on()
    before = part(Path("out"), 0).read_bytes()
    part(Path("out"), 1).unlink()
    changed = Path("1.tar") if tar else images()[SIZE + 1]
    kept = shutil.move(changed, "kept")
    if change == "kind":
        shutil.copytree("images/2", changed)
    else:
        shutil.copy2(kept, changed) if change == "time" else changed.write_bytes(b"other")
        os.utime(changed, (0, 0) if change == "time" else (10**9, Path(kept).stat().st_mtime))
    with refuses_line(changed, "listed when this prediction began", "bytes", error=DataError):
        go_on()
    assert part(Path("out"), 0).read_bytes() == before
    shutil.rmtree(changed) if changed.is_dir() else changed.unlink()
    shutil.move(kept, changed)
    assert go_on().missing == 0


@pytest.mark.parametrize("moment", ["before the shard", "within the shard"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_disk_that_goes_away_for_a_while(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, moment: str, workers: int
) -> None:
    """No row says for ever that an image is unreadable which the system did not give just then."""
    shards(Path("straight"))
    unchanged = ImageList.require_unchanged

    def go_away(images: ImageList, number: int, **options: Any) -> None:
        if moment == "within the shard":
            unchanged(images, number, **options)
        if number == 2 and Path("images").exists():
            Path("images").rename("gone")
        if moment == "before the shard":
            unchanged(images, number, **options)

    arguments = [*BEGUN, "--batch-size", "3", "--workers", str(workers)]
    with monkeypatch.context() as patch:
        patch.setattr(ImageList, "require_unchanged", go_away)
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "4 that cannot be read now" in err if moment == "before the shard" else "4 of its images" in err
        assert "the same command goes on" in err
        there = {path.name for path in Path("out").iterdir()}
        # what a loader process had read before the disk went away is predicted
        assert {"part-00000.parquet"} <= there <= {path.name for path in Path("straight").iterdir()} - {"_SUCCESS"}
        assert main(arguments) == 1
    Path("gone").rename("images")
    assert main(arguments) == 0
    for number in range(6):
        assert part(Path("out"), number).read_bytes() == part(Path("straight"), number).read_bytes()


def test_images_that_are_gone_for_good(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards(Path("out"))
    part(Path("out"), 1).unlink()
    Path("out/_SUCCESS").unlink()
    gone = images()[SIZE]
    gone.unlink()
    assert main(BEGUN) == 1
    assert str(gone) in (err := capsys.readouterr().err)
    assert "--skip-unreadable" in err
    assert main([*BEGUN, "--skip-unreadable"]) == 0
    assert [row["path"] for row in rows("out") if row["status"] == "unreadable"] == [str(gone), "images/1/07.png"]


def test_another_number_of_processes_meanwhile(place: Path) -> None:
    """Of a process of other turns nothing is deleted under its hands, and every image is there once."""

    def second(done: int, total: int) -> None:
        if done == 1:
            assert list(Path("out").glob(".part-00001*"))
            assert shards(Path("out"), processes=Processes(rank=0, size=1)).predicted == COUNT - SIZE

    shards(Path("out"), processes=Processes(rank=0, size=2))
    for number in (2, 4):
        part(Path("out"), number).unlink()
    found = predict_shards(
        load("run"),
        ["images"],
        Path("out"),
        shard_size=SIZE,
        batch_size=1,
        processes=Processes(rank=1, size=2),
        progress=second,
    )
    assert found.missing == 0
    assert [row["path"] for row in rows("out")] == [str(path) for path in images()]
    assert not list(Path("out").glob(".part*"))


def test_a_first_process_that_fails_is_not_waited_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    model = load("run")
    clock = [0.0]

    def wait(rank: int = 1) -> None:
        clock[0] = 0.0
        predict_shards(model, ["none"], Path("out"), processes=Processes(rank=rank, size=2))

    def tick(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] == 5:
            with refuses_line("none: expected images", error=DataError):
                wait(rank=0)
            clock[0] = 5.0

    monkeypatch.setattr("ifam.sharding.manifest.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("ifam.sharding.manifest.time.sleep", tick)
    with refuses_line("rank 0, which failed: none: expected images", error=ProcessError):
        wait()
    assert clock[0] == 5
    monkeypatch.setattr("ifam.sharding.manifest.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with refuses_line("which failed: none: expected images", error=ProcessError):
        wait()  # it failed before: it may come again, but not for long
    assert 5 < clock[0] < 60
    shutil.rmtree("out")
    with refuses_line("expected the process of rank 0", "none at work", "start it", error=ProcessError):
        wait()
    assert clock[0] < 700


def test_a_first_process_at_work_is_waited_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(hold, place / "out/.running/rank-0", place / "held")
    while process.is_alive() and not Path("held").exists():
        time.sleep(0.01)
    clock = [0.0]

    def hours_later(seconds: float) -> None:
        clock[0] += 1000 * seconds
        if clock[0] > 10_000:
            process.kill()
            process.join()
            shards(Path("out"), processes=Processes(rank=0, size=2))

    monkeypatch.setattr("ifam.sharding.manifest.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("ifam.sharding.manifest.time.sleep", hours_later)
    assert shards(Path("out"), processes=Processes(rank=1, size=2)).missing == 0


def test_a_folder_of_shards_that_is_moved_away(place: Path, refuses_line: Any) -> None:
    def move(done: int, total: int) -> None:
        if done > SIZE and not Path("moved").exists():
            Path("out").rename("moved")
            Path("out").mkdir()

    with refuses_line("out", "deleted or moved", error=MovedError):
        shards(Path("out"), progress=move)
    assert not list(Path("out").iterdir())
    Path("out").rmdir()
    Path("moved").rename("out")
    assert shards(Path("out")).missing == 0


def test_a_list_or_a_shard_that_was_exchanged(place: Path, refuses_line: Any) -> None:
    shards(Path("out"))
    content = part(Path("out"), 1).read_bytes()
    for wrong in (part(Path("out"), 0).read_bytes(), content[:100], b""):
        part(Path("out"), 1).write_bytes(wrong)
        with refuses_line("part-00001", "delete it and call again", error=DataError):
            shards(Path("out"))
    part(Path("out"), 1).unlink()
    assert shards(Path("out")).missing == 0
    write_image_list(Path("out/_images.parquet"), images()[1:], SIZE)
    with refuses_line("_images.parquet", error=DataError):
        shards(Path("out"))


def test_a_folder_that_is_being_written_is_left_alone(place: Path, refuses_line: Any) -> None:
    from ifam.training.lock import locked

    process = start(hold, place / "out/.running/rank-0", place / "held")
    while process.is_alive() and not Path("held").exists():
        time.sleep(0.01)
    with refuses_line("out", f"process {process.pid} "):
        shards(Path("out"))
    process.kill()
    process.join()
    with locked(Path("out/.running/rank-0")):
        pass
    assert shards(Path("out")).missing == 0


def hold(lock: Path, held: Path) -> None:
    from ifam.training.lock import locked

    with locked(lock):
        held.touch()
        signal.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="names there are bytes")
def test_names_that_are_not_utf8(place: Path) -> None:
    os.rename(b"images/0/00.png", b"images/0/\xff.png")
    shards(Path("out"))
    assert "images/0/\\udcff.png" in [row["path"] for row in rows("out")]


def test_the_list_has_a_row_group_for_each_shard(tmp_path: Path) -> None:
    files = [Path(name) for name in ("1.png", "2.png", "3.png", "a.tar", "b.TAR", "4.png", "5.png", "6.png")]
    write_image_list(tmp_path / "list.parquet", iter(files), 2)
    found = ImageList(tmp_path / "list.parquet")
    assert [pq.ParquetFile(tmp_path / "list.parquet").metadata.row_group(n).num_rows for n in range(len(found))] == [
        2, 1, 1, 1, 2, 1,
    ]  # fmt: skip
    assert found.shard(4) == [Path("4.png"), Path("5.png")]


def test_the_list_is_never_in_memory(tmp_path: Path) -> None:
    """Files are asked for one shard at a time."""
    asked: list[int] = []

    def files() -> Any:
        for number in range(1000):
            asked.append(number)
            yield Path(f"{number}.png")

    write_image_list(tmp_path / "list.parquet", files(), 10)
    assert len(asked) == 1000
    assert len(ImageList(tmp_path / "list.parquet").shard(99)) == 10


def test_batches_end_with_their_shard(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = load("run"), list[int]()
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda images, **rest: (sizes.append(len(images)), forward(images, **rest))[1]
    )
    predict_shards(model, ["images"], Path("out"), shard_size=SIZE, batch_size=3, settings=PredictionSettings())
    assert sizes[:4] == [3, 1, 3, 1]
    assert sum(sizes) == COUNT - 1


def test_the_hash_of_a_model_is_of_all_that_is_saved(place: Path) -> None:
    model = load("run")
    before = model_sha256(model)
    assert before == model_sha256(load("run"))
    model.class_names = ["finch", "tern"]
    renamed = model_sha256(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert len({before, renamed, model_sha256(model)}) == 3


def test_progress_is_of_this_call(place: Path) -> None:
    seen: list[tuple[int, int]] = []
    shards(Path("out"), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (COUNT, COUNT)
    assert all(done <= total for done, total in seen)
    part(Path("out"), 0).unlink()
    shards(Path("out"), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (SIZE, SIZE)


def test_the_manifest_can_be_read_by_people(place: Path) -> None:
    shards(Path("out"))
    asked = json.loads(Path("out/_manifest.json").read_text())["asked"]
    assert (asked["images"], asked["shard_size"], asked["precision"]) == (["images"], SIZE, "32-true")
