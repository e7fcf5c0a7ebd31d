import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ifam import demo
from ifam.cli import main
from ifam.config import TrainingConfig, override
from ifam.data.batch import OFFER
from ifam.data.read import read_table
from ifam.demo import DemoResult, Row, demo_config, three_sentences
from ifam.errors import DataError
from ifam.evaluate import evaluate
from ifam.interventions import Intervention
from ifam.scenes import dataset
from ifam.scenes.dataset import ScenesConfig
from ifam.storage import load

SMALL = {"train": 16, "val": 8, "test": 8}


def tiny(method: Any, seed: int) -> TrainingConfig:
    changes = {"model.backbone": "test_vit", "model.pretrained": False, "optimizer.epochs": 2, "workers": 0}
    changes |= {"optimizer.stage1_epochs": int(method == "ifam"), "precision": "32-true"}
    return override(demo_config(method, seed), changes)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo on a few scenes with a transformer that knows nothing."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IFAM_CACHE", str(folder / "cache"))
        patch.setattr(demo, "ScenesConfig", lambda seed: ScenesConfig(seed=seed, **SMALL))
        patch.setattr(demo, "demo_config", tiny)
        assert main(["demo", "--out", str(folder / "out"), "--seed", "3"]) == 0
        assert main(["demo", "--out", str(folder / "out")]) == 2, "nothing is overwritten"
    return folder / "out"


def test_what_the_demo_leaves(report: Path) -> None:
    assert {path.name for path in report.iterdir()} == {
        "erm",
        "pdiscoformer",
        "ifam",
        "figure.png",
        "demo.json",
        "report.md",
    }
    text = (report / "report.md").read_text()
    assert text.count("\n| ") == 5, "a header, a rule and three methods: in so short a training no intervention helps"
    with Image.open(report / "figure.png") as picture:
        assert picture.height > 1000


def test_a_stopped_demo_says_how_to_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt("interrupted; the same command with --resume goes on")

    monkeypatch.setenv("IFAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "ScenesConfig", lambda seed: ScenesConfig(seed=seed, **SMALL))
    monkeypatch.setattr("ifam.training.run.train", stop)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; to begin again, delete {tmp_path / 'out'}"


def test_a_damaged_scene_is_not_offered_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> None:
        raise DataError(f"1.png: expected an image, got none; take it out{OFFER}")

    monkeypatch.setenv("IFAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "ScenesConfig", lambda seed: ScenesConfig(seed=seed, **SMALL))
    monkeypatch.setattr("ifam.training.run.train", fail)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: 1.png: expected an image, got none; take it out"


def test_the_numbers_are_those_of_evaluate(report: Path) -> None:
    numbers = json.loads((report / "demo.json").read_text())
    data = next((report.parent / "cache").iterdir())
    assert [row["name"] for row in numbers["rows"][:3]] == ["plain fine-tuning", "late masking (stage 1 alone)", "iFAM"]
    for row, method in zip(numbers["rows"], ("erm", "pdiscoformer", "ifam"), strict=False):
        result = evaluate(load(report / method), read_table(data), precision="auto")
        assert row["worst_group_accuracy"] == pytest.approx(result.worst_group_accuracy)
        assert row["accuracy"] == pytest.approx(result.accuracy)
        assert row["foreground_iou"] == pytest.approx(result.foreground_iou)
        assert result.groups[row["worst_group"]].accuracy == pytest.approx(row["worst_group_accuracy"])
        mixed = evaluate(load(report / method), read_table(data / "variants/mixed_rand"), precision="auto")
        assert row["mixed_rand"] == pytest.approx(mixed.accuracy)
    assert len(numbers["sentences"]) == 3


def test_an_intervention_that_was_chosen_has_a_row(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = load(report / "ifam"), next((report.parent / "cache").iterdir())
    monkeypatch.setattr(demo, "_choose", lambda *arguments: Intervention(token_quantile=0.9))
    (row,) = demo._intervened(model, read_table(data), data)
    assert row.intervention == "without tokens beyond q = 0.9"
    assert row.accuracy == pytest.approx(
        evaluate(model, read_table(data), token_quantile=0.9, precision="auto").accuracy
    )


def row(name: str, worst: float, same: float, rand: float) -> Row:
    return Row(
        name=name, worst_group="wader/woods", worst_group_accuracy=worst, accuracy=0.8, foreground_iou=None,
        mixed_same=same, mixed_rand=rand, mean_kept=0.2,
    )  # fmt: skip


@pytest.mark.parametrize(("worst", "said"), [(0.75, "50 points more"), (0.2, "5 points less")])
def test_the_sentences_follow_the_numbers(worst: float, said: str) -> None:
    rows = [
        row("plain", 0.25, 0.9, 0.6),
        row("late", 0.3, 0.8, 0.7),
        row("iFAM", worst, 0.8, 0.75),
        row("iFAM*", 0.7, 0, 0),
    ]
    first, second, third = three_sentences(DemoResult(rows=rows, seed=0, num_test_images=8, seconds=1))
    assert "80%" in first
    assert "25% of wader/woods" in first
    assert "loses 30 points" in first
    assert said in second
    assert "sees 20%" in second
    assert "loses 5." in second
    assert "30%" in third


def test_without_data_there_are_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("IFAM_CACHE", str(tmp_path / "cache"))
    small = ScenesConfig(**SMALL)
    original = dataset.write_scenes
    monkeypatch.setattr(dataset, "write_scenes", lambda folder, config, progress: original(folder, small, progress))
    run = str(tmp_path / "run")
    tiny_settings = ["--set", "model.pretrained=false", "--epochs", "2", "--workers", "0", "--precision", "32-true"]
    assert main(["train", "--out", run, "--backbone", "test_vit", *tiny_settings]) == 0
    assert main(["evaluate", run]) == 0
    assert main(["calibrate", run, "--quantiles", "0.5"]) == 0
    assert main(["predict", run]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("no DATA given") == 4
    assert captured.out.count("% of the image seen\n") == SMALL["test"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    data = Path(run, "data.json")
    data.write_text(json.dumps(json.loads(data.read_text()) | {"classes": ["finch", "gull"]}))
    for command in ("evaluate", "predict"):  # trained on something else: not what is meant
        assert main([command, run]) == 2
        error = capsys.readouterr().err
        assert "finch, gull" in error
        assert "name a folder of photographs" in error
