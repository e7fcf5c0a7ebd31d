import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import tiny_config, write_image, write_scenes
from runs import checkpoint, files, metrics, run
from safetensors.torch import load_file
from torch import Tensor

import ifam
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import CheckpointError, DataError, UsageError
from ifam.evaluate import evaluate
from ifam.predict import predict
from ifam.training.module import TrainingModule
from ifam.training.prepare import fit_preprocessing
from ifam.training.registry import make_method
from ifam.training.run import train

FILES = {
    "config.yaml",
    "model.safetensors",
    "model.json",
    "data.json",
    "metrics.jsonl",
    "checkpoints/last.ckpt",
    "README.md",
    "checkpoints/.lock",
    "result.json",
}
SHAPING = [
    f"losses__{name}"
    for name in (
        "orthogonality",
        "equivariance",
        "foreground_presence",
        "background_presence",
        "total_variation",
        "entropy",
    )
]
METHODS: dict[str, dict[str, Any]] = {
    "ifam, cut": {},
    "ifam, exact": {"model__mask_gradient": "exact"},
    "ifam, bounded": {"model__mask_gradient": "bounded"},
    "ifam, soft": {"model__soft_masks": True},
    "ifam, staged": {
        "model__prototype_init": "centre",
        "optimizer__cosine": "step",
        "optimizer__stage1_epochs": 1,
        "optimizer__freeze_stage1": True,
    },
    "pdiscoformer": {"method": "pdiscoformer"},
    "erm": {"method": "erm"},
    "erm, convolutional": {"method": "erm", "model__backbone": "test_resnet"},
    "early masks": {"method": "early_mask"},
    "late masks of TokenCut": {"method": "late_mask", "model__masks": "tokencut"},
    "group DRO": {"method": "group_dro"},
    "JTT": {"method": "jtt", "robustness__first_epochs": 1},
    "MaskTune": {"method": "masktune", "robustness__tuning_epochs": 2},
    "DFR": {"method": "dfr", "robustness__tuning_epochs": 2},
    "no stage-1 classification": {"losses__stage1": 0},
    "no shaping": {"model__num_parts": 1} | dict.fromkeys(SHAPING, 0.0),
    "reassigned": {"model__dropped_parts": "reassigned"},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_from_data_to_predictions(name: str, scenes: ImageTable, tmp_path: Path) -> None:
    if name == "DFR":  # needs two validation images of each group
        scenes = read_table(write_scenes(tmp_path / "more", {"train": 3, "val": 2, "test": 1}))
    folder, config = tmp_path / "run", tiny_config(**METHODS[name])
    result = run(config, scenes, folder)
    twice = make_method(config).first_run is not None
    assert files(folder) == FILES | {f"first/{file}" for file in FILES if twice}
    assert result.best_epoch == 1 if "staged" in name else result.best_epoch in (0, 1)

    model = ifam.load(folder)
    assert model.class_names == ["finch", "gull"]
    assert model.preprocessing.image_size == (48, 48)
    assert model.training_group_sizes == {"finch/land": 3, "finch/sea": 3, "gull/land": 3, "gull/sea": 3}
    lines = metrics(folder)
    assert [line["epoch"] for line in lines] == [0, 1]
    assert {"train/loss", "val/accuracy", "val/worst_group_accuracy", "val/groups"} <= lines[0].keys()
    # the kept model is the one that the best epoch's line describes
    score = evaluate(model, scenes, split="val")
    assert score.worst_group_accuracy == result.selection_score == lines[result.best_epoch]["val/worst_group_accuracy"]
    assert score.num_samples == len(scenes.select("val"))

    paths = [sample.path for sample in scenes.samples]
    if name == "early masks":
        with pytest.raises(UsageError, match="a data set that has them"):
            list(predict(model, paths))
        return
    rows = list(predict(model, paths))
    assert [row.path for row in rows] == [str(path) for path in paths]
    if isinstance(model, ifam.IFAM):
        assert sorted(model.token_thresholds) == [0.9, 0.95, 0.97, 0.99]
        explained = ifam.explain(model, paths[0])
        assert (explained.label, explained.parts.tolist()) == (rows[0].label, rows[0].parts)


def test_the_terms_of_each_stage_are_logged_when_it_is_trained(scenes: ImageTable, tmp_path: Path) -> None:
    run(tiny_config(**METHODS["ifam, staged"], losses__entropy=0), scenes, tmp_path / "run")
    stage1, stage2 = ({name for name in line if name.startswith("train/")} for line in metrics(tmp_path / "run"))
    assert stage2 == {"train/loss", "train/stage2"}
    assert stage1 == {
        f"train/{name}"
        for name in (
            "loss", "stage1", "orthogonality", "equivariance", "foreground_presence", "background_presence",
            "total_variation",
        )
    }  # fmt: skip


def test_an_epoch_of_stage_1_alone_is_scored_by_stage_1_and_says_so(
    scenes: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[Tensor] = []
    score_epoch = TrainingModule.score_epoch

    def spy(module: TrainingModule) -> None:
        score_epoch(module)
        heads.append(module._records["margin"])
        images = torch.stack([module.trainer.datamodule.val_dataloader().dataset[index].image for index in range(4)])
        with torch.inference_mode():
            out = module.model(images)
        wanted = out.stage1_logits if len(heads) == 1 else out.logits
        torch.testing.assert_close(heads[-1], wanted[:, 1] - wanted[:, 0])

    monkeypatch.setattr(TrainingModule, "score_epoch", spy)
    lines: list[str] = []
    train(tiny_config(**METHODS["ifam, staged"]), scenes, tmp_path / "run", say=lines.append)
    assert len(heads) == 2
    assert ["(stage 1 alone)" in line for line in lines if line.startswith("epoch")] == [True, False]


def test_the_averaged_weights_are_scored_and_kept(scenes: ImageTable, tmp_path: Path) -> None:
    run(tiny_config(ema=0.5, optimizer__epochs=1), scenes, tmp_path / "run")
    saved, last = load_file(tmp_path / "run/model.safetensors"), checkpoint(tmp_path / "run")
    assert all(torch.equal(value, last["state_dict"][f"model.{name}"]) for name, value in saved.items())
    current = last["current_model_state"]
    assert not torch.equal(saved["prototypes"], current["model.prototypes"])


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 3), (2, 2), (3, 1)])
def test_optimizer_steps_of_an_epoch_of_three_batches(
    accumulate: int, steps: int, scenes: ImageTable, tmp_path: Path
) -> None:
    run(tiny_config(method="erm", optimizer__accumulate=accumulate, optimizer__epochs=1), scenes, tmp_path / "run")
    states = checkpoint(tmp_path / "run")["optimizer_states"][0]["state"].values()
    assert {float(state["step"]) for state in states} == {steps}


