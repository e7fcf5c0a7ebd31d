import argparse
import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from generated import write_image, write_scenes
from timm.models.vision_transformer import VisionTransformer

import ifam
from ifam.cli import main, parser
from ifam.commands.settings import training_config, warning_of_idle
from ifam.commands.train import next_command
from ifam.config import read
from ifam.console import print_evaluation
from ifam.errors import OutputError
from ifam.evaluate import Evaluation
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.recipes import recipe
from ifam.score import GroupResult, Score
from ifam.storage import save
from ifam.training import verdict as judging
from ifam.training.module import TrainingModule

TRAIN = ["train", "scenes", "--out", "new", "--backbone", "test_vit", "--set", "model.pretrained=false",
         "--device", "cpu", "--workers", "0", "--batch-size", "4"]  # fmt: skip
EVALUATE, PREDICT = ["evaluate", "run", "scenes", "--device", "cpu"], ["predict", "run", "scenes", "--device", "cpu"]
INTERVENE = ["intervene", "run", "scenes", "--device", "cpu"]
FLAGS = {
    "demo": "--out --seed",
    "doctor": "",
    "train": "--backbone --batch-size --config --device --epochs --image-size --logger --lr --mask-gradient --masks "
    "--method --no-background-check --num-parts --out --precision --recipe --resume --seed --set --skip-unreadable "
    "--split-by --strategy --workers",
    "evaluate": "--batch-size --class-map --device --json --masks --no-background-check --precision --remove-parts "
    "--skip-unreadable --split --temperature-split --token-quantile --workers",
    "calibrate": "--batch-size --device --precision --quantiles --workers",
    "intervene": "--batch-size --device --figure --json --precision --select-by --skip-unreadable --token-figure "
    "--workers",
    "predict": "--batch-size --device --min-kept --out --overlays --precision --remove-parts --shard-size "
    "--skip-unreadable --token-quantile --workers",
    "app": "--device --host --port",
    "benchmark": "--backbone --class-map --data --device --epochs --image-size --imagenet9 --images --json --markdown "
    "--methods --precision --recipe --reference --rounds --runs --seeds --set --workers",
    "verify": "--batch-size --check --device --json --precision --sample --seed --split --workers",
    "report": "--batch-size --device --keypoint-error --out --precision --skip-unreadable --split --workers",
    "export": "--data --format --int8 --out",
    "import": "--backbone --class-names --image-size --out",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and models, some of them damaged."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes")
    vit = VisionTransformer(img_size=48, patch_size=16, embed_dim=24, depth=1, num_heads=3, num_classes=0)
    names = ["finch", "gull"]
    model = IFAM(vit, num_parts=2, num_classes=2, class_names=names)
    model.token_thresholds = {0.9: [1e9, 1e9]}
    save(model, tmp_path / "run")
    save(PlainClassifier(vit, 2, class_names=names), tmp_path / "plain")
    for name in ("truncated", "other"):
        save(model, tmp_path / name)
    weights = tmp_path / "truncated/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    description = json.loads((tmp_path / "other/model.json").read_text())
    description["options"]["num_parts"] = 5
    (tmp_path / "other/model.json").write_text(json.dumps(description))
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "in9.json").write_text(json.dumps({str(index): index % 9 for index in range(1000)}))
    write_image(tmp_path / "one_class/cat/1.png", np.zeros((48, 48, 3)))
    write_image(tmp_path / "empty_class/cat/1.png", np.zeros((48, 48, 3)))
    (tmp_path / "empty_class/dog").mkdir()
    return tmp_path


def edit_metadata(old: str, new: str) -> None:
    path = Path("scenes/metadata.csv")
    path.write_text(path.read_text().replace(old, new))


def damage() -> None:
    Path("scenes/images/1.png").write_bytes(b"not an image")
    Path("scenes/images/24.png").write_bytes(b"no image either")


def nothing() -> None:
    pass


