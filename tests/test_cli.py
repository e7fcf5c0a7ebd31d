import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from generated import write_image, write_scenes
from timm.models.vision_transformer import VisionTransformer

import ifam
from ifam.cli import main, parser
from ifam.config import read
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.storage import save_model
from ifam.training.module import TrainingModule

TRAIN = ["train", "scenes", "--out", "new", "--backbone", "test_vit", "--set", "model.pretrained=false",
         "--device", "cpu", "--workers", "0", "--batch-size", "4"]  # fmt: skip
EVALUATE, PREDICT = ["evaluate", "run", "scenes", "--device", "cpu"], ["predict", "run", "scenes", "--device", "cpu"]
FLAGS = {
    "demo": "--out --seed",
    "doctor": "",
    "train": "--backbone --batch-size --config --device --epochs --image-size --logger --lr --mask-gradient --method "
    "--num-parts --out --precision --recipe --resume --seed --set --skip-unreadable --workers",
    "evaluate": "--batch-size --device --json --precision --remove-parts --skip-unreadable --split --token-quantile "
    "--workers",
    "calibrate": "--batch-size --device --precision --quantiles --workers",
    "predict": "--batch-size --device --min-kept --out --overlays --precision --remove-parts --token-quantile "
    "--workers",
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
    save_model(model, tmp_path / "run")
    save_model(PlainClassifier(vit, 2, class_names=names), tmp_path / "plain")
    for name in ("truncated", "other"):
        save_model(model, tmp_path / name)
    weights = tmp_path / "truncated/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    description = json.loads((tmp_path / "other/model.json").read_text())
    description["options"]["num_parts"] = 5
    (tmp_path / "other/model.json").write_text(json.dumps(description))
    (tmp_path / "file").write_text("no folder")
    write_image(tmp_path / "one_class/cat/1.png", np.zeros((48, 48, 3)))
    write_image(tmp_path / "empty_class/cat/1.png", np.zeros((48, 48, 3)))
    (tmp_path / "empty_class/dog").mkdir()
    return tmp_path


def edit_metadata(old: str, new: str) -> None:
    path = Path("scenes/metadata.csv")
    path.write_text(path.read_text().replace(old, new))


def damage() -> None:
    Path("scenes/images/1.png").write_bytes(b"not an image")
    Path("scenes/images/24.png").write_bytes(b"not an image")


def nothing() -> None:
    pass


BAD: list[tuple[str, list[str], int, list[str]]] = [
    ("no command", [], 2, ["COMMAND", "--help"]),
    ("unknown command", ["trian"], 2, ["trian", "train"]),
    ("unknown flag", [*TRAIN, "--epoch-count", "3"], 2, ["--epoch-count", "--help"]),
    ("no folder", ["train", "scenes"], 2, ["--out"]),
    ("not a number", [*TRAIN, "--epochs", "many"], 2, ["--epochs", "'many'"]),
    ("no data", ["train", "none", "--out", "new"], 1, ["none", "does not exist"]),
    ("flat folder", ["doctor", "run"], 1, ["run", "metadata.csv"]),
    ("empty class", ["train", "empty_class", "--out", "new"], 1, ["empty_class/dog", "got none"]),
    ("one class", ["train", "one_class", "--out", "new"], 1, ["one_class", "two classes", "cat"]),
    ("unknown backbone", [*TRAIN, "--backbone", "vit_bas_patch16_224"], 2, ["nearest", "vit_base_patch16_224"]),
    ("no weights file", [*TRAIN, "--backbone", "none.safetensors"], 1, ["none.safetensors", "found none"]),
    ("no parts", [*TRAIN, "--num-parts", "0"], 2, ["model.num_parts", "at least 1", "0"]),
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
    ("no configuration", [*TRAIN, "--config", "none.yaml"], 2, ["none.yaml"]),
    ("two configurations", [*TRAIN, "--config", "run/model.json", "--recipe", "paper"], 2, ["--recipe", "--config"]),
    ("nothing to resume", [*TRAIN, "--resume"], 2, ["new", "--resume", "found none"]),
    ("recipe to resume", [*TRAIN, "--resume", "--recipe", "paper"], 2, ["new", "--resume", "found none"]),
    ("a run in a file", [*TRAIN, "--out", "file/run"], 2, ["file", "folder"]),
    ("a second run", [*TRAIN, "--out", "run"], 2, ["run", "holds a run", "--resume"]),
    ("no model", ["evaluate", "none", "scenes"], 1, ["none", "model.json", "found none"]),
    ("truncated weights", ["evaluate", "truncated", "scenes"], 1, ["truncated/model.safetensors", "damaged"]),
    ("another architecture", ["evaluate", "other", "scenes"], 1, ["another architecture", "prototypes"]),
    ("part out of range", [*EVALUATE, "--remove-parts", "0", "2"], 2, ["0 to 1", "2"]),
    ("uncalibrated", [*EVALUATE, "--token-quantile", "0.95"], 2, ["stored: 0.9", "0.95"]),
    ("device of evaluate", ["evaluate", "run", "scenes", "--device", "magic"], 2, ["device", "'magic'"]),
    ("json in a file", [*EVALUATE, "--json", "file/x.json"], 2, ["file", "folder"]),
    ("json is a folder", [*EVALUATE, "--json", "scenes"], 2, ["scenes", "folder"]),
    ("unknown split", [*EVALUATE, "--split", "dev"], 2, ["'dev'", "test"]),
    ("batch of evaluate", [*EVALUATE, "--batch-size", "0"], 2, ["batch size", "0"]),
    ("no parts to remove", ["evaluate", "plain", "scenes", "--remove-parts", "0"], 2, ["second stage"]),
    ("no parts to calibrate", ["calibrate", "plain", "scenes"], 2, ["plain", "parts"]),
    ("impossible quantile", ["calibrate", "run", "scenes", "--quantiles", "2"], 2, ["quantiles", "0 to 1", "2"]),
    ("no images", ["predict", "run", "none/*.png"], 1, ["none/*.png", "found none"]),
    ("predictions as text", [*PREDICT, "--out", "x.txt"], 2, [".parquet or .jsonl", "x.txt"]),
    ("predictions in a file", [*PREDICT, "--out", "file/x.jsonl"], 2, ["file", "folder"]),
    ("impossible share", [*PREDICT, "--min-kept", "2"], 2, ["min_kept", "0 to 1", "2"]),
    ("pictures in a file", [*PREDICT, "--overlays", "file"], 2, ["file", "folder"]),
    ("no snapshot", ["import", "none.pt", "--backbone", "test_vit", "--out", "new"], 1, ["none.pt"]),
]


@pytest.mark.parametrize(("arguments", "status", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line(
    arguments: list[str], status: int, said: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(arguments, status, said, capsys)
    assert not list(place.glob("new/model.*"))


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


def test_images_that_cannot_be_read_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    assert refused([*TRAIN, "--epochs", "1"], 1, ["scenes/images/1.png", "--skip-unreadable"], capsys)
    assert refused(EVALUATE, 1, ["scenes/images/24.png", "--skip-unreadable"], capsys)
    assert main([*EVALUATE, "--skip-unreadable"]) == 0
    assert "7 images" in capsys.readouterr().out
    assert main(["doctor", "scenes"]) == 0
    assert "2 unreadable" in capsys.readouterr().out


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
    epoch = r"epoch {}/2: loss \d+\.\d+, validation accuracy .*, worst group .*, foreground IoU .*, kept .*\n"
    last = r"best epoch [12], validation score .*\nnext: ifam evaluate new scenes\n"
    assert re.fullmatch(epoch.format(1) + epoch.format(2) + last, out), out


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
    assert "worst-group accuracy" in capsys.readouterr().out

    assert main(["calibrate", "new", "scenes", "--quantiles", "0.5"]) == 0
    assert main(["predict", "new", "scenes/images", "--out", "rows.parquet", "--token-quantile", "0.5"]) == 0
    rows = pyarrow.parquet.read_table("rows.parquet").to_pylist()
    assert len(rows) == 24
    assert {row["label"] for row in rows} <= {"finch", "gull"}


def test_predictions_go_on_past_an_unreadable_image(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage()
    assert main(["predict", "run", "scenes/images", "--out", "rows.jsonl", "--overlays", "pictures"]) == 1
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in sorted(Path("scenes/images").iterdir())]
    assert sum(row["status"] == "unreadable" for row in rows) == 2
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err[:2] if re.match(r"scenes/images/(1|24)\.png: expected an image", line)] == err[:2]
    assert err[2:] == ["error: 2 of 24 images could not be read, see above; the others are predicted"]
    assert len(list(Path("pictures").iterdir())) == 22


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


def test_data_without_splits_keeps_those_of_its_run(place: Path) -> None:
    for group in ("finch", "gull"):
        for number in range(10):
            write_image(Path(f"folders/{group}/{number}.png"), np.full((48, 48, 3), 10 * number))
    arguments = ["train", "folders", *TRAIN[2:], "--epochs", "1"]
    assert main(arguments) == 0
    assert main(["evaluate", "new", "folders", "--json", "test.json"]) == 0
    assert json.loads(Path("test.json").read_text())["num_samples"] == 4  # not the images that it was trained on
    write_image(Path("folders/gull/more.png"), np.zeros((48, 48, 3)))
    assert main(["evaluate", "new", "folders", "--json", "test.json"]) == 0
    assert json.loads(Path("test.json").read_text())["num_samples"] == 21  # other data, a test set alone


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
    assert "settings of the run" in capsys.readouterr().err
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
