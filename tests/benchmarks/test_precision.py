import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import write_scenes

from ifam.data.read import read_table
from ifam.evaluate import evaluate
from ifam.model.two_stage import IFAM
from ifam.storage import save


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("precision")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "data", {"train": 1, "val": 1, "test": 3})


def test_answers_that_differ_are_counted_by_whether_the_mask_does(precision: Any) -> None:
    before = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    after = torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.0, 4.0], [1.0, 0.0]])
    mask = torch.zeros(4, 2, 2, dtype=torch.bool)
    other = mask.clone()
    other[2, 0] = True
    other[3, 0, 0] = True
    assert precision.changes(before, after, mask, other) == {
        "share of images with the same answer": 0.5,
        "images with another answer": 2,
        "of these with another mask": 1,
        "tokens that their masks differ by": [2],
        "of these with the same mask": 1,
        "images with another mask": 2,
        "largest difference of a logit": 4.0,
        "largest with the same mask": 1.0,
    }


def test_stage_2_is_asked_as_the_model_asks_it(precision: Any, data: Path, make_model: Any) -> None:
    table = read_table(data)
    found = precision.ask(make_model(num_classes=2, class_names=list(table.class_names)), table, "32-true", 4)
    assert found.num_samples == len(table.select("test"))
    assert torch.equal(found["logits"], found["logits of both"])


@pytest.mark.parametrize("soft", [False, True], ids=["faithful", "soft masks"])
def test_a_file_of_two_runs(
    soft: bool, precision: Any, data: Path, make_vit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = read_table(data), tmp_path / "out.json"
    runs = [tmp_path / "runs" / name for name in ("a", "b")]
    model = IFAM(make_vit(), num_parts=2, num_classes=2, class_names=list(table.class_names), soft_masks=soft).eval()
    for run in runs:
        save(model, run)
    monkeypatch.setattr(sys, "argv", ["precision.py", *map(str, runs), str(data), "--json", str(out)])
    precision.main()
    text = out.read_text()
    content = json.loads(text)
    assert str(tmp_path) not in text
    assert list(content["measured"]) == ["runs/a", "runs/b"]
    assert list(content["summary"]) == (["bfloat16"] if soft else ["bfloat16", "bfloat16 in both stages"])
    single = evaluate(model, table)
    scores = {"accuracy": single.accuracy, "worst_group_accuracy": single.worst_group_accuracy}
    assert content["measured"]["runs/a"]["float32"] == scores