BAD: list[tuple[str, list[str], int, list[str]]] = [
    ("no command", [], 2, ["COMMAND", "--help"]),
    ("unknown command", ["trian"], 2, ["trian", "train"]),
    ("unknown flag", [*TRAIN, "--epoch-count", "3"], 2, ["--epoch-count", "--epochs", "ifam train --help"]),
    ("abbreviated flag", [*TRAIN, "--epoch", "3"], 2, ["unrecognized", "--epochs", "ifam train --help"]),
    ("flag of nothing", ["evaluate", "run", "scenes", "--zzz=1"], 2, ["--zzz=1; see ifam evaluate --help"]),
    ("no folder", ["train", "scenes"], 2, ["--out"]),
    ("misspelt, and no folder", ["train", "scenes", "--uot", "new"], 2, ["--uot", "did you mean --out?"]),
    ("misspelt before the command", ["--vesion"], 2, ["--vesion", "did you mean --version?"]),
    ("a report as text", ["report", "run", "scenes", "--out", "x.txt"], 2, ["ending in .html", "x.txt"]),
    ("not a number", [*TRAIN, "--epochs", "many"], 2, ["--epochs", "'many'"]),
    ("no data", ["train", "none", "--out", "new"], 1, ["none", "does not exist"]),
    ("flat folder", ["doctor", "run"], 1, ["run", "metadata.csv"]),
    ("empty class", ["train", "empty_class", "--out", "new"], 1, ["empty_class/dog", "got none"]),
    ("one class", ["train", "one_class", "--out", "new"], 1, ["one_class", "two classes", "cat"]),
    ("unknown backbone", [*TRAIN, "--backbone", "vit_bas_patch16_224"], 2, ["nearest", "vit_base_patch16_224"]),
    ("no weights file", [*TRAIN, "--backbone", "none.safetensors"], 1, ["none.safetensors", "found none"]),
    ("no parts", [*TRAIN, "--num-parts", "0"], 2, ["error: --num-parts (model.num_parts): expected at least 1, got 0"]),
    ("no parts by name", [*TRAIN, "--set", "model.num_parts=0"], 2, ["error: model.num_parts: expected at least 1"]),
    (
        "endless rate",
        [*TRAIN, "--lr", "inf"],
        2,
        ["error: --lr (optimizer.lr_stage2): expected a finite number, got inf"],
    ),
    ("negative epochs", [*TRAIN, "--epochs", "-1"], 2, ["optimizer.epochs", "at least 1", "-1"]),
    ("no batch", [*TRAIN, "--batch-size", "0"], 2, ["optimizer.batch_size", "0"]),
    ("negative seed", [*TRAIN, "--seed", "-1"], 2, ["seed", "-1"]),
    ("negative workers", [*TRAIN, "--workers", "-1"], 2, ["workers", "-1"]),
    ("negative rate", [*TRAIN, "--lr", "-1"], 2, ["lr_stage2", "-1"]),
    ("coarse grid", [*TRAIN, "--image-size", "32", "--epochs", "1"], 2, ["3×3", "2×2"]),
    ("no pixels", [*TRAIN, "--image-size", "0"], 2, ["model.image_size", "0"]),
    ("unknown recipe", [*TRAIN, "--recipe", "magic"], 2, ["--recipe", "'magic'", "staged"]),
    ("unknown method", [*TRAIN, "--method", "magic"], 2, ["--method", "'magic'", "ifam"]),
    ("unknown setting", [*TRAIN, "--set", "epochs=3"], 2, ["'epochs'", "optimizer.epochs"]),
    ("setting without value", [*TRAIN, "--set", "losses.entropy"], 2, ["NAME=VALUE", "'losses.entropy'"]),
    ("setting that is no value", [*TRAIN, "--set", "losses.entropy=["], 2, ["losses.entropy=["]),
    ("setting of another type", [*TRAIN, "--set", "losses.entropy=much"], 2, ["losses.entropy", "'much'"]),
    ("unknown device", [*TRAIN, "--device", "magic"], 2, ["device", "'magic'", "cpu"]),
    ("device without memory", [*TRAIN, "--device", "meta"], 2, ["device", "'meta'"]),
    ("unknown precision", [*TRAIN, "--precision", "8"], 2, ["precision", "'8'", "bf16-mixed"]),
    ("float16 on a CPU", [*TRAIN, "--precision", "16-mixed"], 2, ["precision", "16-mixed"]),
    ("no configuration", [*TRAIN, "--config", "none.yaml"], 2, ["none.yaml", "got: No such file or directory\n"]),
    ("two configurations", [*TRAIN, "--config", "run/model.json", "--recipe", "paper"], 2, ["--recipe", "--config"]),
    ("gradient into a frozen stage", [*TRAIN, "--mask-gradient", "exact"], 2, ["expected cut", "freeze_stage1=false"]),
    ("a divided model alone", [*TRAIN, "--strategy", "fsdp"], 2, ["strategy", "several processes", "got one"]),
    ("a divided average", [*TRAIN, "--strategy", "fsdp", "--set", "ema=0.9"], 2, ["ema: expected none", "fsdp"]),
    ("nothing to resume", [*TRAIN, "--resume"], 2, ["new", "--resume", "found none"]),
    ("recipe to resume", [*TRAIN, "--resume", "--recipe", "paper"], 2, ["new", "--resume", "found none"]),
    ("a run in a file", [*TRAIN, "--out", "file/run"], 2, ["file", "folder"]),
    ("a second run", [*TRAIN, "--out", "run"], 2, ["run", "holds a model", "delete it"]),
    ("two values", [*TRAIN, "--epochs", "3", "--set", "optimizer.epochs=2"], 2, ["--epochs", "one value", "3 and 2"]),
    ("a split of two folders", ["verify", "run", "scenes", "run", "--split", "test"], 2, ["split", "one folder", "2"]),
    ("a quantile in per cent", [*EVALUATE, "--token-quantile", "90"], 2, ["0 to 1", "stored: 0.9", "ifam calibrate"]),
    ("no model", ["evaluate", "none", "scenes"], 1, ["none", "model.json", "found none"]),
    ("truncated weights", ["evaluate", "truncated", "scenes"], 1, ["truncated/model.safetensors", "damaged"]),
    ("another architecture", ["evaluate", "other", "scenes"], 1, ["another architecture", "prototypes"]),
    ("part out of range", [*EVALUATE, "--remove-parts", "0", "2"], 2, ["0 to 1", "2"]),
    ("uncalibrated", [*EVALUATE, "--token-quantile", "0.95"], 2, ["stored: 0.9", "0.95"]),
    ("device of evaluate", ["evaluate", "run", "scenes", "--device", "magic"], 2, ["device", "'magic'"]),
    ("json in a file", [*EVALUATE, "--json", "file/x.json"], 2, ["file", "folder"]),
    ("json is a folder", [*EVALUATE, "--json", "scenes"], 2, ["scenes", "folder"]),
    ("unknown split", [*EVALUATE, "--split", "dev"], 2, ["'dev'", "test"]),
    ("temperature of the same split", [*EVALUATE, "--temperature-split", "test"], 2, ["temperature split", "test"]),
    ("class map for two classes", [*EVALUATE, "--class-map", "in9.json"], 2, ["1000 ImageNet classes", "2 classes"]),
    ("no class map", [*EVALUATE, "--class-map", "none.json"], 1, ["none.json", "No such file"]),
    ("unknown criterion", [*INTERVENE, "--select-by", "luck"], 2, ["--select-by", "'luck'", "worst_group_auc"]),
    ("batch of evaluate", [*EVALUATE, "--batch-size", "0"], 2, ["batch size", "0"]),
    ("no parts to remove", ["evaluate", "plain", "scenes", "--remove-parts", "0"], 2, ["a model with parts"]),
    ("no parts to calibrate", ["calibrate", "plain", "scenes"], 2, ["plain", "parts"]),
    ("impossible quantile", ["calibrate", "run", "scenes", "--quantiles", "2"], 2, ["quantiles", "0 to 1", "2"]),
    ("no images", ["predict", "run", "none/*.png"], 1, ["none/*.png", "found none"]),
    ("predictions as text", [*PREDICT, "--out", "x.txt"], 2, [".parquet or .jsonl", "x.txt"]),
    ("predictions in a file", [*PREDICT, "--out", "file/x.jsonl"], 2, ["file", "folder"]),
    ("impossible share", [*PREDICT, "--min-kept", "2"], 2, ["min_kept", "0 to 1", "2"]),
    ("pictures in a file", [*PREDICT, "--overlays", "file"], 2, ["file", "folder"]),
    ("a model without parts to show", ["app", "plain"], 2, ["plain", "a model with parts"]),
    ("no model to show", ["app", "none"], 1, ["none", "model.json", "found none"]),
    ("impossible port", ["app", "run", "--port", "70000"], 2, ["port", "65535", "70000"]),
    ("nothing for data", ["doctor", ""], 2, ["ifam doctor", "got ''", "variable of the shell"]),
    ("nothing for a number", [*EVALUATE, "--batch-size=--"], 2, ["expected a value", "--batch-size=--"]),
    ("huge batch", [*EVALUATE, "--batch-size", "9" * 30], 2, ["batch size", "at most 1,000,000"]),
    ("many workers", [*EVALUATE, "--workers", "100000"], 2, ["at most 1000 workers", "100000"]),
    ("a name too long for a file", ["doctor", "x" * 5000], 1, ["xxx…xxx", "expected", "too long"]),
    ("control letters", ["doctor", "\x1b[2J"], 1, ["\\x1b[2J"]),
    ("thresholds on a hub", ["calibrate", "hf:owner/birds", "scenes"], 2, ["hf download owner/birds --local-dir"]),
    ("a negative seed of scenes", ["demo", "--seed", "-1"], 2, ["scenes: expected a seed of at least 0, got -1"]),
    ("a negative seed of tables", ["benchmark", "scenes", "--seeds", "-1"], 2, ["a seed of at least 0, got -1"]),
    ("a negative seed of noise", ["verify", "run", "scenes", "--seed", "-1"], 2, ["seed: expected", "got -1"]),
    ("a seed too large", ["verify", "run", "scenes", "--seed", str(2**32)], 2, ["from 0 to 4294967295"]),
    ("no snapshot", ["import", "none.pt", "--backbone", "test_vit", "--out", "new"], 1, ["none.pt"]),
]


