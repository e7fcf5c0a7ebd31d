import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from generated import write_image, write_scenes
from PIL import Image
from torch import Tensor

import ifam
from ifam.cli import main
from ifam.data.find import ImageSearch, find_images
from ifam.data.images import open_image
from ifam.data.read import read_table
from ifam.data.transforms import test_transform as view_of
from ifam.errors import CheckpointError, DataError, OutputError, UsageError
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.overlays import overlay_names
from ifam.predict import PredictionRow, predict, writer
from ifam.storage import save


@pytest.fixture
def model(make_model: Any) -> IFAM:
    return make_model(num_classes=2, class_names=["cat", "dog"])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Seven photographs of noise, of several sizes."""
    random = np.random.default_rng(1)
    sizes = [(32, 32), (40, 64), (64, 40), (33, 32), (100, 90), (32, 50), (20, 24)]
    return [
        write_image(tmp_path / f"photographs/{number}.png", random.integers(0, 255, (*size, 3)))
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 32])
def test_one_row_for_each_file_in_order(model: IFAM, paths: list[Path], batch_size: int) -> None:
    rows = list(predict(model, paths, batch_size=batch_size))
    assert [row.path for row in rows] == [str(path) for path in paths]
    view = view_of(model.preprocessing)
    for row, path in zip(rows, paths, strict=True):
        with torch.inference_mode():
            out = model(view(open_image(path))[None])
        probabilities = out.logits.softmax(1)[0]
        assert row.label == ["cat", "dog"][int(probabilities.argmax())]
        assert row.probability == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert (row.kept, row.parts) == (pytest.approx(out.kept.item()), out.parts[0].tolist())
        assert (row.status, row.message) == ("ok" if row.kept else "no evidence", None)


def test_statuses(model: IFAM, paths: list[Path]) -> None:
    shares = sorted(row.kept for row in predict(model, paths) if row.kept is not None)
    assert shares[0] < shares[-1]
    for row in predict(model, paths, min_kept=shares[-1]):
        assert row.kept is not None
        abstained = row.kept < shares[-1]
        assert (row.status == "abstained", row.label is None, row.probability is None) == (abstained,) * 3
    for min_kept in (0, 0.1):
        for row in predict(model, paths, remove_parts=[0, 1, 2], min_kept=min_kept):
            assert (row.status, row.kept) == ("no evidence", 0)
            assert row.label in ((None,) if min_kept else ("cat", "dog"))
            assert {part for line in row.parts or [] for part in line} == {3}


def overflowing(model: IFAM, stage: str) -> IFAM:
    """Weights that are finite, and what is computed with them is not."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(stage) and "mlp" in name and weight.ndim > 1:
                weight.mul_(1e30)
    return model


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_scores_that_are_no_numbers_are_no_answer(
    stage: str, model: IFAM, paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(overflowing(model, stage), tmp_path / "model")
    given, rows = [str(tmp_path / "model"), str(paths[0].parent)], tmp_path / "rows.jsonl"
    assert main(["predict", *given, "--out", str(rows), "--device", "cpu"]) == 1
    told = capsys.readouterr()
    assert "0 predictions and 7 rows without an answer" in told.out
    assert "NaN or infinity for 7 of 7 images" in told.err
    for line in rows.read_text().splitlines():
        row = json.loads(line, parse_constant=pytest.fail)
        assert (row["status"], row["label"], row["probability"]) == ("not finite", None, None)
    assert main(["predict", *given, "--out", str(tmp_path / "shards"), "--device", "cpu"]) == 1
    assert "7 not finite" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"finite scores .* 1 of 1 images"):
        ifam.explain(model, paths[0])


def test_one_image_without_an_answer_costs_the_others_nothing(model: IFAM, paths: list[Path]) -> None:
    view = view_of(model.preprocessing)
    odd = view(open_image(paths[2]))
    answer = model.answer

    def lose(images: Tensor, *arguments: Any, **options: Any) -> Any:
        output = answer(images, *arguments, **options)
        output.logits[(images == odd).flatten(1).all(1)] = torch.nan
        return output

    expected = list(predict(model, paths))
    model.answer = lose  # type: ignore[method-assign]
    found = list(predict(model, paths))
    assert found[2].status == "not finite"
    assert found[:2] + found[3:] == expected[:2] + expected[3:]


