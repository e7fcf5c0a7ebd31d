"""``ifam report``."""

import json
from pathlib import Path

import numpy as np
import pytest
from generated import tiny_config, write_image, write_scenes

from ifam.cli import main
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.model.classifier import PlainClassifier
from ifam.storage import load, save, weights_sha256
from ifam.training.folder import describe_data
from ifam.training.run import train
from report.conftest import Make


def test_one_file(
    make: Make, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    save(make(), run)
    (run / "config.yaml").write_text("seed: 17\n")
    before = sorted(run.iterdir())
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run", "scenes", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("report.html: 16 images, ")
    assert said.err == ""
    assert sorted(run.iterdir()) == before
    page = Path("report.html").read_text(encoding="utf-8")
    digest = describe_data(table)["digest"]
    for content in (weights_sha256(load(run)), digest, "seed: 17", "ifam report run scenes --out report.html"):
        assert str(content) in page


PLACE = "anna.mueller/ward 7"


@pytest.mark.parametrize("kind", ["folder", "table", "here"])
def test_no_folder_of_this_machine_is_in_the_report(
    kind: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / PLACE
    scenes = write_scenes(home / "scenes", {"train": 2, "val": 3, "test": 4})
    last = read_table(scenes).select("test").samples[-1].path
    last.write_bytes(b"no image")
    model = make()
    model.backbone_name = str(home / "backbones/vit.safetensors")
    run = home / "run"
    save(make(), run)
    monkeypatch.setattr("ifam.commands.report.load_with_parts", lambda folder: model)
    settings = {
        "model": {"backbone": f"{home}/vit.safetensors", "masks": f"{home}/masks"},
        "seed": 17,
        "more": [f"{home}/x"],
    }
    (run / "config.yaml").write_text(json.dumps(settings))
    data = scenes
    if kind == "table":
        data = home / "films.csv"
        rows = [f"scenes/{sample.name},{sample.label},{sample.split}" for sample in read_table(scenes).samples]
        data.write_text("\n".join(["path,label,split", *rows]))
        model.class_names = ["0", "1"]
    out = home / "signed/report.html"
    words = [str(run), str(data), "--out", str(out)]
    if kind == "here":
        monkeypatch.chdir(run)
        words = [".", "../scenes", "--out", "../signed/report.html"]
    assert main(["report", *words, "--skip-unreadable", "--device", "cpu"]) == 0
    page = out.read_text(encoding="utf-8")
    assert not any(part in page for part in ("anna.mueller", "ward 7", str(tmp_path)))
    assert "<h1>Report on run</h1>" in page
    named = "films.csv" if kind == "table" else "scenes"
    assert f"15 images of {named};" in page
    assert f"ifam report run {named} --out report.html" in page
    assert f"{last.name}: expected an image" in page
    assert "backbone: vit.safetensors" in page
    assert "masks: masks" in page


def test_a_configuration_that_is_none_keeps_nobody_from_the_report(
    make: Make, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(make(), Path("run"))
    Path("run/config.yaml").write_text("{")
    assert main(["report", "run", "scenes", "--device", "cpu"]) == 0
    assert "config.yaml of the run is no YAML" in Path("report.html").read_text(encoding="utf-8")


def test_a_model_without_parts(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(PlainClassifier("resnet18", num_classes=2, image_size=64, pretrained=False), tmp_path / "plain")
    assert main(["report", "plain", "scenes"]) == 2
    assert (
        "error: plain: expected a model with parts, got a PlainClassifier, which has none\n" in capsys.readouterr().err
    )
    assert not Path("report.html").exists()


def test_without_jinja(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    assert main(["report", "none", "--out", str(tmp_path / "page.html")]) == 2
    assert "pip install 'ifam[report]'" in capsys.readouterr().err


def test_the_data_of_the_training_is_recognised_where_the_run_split_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("finch", "gull"):
        for number in range(10):
            write_image(Path(f"data/{name}/{number}.png"), random.integers(0, 255, (48, 48, 3)))
    train(tiny_config(optimizer__epochs=1), read_table("data"), Path("run"), say=lambda line: None)
    assert Path("run/splits.json").is_file()
    digest = json.loads(Path("run/data.json").read_text())["digest"]

    def report() -> str:
        assert main(["report", "run", "data", "--device", "cpu"]) == 0
        return Path("report.html").read_text(encoding="utf-8")

    page = report()
    assert "the same as in training" in page
    assert digest in page
    Path("data/gull/7.png").rename("data/gull/new.png")
    page = report()
    assert "another than in training" in page
    assert digest not in page