@pytest.mark.parametrize(("arguments", "status", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line(
    arguments: list[str], status: int, said: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(arguments, status, said, capsys)
    assert not list(place.glob("new/model.*"))


@pytest.mark.parametrize("more", [[], ["--out", "rows.jsonl"], ["--out", "shards"]], ids=["screen", "file", "shards"])
def test_tar_files_without_images_are_refused(more: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "empty.tar").write_bytes(bytes(10240))
    assert main(["predict", "run", "empty.tar", *more]) == 1
    assert "expected images, got tar files of none" in capsys.readouterr().err
    assert not (place / "rows.jsonl").exists()


def refused(arguments: list[str], status: int, said: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    assert main(arguments) == status
    output = capsys.readouterr().err
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    assert [part for part in said if part not in output] == [], output
    return True


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("images/7.png", "images/none.png", ["metadata.csv", "row 7", "images/none.png"]),
        ("images/7.png", "../run/model.json", ["metadata.csv, row 7", "../run/model.json"]),
        ("images/7.png", "/etc/passwd", ["metadata.csv, row 7", "/etc/passwd"]),
        ("7,images/7.png,1", "7,images/7.png,x", ["metadata.csv, row 7", "'x'"]),
        ("split", "spilt", ["metadata.csv", "split"]),
    ],
)
def test_bad_tables(old: str, new: str, said: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_metadata(old, new)
    assert refused(["doctor", "scenes"], 1, said, capsys)


def test_a_split_is_verified_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "run", "scenes", "--split", "test"]) == 0
    assert capsys.readouterr().out.startswith("8 images")
    assert main(["verify", "run", "scenes"]) == 0
    assert capsys.readouterr().out.startswith("24 images")


def test_an_import_overwrites_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("run/model.safetensors").read_bytes()
    Path("begun").mkdir()
    Path("begun/config.yaml").touch()
    Path("half").mkdir()
    Path("half/model.safetensors").touch()
    for folder, what in (("run", "a model"), ("begun", "a run"), ("half", "a model")):
        line = f"error: {folder}: expected a new folder, got one that holds {what}; choose another\n"
        assert refused(["import", "none.pt", "--backbone", "test_vit", "--out", folder], 2, [line], capsys)
    assert Path("run/model.safetensors").read_bytes() == before


def test_settings_are_refused_with_their_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("settings.yaml")
    for text, said in (
        ("seed: 3\nmethod: [ifam", ["settings.yaml", "in line 2, column 14: expected ',' or ']'"]),
        ("model: {num_part: 3}", ["settings.yaml: model: expected one of", "did you mean num_parts?"]),
        ("", ["settings.yaml", "got nothing"]),
    ):
        config.write_text(text)
        assert refused([*TRAIN, "--config", "settings.yaml"], 2, said, capsys)


def test_a_run_without_a_model_yet_is_said_to_be_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--epochs", "2"]) == 0
    Path("new/model.json").unlink()
    assert refused(["evaluate", "new", "scenes"], 1, ["new", "not kept a model yet", "--resume"], capsys)
    assert refused([*TRAIN, "--resume", "--epochs", "0", "--set", "seed=1"], 2, ["--epochs"], capsys)
    stage1 = "optimizer.stage1_epochs"
    assert refused([*TRAIN, "--resume", "--set", f"{stage1}=9"], 2, [f"error: {stage1}: expected 0 to 2"], capsys)
    config = Path("new/config.yaml")
    config.write_text(
        config.read_text().replace(" epochs: 2", " epochs: 6").replace("stage1_epochs: 1", "stage1_epochs: 2")
    )
    said = [f"new: expected the settings of the run to resume, got others: {stage1}"]
    assert refused([*TRAIN, "--resume", "--epochs", "1"], 2, said, capsys)


def test_images_that_cannot_be_read_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    advice = "replace it or take it out, or pass --skip-unreadable to go on without it\n"
    assert refused([*TRAIN, "--epochs", "1"], 1, ["scenes/images/1.png", advice], capsys)
    assert refused(EVALUATE, 1, ["scenes/images/24.png", "--skip-unreadable"], capsys)
    assert main([*EVALUATE, "--skip-unreadable"]) == 0
    out = capsys.readouterr().out
    assert "7 images" in out
    assert "left out: scenes/images/24.png: expected an image" in out
    assert main(["doctor", "scenes"]) == 0
    assert "2 unreadable" in capsys.readouterr().out


def test_interventions_go_on_without_unreadable_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (13, 24):  # of the validation and the test split
        Path(f"scenes/images/{number}.png").write_bytes(b"not an image")
    arguments = [*INTERVENE, "--batch-size", "1", "--figure", "parts.png", "--token-figure", "tokens.png"]
    assert refused(arguments, 1, ["scenes/images/13.png", "or pass --skip-unreadable to go on without it\n"], capsys)
    assert main([*arguments, "--skip-unreadable"]) == 0
    out = capsys.readouterr().out
    assert "tried on 3 validation images" in out
    assert "on 7 test images" in out
    assert Path("parts.png").is_file()
    assert Path("tokens.png").is_file()


def test_no_command_is_told_of_an_option_that_it_refuses(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    benchmark = ["--data", "scenes", "--seeds", "0", "--backbone", "test_vit", "--set", "model.pretrained=false"]
    for arguments in (
        ["verify", "run", "scenes"],
        ["export", "run", "--format", "torch", "--out", "model.pt2", "--data", "scenes"],
        ["benchmark", "birds-on-scenes", "--methods", "erm", *benchmark, "--device", "cpu", "--workers", "0"],
    ):
        assert main([*arguments, "--skip-unreadable"]) == 2
        assert "unrecognized arguments: --skip-unreadable" in capsys.readouterr().err
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert ".png: expected an image, got a file of unknown format; replace it or take it out" in err
        assert "--skip-unreadable" not in err


def test_debug_shows_where(place: Path) -> None:
    with pytest.raises(ifam.CheckpointError):
        main(["evaluate", "none", "scenes", "--debug"])


def test_what_nobody_thought_of_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("ifam.storage.load", fail)
    assert refused(EVALUATE, 1, ["ZeroDivisionError: division by zero", "--debug"], capsys)


def test_train_says_its_own_lines_only(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--epochs", "2"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    epoch = r"epoch {}: loss \d+\.\d+, validation accuracy .*, worst group .*, foreground IoU .*, kept .*\n"
    few = r"warning: the best epoch was chosen on 1 validation image of finch/land: each is worth 100 points\n"
    last = r"best epoch 2, validation score .*\n(verdict: .* Next: .*\.\n){1,2}next: ifam evaluate new scenes\n"
    assert re.fullmatch(epoch.format(r"1/2 \(stage 1 alone\)") + epoch.format("2/2") + few + last, out), out


def test_training_images_tell_of_the_background_where_validation_images_are_too_few(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    evaluate = judging.evaluate_with_background

    def ask(*arguments: Any, split: str, check_background: bool = True, **options: Any) -> Any:
        asked.append((split, check_background))
        return evaluate(*arguments, split=split, check_background=check_background, **options)

    monkeypatch.setattr(judging, "evaluate_with_background", ask)
    write_scenes(Path("few"), {"train": 6, "val": 1})
    write_scenes(Path("enough"), {"train": 1, "val": 5})
    train = [*TRAIN[2:], "--epochs", "2", "--out"]
    for arguments, expected in (
        (["few", *train, "new"], [("val", False), ("train", True)]),
        (["few", *train, "new", "--resume", "--no-background-check"], [("val", False)]),
        (["few", *train, "erm", "--method", "erm"], [("val", False)]),  # it has no mask
        (["scenes", *train, "least"], [("val", False)]),  # there are too few of both
        (["enough", *train, "last"], [("val", True)]),
    ):
        asked.clear()
        assert main(["train", *arguments]) == 0
        assert asked == expected


def test_a_verdict_that_is_interrupted_leaves_a_complete_run(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "evaluate_with_background", interrupt)
    assert main([*TRAIN, "--epochs", "2"]) == 130
    assert capsys.readouterr().err == "interrupted; new is complete, ifam evaluate says what it is worth\n"
    assert Path("new/result.json").is_file()


def test_evaluate_ends_with_a_verdict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(Path("many"), {"test": 10})
    model = ifam.load("run")
    assert isinstance(model, IFAM)
    assert model.stage2 is not None
    torch.nn.init.zeros_(model.stage2.head.weight)  # the same answer whatever it sees
    save(model, Path("same"))
    assert main(["evaluate", "same", "many", "--device", "cpu", "--json", "x.json"]) == 0
    last = [line for line in capsys.readouterr().out.splitlines() if line.startswith("verdict: ")]
    assert last[0].startswith("verdict: The model answers 'finch' for 40 of 40 test images, though only 20 are")
    assert all(" Next: " in line for line in last)
    found = json.loads(Path("x.json").read_text())
    assert found["classes"] == {
        "finch": {"accuracy": 1.0, "count": 20, "answers": 40}, "gull": {"accuracy": 0.0, "count": 20, "answers": 0},
    }  # fmt: skip
    assert found["answers"]["gull/sea"] == {"finch": 10}
    assert found["verdict"][0]["heading"] == "One answer"
    assert (found["verdict"][0]["kind"], bool(found["verdict"][0]["next_step"])) == ("bad", True)


def test_a_warning_of_ours_is_one_line() -> None:
    code = (
        "import warnings; from ifam import cli; from ifam.errors import IfamWarning\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "warnings.warn('short\\nof it', IfamWarning); warnings.warn('theirs')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert said.startswith("warning: short of it\n")
    assert "UserWarning: theirs" in said


def test_train_names_a_command_that_works_without_a_test_split() -> None:
    run, data = Path("run"), Path("my birds")
    assert next_command(run, data, []) == next_command(run, data, ["train", "test"]) == "ifam evaluate run 'my birds'"
    assert next_command(run, data, ["train", "val"]).startswith("ifam evaluate run 'my birds' --split val  # ")
    assert next_command(run, data, ["train"]).startswith("ifam evaluate run DATA, of other images")


def test_train_names_what_was_given_in_vain(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--epochs", "1", "--method", "erm", "--num-parts", "4", "--set", "losses.entropy=2"]) == 0
    assert capsys.readouterr().err == "warning: model.num_parts, losses.entropy: no effect with --method erm\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--method", "erm", "--lr", "0", "--seed", "1", "--set", "losses.stage2=2"], ""),
        (["--num-parts", "4", "--set", "model.centre_lean=24"], ""),
        (["--recipe", "paper", "--set", "model.centre_lean=24"],
         "model.centre_lean: no effect with model.prototype_init=random"),
        (["--method", "erm", "--mask-gradient", "exact"], "model.mask_gradient: no effect with --method erm"),
        (["--method", "pdiscoformer", "--mask-gradient", "exact", "--lr", "1", "--set", "model.soft_masks=true"],
         "model.mask_gradient, optimizer.lr_stage2, model.soft_masks: no effect with --method pdiscoformer"),
        (["--method", "erm", "--set", "robustness.upweight=3"], "robustness.upweight: no effect with --method erm"),
        (["--set", "method=jtt", "--set", "robustness.upweight=3"], ""),
        (["--method", "early_mask", "--masks", "boxes", "--num-parts", "3", "--set", "model.tokencut_threshold=0.2"],
         "model.num_parts: no effect with --method early_mask; model.tokencut_threshold: no effect with --masks boxes"),
        (["--method", "early_mask", "--masks", "tokencut", "--set", "model.tokencut_threshold=0.2"], ""),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said_with_its_reason(given: list[str], expected: str) -> None:
    options = parser().parse_args(["train", "data", "--out", "run", *given])
    assert warning_of_idle(training_config(options), options) == (f"warning: {expected}" if expected else "")


def test_from_data_to_predictions(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--epochs", "1", "--lr", "0.003", "--seed", "5", "--set", "losses.entropy=0.5"]) == 0
    config = read(Path("new/config.yaml"))
    assert (config.optimizer.epochs, config.optimizer.batch_size, config.optimizer.lr_stage2) == (1, 4, 0.003)
    assert (config.seed, config.losses.entropy, config.model.backbone) == (5, 0.5, "test_vit")

    assert main(["evaluate", "new", "scenes", "--json", "deep/test.json", "--remove-parts", "0"]) == 0
    values = json.loads(Path("deep/test.json").read_text())
    assert (values["num_samples"], values["split"], values["mean_kept"]) == (8, "test", 0)
    assert values["interventions"] == {"remove_parts": [0], "token_quantile": None}
    assert values["keypoint_error"] is not None
    assert "worst-group accuracy" in (out := capsys.readouterr().out)
    assert "test: 8 images, without part 0\n" in out
    assert re.search(r"group finch/land +│ +(0\.000 \(0/2\)|0\.500 \(1/2\)|1\.000 \(2/2\)) ", out)

    assert main(["calibrate", "new", "scenes", "--quantiles", "0.5"]) == 0
    assert main(["predict", "new", "scenes/images", "--out", "rows.parquet", "--token-quantile", "0.5"]) == 0
    rows = pyarrow.parquet.read_table("rows.parquet").to_pylist()
    assert len(rows) == 24
    assert {row["label"] for row in rows} <= {"finch", "gull"}


def test_what_was_not_read_is_said_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("finch/1.png", "finch/1_mask.png", "gull/2.png", "gull/@eaDir/2.png"):
        write_image(place / "photographs" / name, np.zeros((48, 48, 3)))
    (place / "photographs/gull/3.heic").write_bytes(b"of a telephone")
    counts = "1 masks beside photographs (_mask 1), 1 of the system (@eaDir 1), 1 with other suffixes (.heic 1)"
    line = f"photographs: left out 3: {counts}\n"
    assert main(["evaluate", "run", "photographs", "--device", "cpu", "--json", "x.json"]) == 0
    assert capsys.readouterr().err.count(line) == 1
    values = json.loads(Path("x.json").read_text())
    assert values["num_samples"] == 2
    assert [entry["counts"] for entry in values["account"]] == [{"_mask": 1}, {"@eaDir": 1}, {".heic": 1}]
    assert main(["report", "run", "photographs", "--device", "cpu", "--out", "x.html"]) == 0
    assert line.strip().partition(": ")[2] in Path("x.html").read_text()
    assert main(["predict", "run", "photographs", "--device", "cpu"]) == 0
    assert main(["predict", "run", "photographs", "--device", "cpu", "--out", "shards"]) == 0
    assert main(["verify", "run", "photographs", "--device", "cpu"]) in (0, 1)
    assert capsys.readouterr().err.count(line) == 4
    (place / "photographs/gull").rename(place / "gull")
    assert main(["train", "photographs", "--out", "new"]) == 1
    assert capsys.readouterr().err.startswith("photographs: left out 1: 1 masks beside photographs (_mask 1)\n")


def test_predictions_go_on_past_an_unreadable_image(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    assert main(["predict", "run", "scenes/images", "--out", "rows.jsonl", "--overlays", "pictures"]) == 1
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in sorted(Path("scenes/images").iterdir())]
    assert sum(row["status"] == "unreadable" for row in rows) == 2
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err[:2] if re.match(r"scenes/images/(1|24)\.png: expected an image", line)] == err[:2]
    assert err[2:] == ["error: 2 of 24 images could not be read, see above; the others are predicted"]
    assert len(list(Path("pictures").glob("*.png"))) == 22


def test_predictions_on_the_screen(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "scenes/images/1.png", "scenes/images/2.png", "--remove-parts", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["scenes/images/1.png", "scenes/images/2.png"]
    assert all(line.endswith("0% of the image seen [no evidence]") for line in lines)


def test_calibration_is_stored_and_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "run", "scenes", "--quantiles", "0.5", "1"]) == 0
    model = ifam.load("run")
    assert isinstance(model, IFAM)
    assert sorted(model.token_thresholds) == [0.5, 1]
    assert capsys.readouterr().out.startswith("q = 0.5: squared distance at most ")


def shades(folder: str, shade: int, count: int = 10, prefix: str = "") -> None:
    """Two classes of images that differ."""
    for blue, name in enumerate(("finch", "gull")):
        for number in range(count):
            pixels = np.full((48, 48, 3), (10 * number, shade, 99 * blue))
            write_image(Path(f"{folder}/{name}/{prefix}{number}.png"), pixels)


def num_scored(data: str) -> int:
    assert main(["evaluate", "new", data, "--json", "test.json"]) == 0
    return int(json.loads(Path("test.json").read_text())["num_samples"])


def test_data_without_splits_keeps_those_of_its_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shades("folders", 0)
    assert main(["train", "folders", *TRAIN[2:], "--epochs", "1"]) == 0
    assert num_scored("folders") == 4  # not the images that it was trained on
    line = "splits of new, by the contents of the images: {}\n"
    assert capsys.readouterr().err == line.format("14 train, 2 val, 4 test")
    write_image(Path("folders/gull/more.png"), np.full((48, 48, 3), 7))
    splits = json.loads(Path("new/splits.json").read_text())
    Path("folders", next(name for name, split in splits.items() if split == "train")).unlink()
    assert num_scored("folders") == 5
    changes = "13 train, 2 val, 5 test; new since the training, so among test: 1; gone: 1"
    assert capsys.readouterr().err == line.format(changes)
    Path("folders").rename("moved")
    data = json.loads(Path("new/data.json").read_text())
    Path("new/data.json").write_text(json.dumps({name: data[name] for name in data if name != "contents"}))
    assert num_scored("moved") == 5  # of a run that remembers the names alone
    assert capsys.readouterr().err == line.replace("contents", "names").format(changes)


def test_a_test_set_may_have_the_names_of_the_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shades("folders", 0)
    assert main(["train", "folders", *TRAIN[2:], "--epochs", "1"]) == 0
    capsys.readouterr()
    shades("others", 100)
    assert num_scored("others") == 20
    assert capsys.readouterr().err.startswith("20 images are called as images that new knows, with other contents")
    shades("elsewhere", 200, prefix="other ")
    assert num_scored("elsewhere") == 20  # a test set alone
    assert capsys.readouterr().err == ""


def test_what_is_odd_about_the_data_is_said_by_training_and_evaluation(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shades("data/train", 0)
    shades("data/test", 100, count=4)
    for number in range(3):
        write_image(Path(f"data/test/heron/{number}.png"), np.full((48, 48, 3), 77 + number))
    for copy, image in (("test/gull/again", "test/gull/1"), ("test/gull/seen", "train/finch/1")):
        Path(f"data/{copy}.png").write_bytes(Path(f"data/{image}.png").read_bytes())
    assert main(["train", "data", *TRAIN[2:], "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "duplicated 2: 2 copies of other images (" in out
    assert "warning: 2 images are in two splits: " in out
    assert "warning: 2 images are in two classes: " in out
    assert "warning: no training image of heron: its 3 images among " in out
    for data in ("data", "data/test"):
        num_scored(data)
        out = capsys.readouterr().out
        assert "warning: no training image of heron: its 3 images among " in out
        assert "duplicated 1: 1 copies of other images (gull 1)\n" in out


def test_patients_are_kept_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for blue, kind in enumerate(("sick", "well")):
        for number in range(24):
            pixels = np.full((48, 48, 3), (10 * number, 0, 99 * blue))
            write_image(Path(f"chests/{kind}/{kind}{number // 3}/{number}.png"), pixels)
    train = ["train", "chests", *TRAIN[4:], "--epochs", "1"]
    assert main([*train, "--out", "new"]) == 0
    assert "warning: 16 groups of about 3 images each look like patients" in capsys.readouterr().out
    assert main([*train, "--out", "whole", "--split-by", "folder"]) == 0
    assert "split by folder: 16 units, which are no groups, are kept whole" in capsys.readouterr().out
    sides: dict[str, set[str]] = {}
    for name, split in json.loads(Path("whole/splits.json").read_text()).items():
        sides.setdefault(name.split("/")[1], set()).add(split)
    assert [len(found) for found in sides.values()] == [1] * 16
    assert read(Path("whole/config.yaml")).split_by == "folder"
    assert main(["evaluate", "whole", "chests"]) == 0
    assert "group " not in capsys.readouterr().out
    assert refused([*train, "--out", "other", "--split-by", "patient"], 2, ["split_by", "folder"], capsys)


def test_an_interrupted_run_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = TrainingModule.on_train_epoch_start

    def interrupt(module: TrainingModule) -> None:
        start(module)
        if module.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_epoch_start", interrupt)
        assert main([*TRAIN, "--epochs", "2", "--recipe", "staged"]) == 130
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--resume goes on from new/checkpoints/last.ckpt" in err
    assert main([*TRAIN, "--epochs", "2", "--resume", "--lr", "0.1"]) == 2
    assert "settings of the run to resume, optimizer.lr_stage2 " in (err := capsys.readouterr().err)
    assert ", got 0.1;" in err
    assert main([*TRAIN, "--epochs", "2", "--recipe", "staged", "--resume"]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    assert main(["train", "scenes", "--out", "new", "--resume"]) == 0  # nothing left to do


@pytest.mark.parametrize("command", FLAGS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"example: ifam {command}" in capsys.readouterr().out


def test_examples_are_understood() -> None:
    for command in commands().values():
        example = str(command.epilog).removeprefix("example: ifam ").split()
        assert parser().parse_args(example).debug is False


def commands() -> dict[str, argparse.ArgumentParser]:
    chosen: Any = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    found: dict[str, argparse.ArgumentParser] = chosen.choices
    return found


def test_the_flags_stay() -> None:
    flags = {
        name: {option for action in command._actions for option in action.option_strings if option.startswith("--")}
        for name, command in commands().items()
    }
    assert flags == {name: {"--help", "--debug", *listed.split()} for name, listed in FLAGS.items()}


def test_help_and_import_leave_torch_alone() -> None:
    program = (
        "import sys, ifam; from ifam.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded:', *{'torch', 'timm', 'lightning', 'pydantic', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert done.stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"ifam {ifam.__version__}\n"


@pytest.mark.parametrize("method", [[], ["--set", "method=erm"]])
def test_a_recipe_fits_the_epochs_wherever_they_are_given(method: list[str]) -> None:
    start = ["train", "data", "--out", "run", *method]
    flag, setting = (
        training_config(parser().parse_args([*start, *epochs]))
        for epochs in (["--epochs", "8"], ["--set", "optimizer.epochs=8"])
    )
    assert flag == setting
    assert (flag.optimizer.epochs, flag.optimizer.stage1_epochs) == (8, 0 if method else 3)


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], "scenes"), (["data"], "staged"), (["--recipe", "staged"], "staged")]
)
def test_without_data_the_recipe_is_that_of_the_generated_data(arguments: list[str], expected: str) -> None:
    config = training_config(parser().parse_args(["train", *arguments, "--out", "run"]))
    assert config == recipe(expected, "ifam")


def test_a_logger_that_is_not_installed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("ifam.training.trainer.version", missing)
    assert refused([*TRAIN, "--logger", "tensorboard"], 2, ["tensorboard", "pip install 'ifam[tensorboard]'"], capsys)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("interventions", "said"),
    [
        ({}, ""),
        ({"remove_parts": [], "token_quantile": None}, ""),
        ({"remove_parts": [0, 2], "token_quantile": 0.99}, ", without parts 0 2 and tokens beyond q = 0.99"),
    ],
)
def test_the_heading_of_an_evaluation_names_what_was_switched_off(
    interventions: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    score: dict[str, Any] = {field.name: None for field in fields(Score)}
    groups = {"land [a]": GroupResult(accuracy=341 / 400, count=400), "sea": GroupResult(accuracy=None, count=0)}
    score |= {"num_samples": 48, "accuracy": 0.5, "groups": groups}
    print_evaluation(Evaluation(**score, split="test", interventions=interventions))
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"test: 48 images{said}"
    assert [line.split("│")[1].strip() for line in lines if line.startswith("group")] == [
        "0.853 (341/400)",
        "no images",
    ]


def test_file_names_in_another_encoding(place: Path) -> None:
    """As bytes, in a process of its own: how a shell passes them on."""
    for name in (b"\xff.png", b"a\nb.png", b"\x1b[31m.png"):
        Path(os.fsdecode(name)).write_bytes(Path("scenes/images/1.png").read_bytes())
        for out in ([], [b"--out", b"x.jsonl"], [b"--out", b"x.parquet"]):
            command = [sys.executable, "-m", "ifam.cli", b"predict", b"run", name, *out]
            done = subprocess.run(command, capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.decode("utf-8").count("\n") == 1
            assert b"\x1b" not in done.stdout


def test_a_full_disk_where_the_screen_goes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ifam.commands.predict.print_row", full)
    assert refused(["predict", "run", "scenes/images/1.png"], 1, ["expected room", "make room where it goes"], capsys)


def test_rows_are_whole_where_pictures_have_no_room(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has no room is named, and the file that has some is complete; not where none can be begun."""

    def full(*_: Any) -> None:
        raise OutputError("pictures/1.png: no room")

    arguments = ["predict", "run", "scenes/images", "--out", "rows.jsonl", "--overlays", "pictures"]
    with monkeypatch.context() as patch:
        patch.setattr("ifam.predict.overlay_paths", full)
        assert refused(arguments, 1, ["pictures/1.png: no room"], capsys)
        assert not Path("rows.jsonl").exists()
    monkeypatch.setattr("ifam.predict.save_overlay", full)
    assert main(arguments) == 1
    assert capsys.readouterr().err == "error: pictures/1.png: no room\n"
    assert len(Path("rows.jsonl").read_text().splitlines()) == len(list(Path("scenes/images").iterdir()))