def test_an_unreadable_file_stands_in_its_place(model: IFAM, paths: list[Path]) -> None:
    paths[1].write_bytes(b"not an image")
    paths[4].unlink()
    rows = list(predict(model, paths, batch_size=3))
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert [number for number, row in enumerate(rows) if row.status == "unreadable"] == [1, 4]
    for number in (1, 4):
        assert str(paths[number]) in str(rows[number].message)
        assert (rows[number].label, rows[number].kept, rows[number].parts) == (None, None, None)
    only = list(predict(model, [paths[1]]))
    assert [row.status for row in only] == ["unreadable"]


def test_a_model_without_parts(make_vit: Any, paths: list[Path], tmp_path: Path) -> None:
    model = PlainClassifier(make_vit(), 2)
    rows = list(predict(model, paths))
    assert {(row.status, row.kept, row.parts) for row in rows} == {("ok", None, None)}
    for options in ({"min_kept": 0.5}, {"overlays": tmp_path}, {"remove_parts": [0]}, {"token_quantile": 0.9}):
        with pytest.raises(UsageError):
            next(predict(model, paths, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("min_kept", [-0.1, 1.1, float("nan")])
def test_impossible_shares(model: IFAM, paths: list[Path], min_kept: float, refuses_line: Any) -> None:
    with refuses_line("min_kept", "0 to 1", min_kept):
        next(predict(model, paths, min_kept=min_kept))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_come_back_from_a_file(model: IFAM, paths: list[Path], tmp_path: Path, suffix: str) -> None:
    paths[2].write_bytes(b"")
    rows = list(predict(model, paths, min_kept=0.2))
    path = tmp_path / f"new/predictions{suffix}"
    with writer(path) as write:
        for row in rows:
            write(row)
        assert not path.exists()  # whole or not at all
    if suffix == ".jsonl":
        values = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        values = pyarrow.parquet.read_table(path).to_pylist()
    approximately = [
        row if row.probability is None else {**vars(row), "probability": pytest.approx(row.probability)} for row in rows
    ]
    for value, row in zip(values, approximately, strict=True):
        expected = row if isinstance(row, dict) else vars(row)
        kept = expected["kept"]
        assert value == {**expected, "kept": None if kept is None else pytest.approx(kept)}


def test_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    with writer(path) as write:
        for number in range(2100):
            write(PredictionRow(path=str(number), status="ok", label="a", probability=1, kept=1, parts=[[0]]))
    table = pyarrow.parquet.read_table(path)
    assert table["path"].to_pylist() == [str(number) for number in range(2100)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_interrupted_file_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    row = PredictionRow(path="a", status="ok", label="a", probability=1, kept=1, parts=[[0]])

    def stop_after_a_row() -> None:
        with writer(tmp_path / f"predictions{suffix}") as write:
            write(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_a_row()
    assert list(tmp_path.iterdir()) == []


def test_other_files(tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line(".parquet or .jsonl", "predictions.csv"):
        writer(tmp_path / "predictions.csv")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/predictions.jsonl", tmp_path / "folder.jsonl"):
        (tmp_path / "folder.jsonl").mkdir(exist_ok=True)
        with refuses_line(path.parent if path.parent != tmp_path else path), writer(path):
            pass


def test_overlays_are_named_after_the_files(model: IFAM, paths: list[Path], tmp_path: Path) -> None:
    twin = write_image(tmp_path / "photographs/more/0.png", np.zeros((32, 32, 3)))
    paths[3].write_bytes(b"not an image")
    list(predict(model, [*paths, twin], overlays=tmp_path / "pictures", batch_size=3))
    names = {path.name for path in (tmp_path / "pictures").glob("[!.]*")}
    assert names == {"0.png.png", "more_0.png.png", "1.png", "2.png", "4.png", "5.png", "6.png"}
    with Image.open(tmp_path / "pictures/1.png") as picture:
        assert picture.size == (480, 480)  # 32 pixels, enlarged by a whole number


def test_overlays_never_take_the_place_of_photographs(
    model: IFAM, paths: list[Path], tmp_path: Path, refuses_line: Any
) -> None:
    before = [path.read_bytes() for path in paths]
    (tmp_path / "link").symlink_to(paths[0].parent)
    for folder in (paths[0].parent, tmp_path / "link"):
        with refuses_line("overlays", "another folder than that of the photographs", folder):
            list(predict(model, paths, overlays=folder))
    assert [path.read_bytes() for path in paths] == before
    list(predict(model, paths[:1], overlays=paths[0].parent / "pictures"))
    assert (paths[0].parent / "pictures/0.png").is_file()


def test_overlays_are_not_drawn_where_they_would_be_read_later(
    model: IFAM, paths: list[Path], tmp_path: Path, refuses_line: Any
) -> None:
    """Neither above the photographs, nor among files of something else, which would no longer be read."""
    before = contents(tmp_path)
    other = write_image(tmp_path / "other/7.png", np.zeros((32, 32, 3)))
    for folder in (tmp_path, tmp_path / "other/..", tmp_path / "other"):
        with refuses_line("overlays", "choose", folder):
            list(predict(model, paths, overlays=folder))
    other.unlink()
    assert contents(tmp_path) == before


def test_overlays_are_no_photographs(model: IFAM, tmp_path: Path, refuses_line: Any) -> None:
    """However the folder is named, and for training too."""
    for number in range(4):
        write_image(tmp_path / f"data/{'ab'[number % 2]}/{number}.png", np.zeros((32, 32, 3)))
    data = tmp_path / "data"
    images = sorted(find_images([str(data)]))
    drawn = [data / "drawn", data / "a/drawn", data / "a/deep/drawn"]
    for folder in drawn:
        list(predict(model, images, overlays=folder))
        list(predict(model, images, overlays=folder))  # over earlier ones
        assert len(list(folder.glob("*.png"))) == 4
    assert sorted(find_images([str(data)])) == images
    assert sorted(find_images([f"{data}/*", f"{data}/drawn/*.png", f"{data}/*/*.png"])) == images
    assert [sample.path for sample in read_table(data).samples] == images
    for pattern in ("drawn", "drawn/0.png", "a/drawn/*.png"):
        with refuses_line("pictures that ifam drew", error=DataError):
            list(find_images([str(data / pattern)]))


def test_overlays_never_take_the_place_of_other_pictures(
    model: IFAM, paths: list[Path], tmp_path: Path, refuses_line: Any
) -> None:
    list(predict(model, paths[:2], overlays=tmp_path / "drawn"))
    write_image(tmp_path / "drawn/2.png", np.zeros((9, 9, 3)))
    (tmp_path / "drawn/notes.txt").write_text("mine")
    before = contents(tmp_path)
    with refuses_line(tmp_path / "drawn/2.png", "another file"):
        list(predict(model, paths, overlays=tmp_path / "drawn"))
    assert contents(tmp_path) == before
    list(predict(model, paths[:2], overlays=tmp_path / "drawn"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["ä" * 125, "x" * 251])
def test_overlays_of_the_longest_names(model: IFAM, tmp_path: Path, name: str) -> None:
    for folder in "ab":
        write_image(tmp_path / folder / f"{name}.png", np.zeros((32, 32, 3)))
    images = sorted(find_images([str(tmp_path)]))
    assert len(list(predict(model, images, overlays=tmp_path / "drawn"))) == 2
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2
    assert overlay_names(images) == overlay_names(images)


def test_rows_are_complete_where_pictures_have_no_room(
    model: IFAM, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    drawn: list[Path] = []

    def full(path: Path, *rest: Any) -> None:
        drawn.append(path)
        if len(drawn) == 3:
            raise OutputError(f"{path}: no room")

    monkeypatch.setattr("ifam.predict.save_overlay", full)
    rows = []
    with refuses_line("drawn/2.png", "no room", error=OutputError):
        for row in predict(model, paths, overlays=tmp_path / "drawn", batch_size=2):
            rows.append(row)
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert len(drawn) == 3


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_only_earlier_rows_are_written_over(tmp_path: Path, suffix: str, refuses_line: Any) -> None:
    path = tmp_path / f"rows{suffix}"
    row = PredictionRow(path="a", status="ok", label="a", probability=1, kept=1, parts=[[0]])
    path.touch()  # as mktemp makes it
    for _ in range(2):
        with writer(path) as write:
            write(row)
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"], "label": ["b"]}), tmp_path / "table.parquet")
    for other in (b'{"text": 1}\n', b"[1]\n", b"PAR1", b"\xff\xd8", (tmp_path / "table.parquet").read_bytes()):
        path.write_bytes(other)
        with refuses_line(path, "got another file", "choose another name"):
            writer(path)
        assert path.read_bytes() == other


def test_overlay_names() -> None:
    assert overlay_names([]) == []
    assert overlay_names([Path("a/1.jpg"), Path("b/2.jpg")]) == ["1.png", "2.png"]
    assert overlay_names([Path("a/1.jpg"), Path("a/1.png"), Path("a/2.jpg")]) == ["1.jpg.png", "1.png.png", "2.png"]
    deep = [Path("data/x/b/c/1.jpg"), Path("data/y/b/c/1.jpg"), Path("data/y/2.jpg").absolute()]
    assert overlay_names(deep) == ["x_b_c_1.jpg.png", "y_b_c_1.jpg.png", "2.png"]
    alike = [Path("p/a_b/c.jpg"), Path("p/a/b/c.jpg"), Path("p/a/b_c.jpg"), Path("p/a_b_c.jpg")]
    assert overlay_names(alike) == ["a_b_c.jpg.png", "a_b_c.jpg_2.png", "b_c.png", "a_b_c.png"]
    taken = [*alike[:2], Path("p/a_b_c.jpg_2.png"), Path("p/A_B_C.jpg.png")]
    assert overlay_names(taken) == ["a_b_c.jpg.png", "a_b_c.jpg_2.png", "a_b_c.jpg_2_2.png", "A_B_C.jpg_3.png"]
    assert overlay_names([Path("a/X.jpg"), Path("b/x.jpg")]) == ["a_X.jpg.png", "b_x.jpg.png"]
    assert overlay_names([Path("a/X.jpg"), Path("A/x.jpg")]) == ["a_X.jpg.png", "A_x.jpg_2.png"]
    many = [Path(f"{folder}/{number}.jpg") for folder in "ab" for number in range(20_000)]
    assert len(set(overlay_names(many))) == 40_000


def test_files_folders_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    for name in ("b/2.png", "b/1.JPG", "b/deep/3.webp", "b/notes.txt", "b/.hidden.png", "b/.cache/4.png", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    inside = [Path("b/1.JPG"), Path("b/2.png"), Path("b/deep/3.webp")]
    assert list(find_images(["b"])) == inside
    assert list(find_images(["b/*.png", "a.png"])) == [Path("b/2.png"), Path("a.png")]
    assert list(find_images(["**/*.png"])) == [Path("a.png"), Path("b/2.png")]
    assert list(find_images(["b/2.png", "b", "b/2.png"])) == [Path("b/2.png"), Path("b/1.JPG"), Path("b/deep/3.webp")]
    (tmp_path / "[1].png").touch()
    assert list(find_images(["[1].png"])) == [Path("[1].png")]
    for pattern in ("c", "c/*.png", "b/*.gif"):
        with refuses_line(pattern, "found none", error=DataError):
            list(find_images([pattern]))
    (tmp_path / "empty").mkdir()
    with refuses_line("empty", "found none", error=DataError):
        list(find_images(["empty"]))


def test_masks_are_no_photographs(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "scenes", {"train": 1, "val": 1, "test": 1})
    images = sorted((root / "images").iterdir())
    assert len(images) == len(list((root / "masks").rglob("*.png"))) == 12
    assert sorted(find_images([str(root)])) == images
    assert sorted(find_images([str(root), str(root / "images")])) == images
    (root / "metadata.csv").write_text("of,something,else\n")
    search = ImageSearch([str(root)])
    assert sorted(search) == images  # by the names of the masks alone
    said = "left out 14: 2 with other suffixes (.csv 2), 12 masks beside photographs (masks/ 12)"
    assert search.account.line() == said


def test_the_photographs_of_a_table(tmp_path: Path, refuses_line: Any) -> None:
    root = write_scenes(tmp_path / "scenes", {"train": 1, "val": 1, "test": 1})
    names = [f"images/{path.name}" for path in sorted((root / "images").iterdir())][:3]
    (root / "some.csv").write_text("path,note\n" + "".join(f"{name},x\n" for name in names))
    assert list(find_images([str(root / "some.csv")])) == [root / name for name in names]
    (root / "gone.csv").write_text("path\nimages/gone.png\n")
    with refuses_line("gone.csv", "images/gone.png", error=DataError):
        list(find_images([str(root / "gone.csv")]))


def test_images_are_never_held_all_at_once(model: IFAM, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Tensor] = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda images, **rest: (batches.append(images), forward(images, **rest))[1])
    rows = predict(model, paths, batch_size=2)
    next(rows)
    assert len(batches) == 1
    assert len(list(rows)) == 6
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]


@pytest.mark.parametrize("options", [{"soft_masks": True}, {"second_stage": False}])
def test_no_share_is_claimed_for_predictions_that_see_more(make_model: Any, paths: list[Path], options: Any) -> None:
    model = make_model(num_classes=2, **options)
    assert [row.kept for row in predict(model, paths)] == [None] * len(paths)
    with pytest.raises(UsageError, match="min-kept"):
        list(predict(model, paths, min_kept=0.1))


@pytest.mark.parametrize("workers", [-1, 1001, 10**30])
def test_workers_that_no_machine_has(model: IFAM, tmp_path: Path, workers: int, refuses_line: Any) -> None:
    with refuses_line("workers", str(workers)):  # before any is started: they would fill the memory
        next(predict(model, [tmp_path / "bird.png"], workers=workers))
