"""The card: complete, true to what the model promises, and without a word about the machine it was made on."""

from pathlib import Path
from typing import Any

import pytest
from generated import tiny_config, write_scenes
from huggingface_hub import ModelCard

import ifam
from ifam.data.read import read_table
from ifam.model.masked import MaskedClassifier
from ifam.model.origin import Origin
from ifam.model_card import TrainingRecord, guarantee, model_card
from ifam.training.run import train

PROMISE = "changing any other pixel changes no bit"


@pytest.fixture
def record(tmp_path: Path) -> TrainingRecord:
    table = read_table(write_scenes(tmp_path / "finches"))
    validation = {
        "val/accuracy": 0.75,
        "val/worst_group_accuracy": 0.5,
        "val/auc": 0.8,
        "val/groups": {"finch/land": 1.0, "gull/sea": None},
    }
    config = tiny_config(model__backbone=str(tmp_path / "weights" / "tiny.safetensors"))
    return TrainingRecord.of_run(config, table, validation)


def test_of_a_run(make_model: Any, record: TrainingRecord, tmp_path: Path) -> None:
    model = make_model(class_names=["finch", "gull", "rook", "{{ kite }}"])
    model.training_group_sizes = {"finch/land": 1200, "gull/sea": 7}
    text = model_card(model, record, license="cc-by-4.0")
    for part in (
        "# iFAM with 3 parts, 4 classes",
        "Classes (4): finch, gull, rook, {{ kite }}",
        "Name: finches\n",
        "Images: train 12, val 4, test 8\n",
        "finch/land 1,200, gull/sea 7\n",
        "| Worst-group accuracy | 0.500 |",
        "| Accuracy of group finch/land | 1.000 |\n| Accuracy of group gull/sea | – |",
        PROMISE,
        "backbone: tiny.safetensors",
        'ifam.load("path/of/this/folder")',
    ):
        assert part in text
    assert str(tmp_path) not in text
    assert "\n\n\n" not in text


def test_the_backbone_is_named_as_its_weights_say(make_model: Any) -> None:
    model = make_model()
    assert "- The backbone's weights: not known; licence: not known\n" in model_card(model)
    model.backbone_origin = Origin(source="encoder of a model: ViT-S/14\n# other", license="wheel MIT")
    assert "- The backbone's weights: encoder of a model: ViT-S/14 # other; licence: wheel MIT\n" in model_card(model)


def test_the_front_matter_is_read_by_the_hub(make_model: Any, record: TrainingRecord) -> None:
    data = ModelCard(model_card(make_model(), record, license="cc-by-4.0")).data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == (
        "cc-by-4.0",
        "ifam",
        "image-classification",
    )
    assert data["metrics"] == ["accuracy"]
    (index,) = data["model-index"]
    (result,) = index["results"]
    assert result["dataset"] == {"name": "finches", "type": "finches", "split": "validation"}
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("Accuracy", 0.75),
        ("Worst-group accuracy", 0.5),
    ]


def test_of_a_model_alone(make_model: Any) -> None:
    text = model_card(make_model())
    assert text.count("Not recorded.") == 3
    data = ModelCard(text).data.to_dict()
    assert data["license"] == "unknown"
    assert "model-index" not in data


def test_only_what_holds_is_promised(make_model: Any, make_vit: Any) -> None:
    plain = ifam.PlainClassifier(make_vit(), 2)
    early, late = (MaskedClassifier(make_vit(), 2, masking=masking) for masking in ("early", "late"))
    assert PROMISE in guarantee(make_model())
    assert "The masks come from outside" in guarantee(early)
    for model in (make_model(soft_masks=True), make_model(second_stage=False), late, plain):
        assert guarantee(model).startswith("None: ")
        assert "None: the prediction can rest on any pixel" in model_card(model)


def test_training_writes_it_once(tmp_path: Path) -> None:
    table, run = read_table(write_scenes(tmp_path / "finches")), tmp_path / "run"
    config = tiny_config(optimizer__epochs=1)
    result = train(config, table, run, say=lambda line: None)
    text = (run / "README.md").read_text(encoding="utf-8")
    assert f"| Worst-group accuracy | {result.selection_score:.3f} |" in text
    assert "finch/land 3, finch/sea 3, gull/land 3, gull/sea 3" in text
    assert str(tmp_path) not in text
    (run / "README.md").write_text("my own", encoding="utf-8")
    train(config, table, run, resume=True, say=lambda line: None)
    assert (run / "README.md").read_text(encoding="utf-8") == "my own"