def test_bfloat16(scenes: ImageTable, tmp_path: Path) -> None:
    run(tiny_config(precision="bf16-mixed", optimizer__epochs=1), scenes, tmp_path / "run")
    assert {value.dtype for value in load_file(tmp_path / "run/model.safetensors").values()} == {torch.float32}


def test_float16_needs_a_gpu(scenes: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line("precision", "16-mixed"):
        run(tiny_config(precision="16-mixed"), scenes, tmp_path / "run")


def test_an_unreadable_image_stops_the_run_or_is_named(
    scenes: ImageTable, tmp_path: Path, refuses_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = scenes.samples[0].path
    damaged.write_bytes(damaged.read_bytes()[:100])
    with refuses_line(damaged, "--skip-unreadable", error=DataError):
        run(tiny_config(), scenes, tmp_path / "run")
    run(tiny_config(skip_unreadable=True), scenes, tmp_path / "run")  # nothing to resume: the folder is free
    assert capsys.readouterr().err.count(f"left out: {damaged}") == 1


def test_two_runs_need_two_folders(scenes: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    folder = tmp_path / "run"
    with refuses_line(folder, "--resume", "found none"):
        run(tiny_config(), scenes, folder, resume=True)
    run(tiny_config(optimizer__epochs=1), scenes, folder)
    with refuses_line(folder, "holds a run", "--resume"):
        run(tiny_config(optimizer__epochs=1), scenes, folder)
    with refuses_line(folder, "settings of the run", "optimizer.epochs 1, got 2"):
        run(tiny_config(optimizer__epochs=2), scenes, folder, resume=True)
    run(tiny_config(optimizer__epochs=1, workers=1), scenes, folder, resume=True)
    last = folder / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    with refuses_line(last, "damaged", error=CheckpointError):
        run(tiny_config(optimizer__epochs=1), scenes, folder, resume=True)


def test_a_run_goes_on_with_its_own_data_only(scenes: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    folder, config = tmp_path / "run", tiny_config(optimizer__epochs=1)
    run(config, scenes, folder)
    first, *rest = scenes.samples
    others = {
        "other classes (finch, owl": replace(scenes, class_names=("finch", "owl")),
        "other groups": replace(scenes, group_names=("a", "b", "c", "d")),
        "23 images instead of 24": replace(scenes, samples=tuple(rest)),
        "names, labels": replace(scenes, samples=(replace(first, label=1 - first.label), *rest)),
        "or splits": replace(scenes, samples=(replace(first, split="test"), *rest)),
    }
    for said, table in others.items():
        with refuses_line(folder, "data of the run", said):
            run(config, table, folder, resume=True)
    moved = replace(scenes, root=tmp_path)  # the same data, wherever it lies
    run(config, moved, folder, resume=True)
    (folder / "data.json").write_text("{")
    with refuses_line(folder / "data.json", error=CheckpointError):
        run(config, scenes, folder, resume=True)


@pytest.mark.parametrize("gradient", ["exact", "bounded"])
def test_no_gradient_into_a_frozen_stage_1(
    gradient: str, scenes: ImageTable, tmp_path: Path, refuses_line: Any
) -> None:
    config = tiny_config(**METHODS["ifam, staged"], model__mask_gradient=gradient)
    with refuses_line("model.mask_gradient: expected cut", gradient, "optimizer.freeze_stage1=false"):
        run(config, scenes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_splits_that_a_run_made_are_remembered(tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path / "scenes"))
    unsplit = replace(table, samples=tuple(replace(sample, split=None) for sample in table.samples))
    run(tiny_config(optimizer__epochs=1), unsplit, tmp_path / "run")
    assert files(tmp_path / "run") == FILES | {"splits.json"}
    splits = json.loads((tmp_path / "run/splits.json").read_text())
    known = unsplit.with_known_splits(splits)
    sizes = known.select("train").group_counts()
    assert sizes == ifam.load(tmp_path / "run").training_group_sizes
    assert len(known.select("test")) < len(unsplit)
    fewer = replace(unsplit, samples=unsplit.samples[1:])
    assert fewer.with_known_splits(splits).samples == known.samples[1:]


def test_no_training_split(scenes: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line(scenes.root, "train", "test", error=DataError):
        run(tiny_config(), scenes.select("test"), tmp_path / "run")
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(64, 48)], (64, 48)),
        ([(70, 58)], (64, 64)),
        ([(500, 60)], (160, 64)),
        ([(48, 80), (64, 64), (90, 70)], (64, 64)),
        ([(5, 200)], (128, 160)),
    ],
)
def test_image_size_follows_the_data(sizes: list[tuple[int, int]], expected: tuple[int, int], tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number, (height, width) in enumerate(sizes):
            write_image(tmp_path / f"train/{name}/{number}.png", torch.zeros(height, width, 3))
    table = read_table(tmp_path)
    config = tiny_config()
    model = make_method(config).build(["a", "b"])
    fit_preprocessing(model, table, config)
    assert model.preprocessing.image_size == expected
    fit_preprocessing(model, table, tiny_config(model__image_size=[80, 96], augmentation="xray"))
    assert model.preprocessing.image_size == (80, 96)
    assert model.preprocessing.resize == "squash"


def test_stage_2_must_be_trained(scenes: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stage1_epochs"):
        run(tiny_config(optimizer__stage1_epochs=2), scenes, tmp_path / "run")
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize("method", ["pdiscoformer", "erm"])
def test_methods_of_one_stage_have_no_order_of_stages(method: str, scenes: ImageTable, tmp_path: Path) -> None:
    config = tiny_config(method=method, optimizer__stage1_epochs=1, optimizer__freeze_stage1=True)
    run(config, scenes, tmp_path / "staged")
    run(tiny_config(method=method), scenes, tmp_path / "plain")
    assert metrics(tmp_path / "staged") == metrics(tmp_path / "plain")
