"""``ifam report``."""

from pathlib import Path

import pytest

from ifam.cli import main
from ifam.data.table import ImageTable
from ifam.model.classifier import PlainClassifier
from ifam.storage import save, weights_sha256
from ifam.training.folder import describe_data
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
    for content in (weights_sha256(run), digest, "seed: 17", "ifam report run scenes --out report.html"):
        assert str(content) in page


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
