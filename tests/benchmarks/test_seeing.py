import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes

from ifam.data.read import read_table
from ifam.model.two_stage import IFAM
from ifam.storage import save

pytest.importorskip("httpx")
pytest.importorskip("gradio")
pytest.importorskip("jinja2")


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("seeing")


def test_photographs_from_all_over_the_split(seeing: Any) -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert [path.name for path in seeing.spaced(paths, 4)] == ["0", "2", "5", "7"]
    with pytest.raises(SystemExit, match="at least 11"):
        seeing.spaced(paths, 11)


@pytest.mark.slow  # three commands, each with its start
def test_every_measurement_is_kept_beside_those_before(
    seeing: Any, make_vit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, out = write_scenes(tmp_path / "data"), tmp_path / "runs" / "a", tmp_path / "out.json"
    save(IFAM(make_vit(), num_parts=2, num_classes=2, class_names=list(read_table(data).class_names)), run)
    for part in seeing.PARTS:
        options = ["--measure", part, "--precisions", "32-true", "--photographs", "2", "--images", "4"]
        monkeypatch.setattr(sys, "argv", ["seeing.py", str(run), str(data), *options, "--json", str(out)])
        seeing.main()
    text = out.read_text()
    assert str(tmp_path) not in text
    found = json.loads(text)["measured"]["runs/a"]
    assert found["report, 32-true"]["images"] == 8
    assert found["app"]["seconds of an answer"]["count"] == 2
    assert found["app"]["seconds of a part switched off"]["count"] == 4
    certificate = found["verify"]["certificate"]
    assert certificate["num_images"] == 4
    assert [changes["bits"] for changes in certificate["outside"].values()] == [0, 0, 0]
    assert found["model"]["model_sha256"] == certificate["weights_sha256"]
