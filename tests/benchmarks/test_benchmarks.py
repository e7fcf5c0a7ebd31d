import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from generated import write_image, write_scenes
from layouts import SPECIES, draw, write_cub, write_imagenet9, write_waterbirds

from ifam import benchmarks
from ifam.benchmarks import measure as measuring
from ifam.benchmarks.measure import Line, families_of, take_or_train
from ifam.benchmarks.paper import PAPER, PUBLISHED_ONLY
from ifam.benchmarks.report import backbones, recorded
from ifam.benchmarks.rows import FAMILIES, Row
from ifam.benchmarks.run import Options, chosen_rows, configuration_of, run_benchmark
from ifam.benchmarks.scores import Source
from ifam.benchmarks.suite import BENCHMARKS, Benchmark
from ifam.cli import main, parser
from ifam.commands.benchmark import _as_typed
from ifam.config import TrainingConfig, override
from ifam.data.read import read_table
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.interventions import Intervention
from ifam.recipes import recipe
from ifam.storage import load
from ifam.training.folder import LAST, saying_how_to_go_on

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
TINY = {
    "model.backbone": "test_vit",
    "model.pretrained": False,
    "workers": 0,
    "precision": "32-true",
    "device": "cpu",
    "optimizer.batch_size": 4,
}

SMALL = {"model.image_size": 48, "optimizer.epochs": 1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "data", {"train": 3, "val": 2, "test": 2})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the runs that were trained, in order."""
    folders: list[str] = []
    train = measuring.train

    def spy(config: TrainingConfig, table: Any, folder: Path, **options: Any) -> Any:
        folders.append("/".join(folder.parts[-2:]))
        return train(config, table, folder, **options)

    monkeypatch.setattr(measuring, "train", spy)
    return folders


def bench(name: str, data: Path | None, where: Path, **changes: Any) -> dict[str, Any]:
    options = Options(**{"runs": where / "runs", "seeds": (0, 1), "epochs": 2, "changes": TINY} | changes)
    run_benchmark(
        name,
        data,
        options,
        json_path=where / "out.json",
        markdown_path=where / "out.md",
        command="",
        say=lambda _: None,
    )
    found: dict[str, Any] = json.loads((where / "out.json").read_text())
    return found


def test_names_without_imports() -> None:
    assert tuple(BENCHMARKS) == benchmarks.NAMES


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_has_a_configuration_and_the_papers_rows_exist(name: str) -> None:
    benchmark = BENCHMARKS[name]
    slugs = [row.slug for row in benchmark.rows]
    assert len(set(slugs)) == len(slugs)
    for row in benchmark.rows:
        for setting in row.tries:
            config = configuration_of(benchmark, row, setting, Options(runs=Path()))
            assert config.method == row.method
    lines = {*slugs, *(f"{row.slug}-intervened" for row in benchmark.rows if row.intervened)}
    lines |= {f"{row.slug}-{kind}" for row in benchmark.rows for kind in row.families}
    lines |= {f"{row.slug}-q{round(100 * q)}" for row in benchmark.rows for q in row.quantiles}
    if name not in ("birds-on-scenes", "scenes"):  # not the paper's data
        assert PAPER[name].keys() <= lines | PUBLISHED_ONLY.get(name, {}).keys()


def test_what_ifam_is_compared_with_has_as_many_tries() -> None:
    rows = {row.slug: row for row in BENCHMARKS["birds-on-scenes"].rows}
    tried = json.loads((RESULTS / "birds_on_scenes.json").read_text(encoding="utf-8"))["methods"]["ifam"]["tuning"]
    rates = {(setting["optimizer.lr_stage2"], setting["optimizer.lr_heads"]) for setting in tried}
    for slug in ("group-dro", "jtt", "masktune", "dfr"):
        assert {tuple(setting.values()) for setting in rows[slug].tries} == rates
    first = configuration_of(
        BENCHMARKS["birds-on-scenes"], rows["group-dro"], rows["group-dro"].tries[0], Options(runs=Path())
    )
    assert first == recipe("staged", "group_dro"), "runs at the recipe's rates are the first try"


@pytest.mark.parametrize("name", ["waterbirds", "metashift", "siim_acr", "in9"])
def test_a_resnet_is_tried_at_the_rate_of_the_published_baselines(name: str) -> None:
    rows = [row for row in BENCHMARKS[name].rows if row.slug.startswith("resnet50")]
    assert rows
    for row in rows:
        assert 1e-4 in [setting["optimizer.lr_stage2"] for setting in row.tries]


def test_without_shaping_nothing_shapes() -> None:
    rows = {row.slug: row for row in BENCHMARKS["ablation"].rows}
    config = configuration_of(BENCHMARKS["ablation"], rows["no-shaping"], {}, Options(runs=Path()))
    assert config.model == replace(recipe("staged", "ifam").model, prototype_init="random")
    assert config.optimizer == recipe("staged", "ifam").optimizer
    assert {name for name, weight in vars(config.losses).items() if weight} == {"stage1", "stage2"}


def test_the_numbers_of_the_paper_that_its_text_repeats() -> None:
    assert PAPER["metashift"]["ifam-4"]["worst_group_accuracy"] == pytest.approx(0.886)
    assert PAPER["metashift"]["ifam-8"]["worst_group_accuracy"] == pytest.approx(0.788)
    assert PAPER["waterbirds"]["ifam-8"]["worst_group_accuracy"] == pytest.approx(0.970)
    assert PAPER["cub"]["ifam-8"]["waterbird200_accuracy"] == pytest.approx(0.862)
    assert PAPER["siim_acr"]["ifam-8"]["worst_group_auc"] == pytest.approx(0.659)


def test_from_data_to_a_table_and_nothing_twice(data: Path, tmp_path: Path, trained: list[str]) -> None:
    methods = ["erm", "early-annotated", "ifam-4"]
    first = bench("birds-on-scenes", data, tmp_path, methods=methods)
    # two settings tried with the first seed, the better of which goes on with the second
    assert len(trained) == 2 + 3 + 2
    assert len(set(trained)) == len(trained)
    assert [line["slug"] for line in first["lines"]] == ["erm", "early-annotated", "ifam-4", "ifam-4-intervened"]
    for line in first["lines"]:
        found = line["test"]["worst_group_accuracy"]
        values = [run["score"]["worst_group_accuracy"] for run in line["runs"]]
        assert found == {"mean": fmean(values), "min": min(values), "max": max(values), "seeds": 2}
        assert [run["seed"] for run in line["runs"]] == [0, 1]
        assert {run["score"]["num_samples"] for run in line["runs"]} == {8}
        assert str(tmp_path) not in json.dumps(line["config"])
    _, early, ifam, intervened = first["lines"]
    best = max(early["tuning"], key=lambda tried: tried["val_score"])
    assert early["config"]["optimizer"]["lr_stage2"] == best["optimizer.lr_stage2"]
    assert ifam["interventions"] == []
    assert len(intervened["interventions"]) == 2

    text = (tmp_path / "out.md").read_text()
    assert "| method | worst group |" in text
    assert "paper: worst group" in text
    assert f"| {PAPER['waterbirds']['early-annotated']['worst_group_accuracy']:.3f} |" in text
    assert "8 test images" in text
    assert "Backbone: `test_vit`." in text
    assert "Not tuned here, run at the one setting of their row: plain, fine-tuned; iFAM, K = 4." in text

    trained.clear()
    again = bench("birds-on-scenes", data, tmp_path, methods=methods)
    assert trained == []
    assert again["lines"] == first["lines"]

    one = bench("birds-on-scenes", data, tmp_path, methods=["erm"])  # and all that is complete beside it
    assert one["lines"] == first["lines"]
    other_seeds = bench(
        "birds-on-scenes", data, tmp_path, methods=["erm"], seeds=(0,), epochs=1, runs=tmp_path / "more"
    )
    assert [line["slug"] for line in other_seeds["lines"]] == ["erm"]


def test_the_papers_accuracy_is_plain_and_its_rows_without_a_run_are_there(data: Path, tmp_path: Path) -> None:
    found = bench("waterbirds", data, tmp_path, methods=["late-tokencut"], seeds=(0,), changes=TINY | SMALL)
    heads, _, ours, *published = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (tmp_path / "out.md").read_text().splitlines()
        if line.startswith("|")
    ]
    row = dict(zip(heads, ours, strict=True))
    assert (row["paper: accuracy"], row["paper: worst group"]) == ("0.953 (FOUND)", "0.833 (FOUND)")
    assert "average (weighted by training groups)" in heads
    assert not any(head.startswith("paper: average") for head in heads)
    assert len(published) == len(PUBLISHED_ONLY["waterbirds"])
    disc = dict(zip(heads, next(line for line in published if line[0].startswith("DISC")), strict=True))
    assert disc["method"] == "DISC, ResNet-50 (published, not run here)"
    assert (disc["accuracy"], disc["paper: accuracy"], disc["paper: worst group"]) == ("–", "0.938", "0.887")
    assert {line["slug"] for line in found["published_only"]} == PUBLISHED_ONLY["waterbirds"].keys()
    assert found["backbones"] == {"test_vit": ""}


def test_weights_whose_file_does_not_say_what_they_are() -> None:
    config = override(TrainingConfig(), {"model.backbone": "/x/vit_small_patch14_dinov2_dav2.safetensors"})
    known = backbones([Line(slug="", name="", config=config, tuning=[], runs=[])])
    assert "fine-tuned for depth" in known["vit_small_patch14_dinov2_dav2.safetensors"]


def test_masks_that_tell_the_class_are_refused_before_any_work(data: Path, tmp_path: Path, refuses_line: Any) -> None:
    for sample in read_table(data).samples:
        if sample.label == 0:
            assert isinstance(sample.mask, Path)
            write_image(sample.mask, np.zeros((48, 48)))
    with refuses_line("do not tell the class", "100% of finch and 0% of gull", error=DataError):
        bench("birds-on-scenes", data, tmp_path, methods=["erm", "early-annotated"])
    assert not (tmp_path / "runs").exists()


def test_interrupted_and_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = bench("ablation", data, tmp_path / "straight", methods=["full", "no-second-stage"], seeds=(0,))
    train, calls = measuring.train, []

    def stop_in_the_second(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(measuring, "train", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        bench("ablation", data, tmp_path / "resumed", methods=["full", "no-second-stage"], seeds=(0,))
    partial = json.loads((tmp_path / "resumed/out.json").read_text())
    assert [line["slug"] for line in partial["lines"]] == ["full"], "what was measured is not lost"
    resumed = bench("ablation", data, tmp_path / "resumed", methods=["full", "no-second-stage"], seeds=(0,))
    for one, other in zip(straight["lines"], resumed["lines"], strict=True):
        assert one["test"] == other["test"]


def test_what_stops_a_run_does_not_offer_an_option_that_a_benchmark_lacks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: Any, table: Any, folder: Path, **options: Any) -> None:
        (folder / LAST).parent.mkdir(parents=True)
        (folder / LAST).touch()
        with saying_how_to_go_on(folder):
            raise DataError("a.png: expected an image, got none")

    monkeypatch.setattr(measuring, "train", stop)
    with pytest.raises(DataError, match=r"got none; the same command goes on from .*last\.ckpt$"):
        bench("ablation", data, tmp_path, methods=["full"], seeds=(0,))


def test_each_family_of_interventions_has_a_line(data: Path, tmp_path: Path) -> None:
    found = bench("interventions", data, tmp_path, methods=["ifam-8"], seeds=(0,))
    kinds = ["q97", "q99", "leave-one-out", "tokens", "both", "any", "leave-one-out-q97", "leave-one-out-q99"]
    assert [line["slug"] for line in found["lines"]] == ["ifam-8", *(f"ifam-8-{kind}" for kind in kinds)]
    run = tmp_path / "runs/ifam-8/setting0-seed0"
    for q, line in ((0.97, found["lines"][1]), (0.99, found["lines"][2])):
        assert line["interventions"] == [], "nobody chose it"
        there = evaluate(load(run), read_table(data), token_quantile=q)
        assert line["runs"][0]["score"]["accuracy"] == there.accuracy
        assert line["runs"][0]["score"]["mean_kept"] == pytest.approx(there.mean_kept)


def test_table_4_leaves_one_part_out_beside_fixed_token_removal(data: Path, tmp_path: Path) -> None:
    found = bench("metashift", data, tmp_path, methods=["pdiscoformer-4"], seeds=(0,), changes=TINY | SMALL)
    kinds = ("leave-one-out", "leave-one-out-q97", "leave-one-out-q99")
    assert [line["slug"] for line in found["lines"]] == [
        "pdiscoformer-4",
        *(f"pdiscoformer-4-{kind}" for kind in kinds),
    ]
    for line in found["lines"][1:]:
        assert len(line["interventions"]) == 1, "validation chose it"
        assert line["paper"] == PAPER["metashift"][line["slug"]]


def test_table_6_has_keypoints_and_iou_under_token_removal(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", [f"{species}/{i}.jpg" for species in SPECIES for i in range(4)])
    shifted = write_waterbirds(root / "waterbird_complete95_forest2water2", ((0, 0), (1, 1), (0, 2), (1, 2)))
    for path in shifted.rglob("*.jpg"):
        draw(path, size=(20, 10))  # as the masks are
    changes = TINY | SMALL | {"optimizer.batch_size": 8}
    found = bench("cub", root, tmp_path, methods=["ifam-4"], seeds=(0,), changes=changes)
    assert [line["slug"] for line in found["lines"]] == ["ifam-4", "ifam-4-q97", "ifam-4-q99"]
    for line in found["lines"]:
        assert line["paper"].keys() >= {"waterbird200_keypoint_error_published", "waterbird200_foreground_iou"}
        for column in ("waterbird200_keypoint_error_published", "waterbird200_keypoint_error"):
            assert line["test"][column]["seeds"] == 1
        assert line["runs"][0]["score"]["waterbird200_foreground_iou"] is not None


def test_families() -> None:
    assert families_of(Intervention()) == list(FAMILIES)
    assert families_of(Intervention(remove_parts=(3,))) == ["leave-one-out", "both", "any"]
    fixed = Intervention(remove_parts=(3,), token_quantile=0.97)
    assert families_of(fixed) == ["both", "any", "leave-one-out-q97"]
    assert families_of(replace(fixed, token_quantile=0.99)) == ["both", "any", "leave-one-out-q99"]
    assert families_of(Intervention(token_quantile=0.9)) == ["tokens", "both", "any"]
    assert families_of(Intervention(remove_parts=(3,), token_quantile=0.9)) == ["both", "any"]
    assert families_of(Intervention(remove_parts=(1, 3))) == ["any"]


def test_a_run_of_other_settings_is_not_taken(data: Path, tmp_path: Path, refuses_line: Any) -> None:
    benchmark, row = BENCHMARKS["ablation"], BENCHMARKS["ablation"].rows[0]
    config = configuration_of(benchmark, row, {}, Options(runs=tmp_path, epochs=2, changes=TINY))
    take_or_train(config, 0, data, tmp_path / "run", lambda _: None)
    other = replace(config, losses=replace(config.losses, entropy=0.5))
    with refuses_line("losses.entropy 1.0, got 0.5"):
        take_or_train(other, 0, data, tmp_path / "run", lambda _: None)
    take_or_train(replace(config, workers=3), 0, data, tmp_path / "run", lambda _: None)


def test_what_is_refused_before_any_work(data: Path, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line("benchmark", "ablation", "nothing"):
        bench("nothing", data, tmp_path)
    with refuses_line("methods", "erm-frozen", "ifan-4"):
        bench("birds-on-scenes", data, tmp_path, methods=["ifan-4"])
    with refuses_line("--data"):
        run_benchmark(
            "cub", None, Options(runs=tmp_path), json_path=tmp_path / "a", markdown_path=tmp_path / "b", command=""
        )
    with refuses_line("--imagenet9"):
        bench("in9", data, tmp_path, methods=["erm"])
    with refuses_line("variants of ImageNet-9", error=DataError):
        bench("in9", data, tmp_path, methods=["erm"], imagenet9=data)
    with refuses_line("Waterbirds", "inside CUB_200_2011"):
        bench("cub", data, tmp_path, methods=["erm"])
    with refuses_line("path that does not exist", error=DataError):
        bench("ablation", tmp_path / "nowhere", tmp_path)
    with refuses_line("model.num_parts", "full sets"):
        bench("ablation", data, tmp_path, changes=TINY | {"model.num_parts": 2})
    with refuses_line("seed"):
        bench("ablation", data, tmp_path, seeds=(0, -1))
    with refuses_line("two files"):
        run_benchmark(
            "ablation", data, Options(runs=tmp_path), json_path=tmp_path / "a", markdown_path=tmp_path / "a", command=""
        )
    assert not (tmp_path / "runs").exists()


def test_data_without_splits_is_scored_on_what_the_run_held_out(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(20):
            write_image(tmp_path / f"data/{name}/{i}.png", np.full((48, 48, 3), 60 + 9 * i))
    found = bench("interventions", tmp_path / "data", tmp_path, methods=["ifam-8"], seeds=(0,))
    run = tmp_path / "runs/ifam-8/setting0-seed0"
    splits = list(json.loads((run / "splits.json").read_text()).values())
    assert {line["runs"][0]["score"]["num_samples"] for line in found["lines"]} == {splits.count("test")}
    trials = json.loads((run / "interventions.json").read_text())["auto"]["found"]["trials"]
    assert {trial["num_samples"] for trial in trials} == {splits.count("val")}


def test_other_data_beside_the_first_is_scored_anew(tmp_path: Path) -> None:
    for folder, images in (("a", 1), ("b", 2)):
        write_imagenet9(tmp_path / folder, {"original": images, "mixed_same": images, "mixed_rand": images})
    first, second = (Source(data=tmp_path / "a/original", imagenet9=tmp_path / folder) for folder in "ab")
    assert len({first.digest(), second.digest(), replace(first, imagenet9=None).digest()}) == 3


def test_rows_by_slug_in_the_order_of_the_table() -> None:
    benchmark = Benchmark(
        title="", recipe="staged", rows=tuple(Row(slug=slug, name=slug, method="erm") for slug in "abc")
    )
    assert [row.slug for row in chosen_rows(benchmark, ["c", "a"])] == ["a", "c"]
    assert chosen_rows(benchmark, []) == benchmark.rows
    with pytest.raises(UsageError, match="some of a, b, c, got 'd'"):
        chosen_rows(benchmark, ["d"])


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "benchmark", "ablation", "--data", str(data), "--runs", str(tmp_path / "runs"), "--seeds", "0", "--epochs", "2",
        "--methods", "full", "--backbone", "test_vit", "--workers", "0", "--device", "cpu",
        "--set", "model.pretrained=false",
    ]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "# Ablations of iFAM" in printed
    found = json.loads((tmp_path / "runs/ablation.json").read_text())
    assert found["command"] == (
        "ifam benchmark ablation --data DATA --backbone test_vit --epochs 2 --set model.pretrained=false "
        "--methods full --seeds 0"
    )
    assert main(["benchmark", "ablatoin"]) == 2


def test_the_recorded_command_can_be_typed_again_and_names_no_place() -> None:
    given = ["in9", "--data", "/data/imagenet", "--imagenet9", "/data/bg", "--class-map", "/data/in_to_in9.json"]
    command = _as_typed(parser().parse_args(["benchmark", *given, "--backbone", "hf:microsoft/rad-dino"]))
    assert command == (
        "ifam benchmark in9 --data DATA --imagenet9 DIR --class-map FILE --backbone hf:microsoft/rad-dino --seeds 0 1 2"
    )
    assert _as_typed(parser().parse_args(command.split()[1:])) == command
    path = _as_typed(parser().parse_args(["benchmark", "cub", "--backbone", "/x/vit.safetensors"]))
    assert "--backbone vit.safetensors --seeds" in path


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [("hf:microsoft/rad-dino", "hf:microsoft/rad-dino"), ("/x/vit.safetensors", "vit.safetensors")],
)
def test_the_recorded_configuration_names_no_place(backbone: str, expected: str) -> None:
    config = override(TrainingConfig(), {"model.backbone": backbone})
    assert recorded(Line(slug="", name="", config=config, tuning=[], runs=[]))["model"]["backbone"] == expected
