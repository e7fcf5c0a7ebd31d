"""Several processes do what one does: the same losses, scores, files and errors."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import tiny_config, write_scenes
from runs import assert_same_run, checkpoint, files, metrics, run
from safetensors.torch import load_file
from together import by_srun, command, losses_of, torchrun, train_and_write_losses

import ifam
from ifam.data.read import read_table
from ifam.evaluate import evaluate

COUNTS = {"train": 6, "val": 2, "test": 3}
LEFT_OUT = ("images/3.png", "images/17.png", "images/25.png", "images/40.png")
"""so that 22, 7 and 11 images are left, which two processes cannot divide evenly, and batches of 8 neither"""
TWENTY_STEPS = {"optimizer__batch_size": 8, "optimizer__epochs": 7, "optimizer__cosine": "step"}
METHODS: dict[str, dict[str, Any]] = {
    "ifam": {"losses__concentration": 1.0, "ema": 0.9, "borrowed_backgrounds": "both"},
    "group DRO": {"method": "group_dro"},
    "staged": {
        "model__prototype_init": "centre",
        "optimizer__stage1_epochs": 2,
        "optimizer__freeze_stage1": True,
        "optimizer__lr_stage1": 1e-3,
        "losses__background_invariance": 1.0,
        "borrowed_backgrounds": "both",
        "optimizer__accumulate": 2,
    },
    "exact gradient": {"model__mask_gradient": "exact"},
    "reassigned": {"model__dropped_parts": "reassigned", "losses__stage1": 0.0},
    "annotated masks": {"method": "early_mask", "borrowed_backgrounds": "stage2", "model__evidence": "pixels"},
    "MaskTune, its first run": {"method": "masktune", "robustness__tuning_epochs": 7},
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(METHODS)[2:]]


def write_uneven_scenes(root: Path) -> Path:
    table = write_scenes(root, COUNTS) / "metadata.csv"
    rows = [line for line in table.read_text().splitlines() if not any(f",{name}," in line for name in LEFT_OUT)]
    table.write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_uneven_scenes(tmp_path_factory.mktemp("data") / "scenes")


def written(folder: Path) -> set[str]:
    return {name for name in files(folder) if "losses" not in name}


@pytest.mark.parametrize("name", [*list(METHODS)[:2], *SLOW])
def test_two_processes_compute_the_losses_of_one(name: str, data: Path, tmp_path: Path) -> None:
    one, two, changes = tmp_path / "one", tmp_path / "two", TWENTY_STEPS | METHODS[name]
    assert torchrun(1, train_and_write_losses, changes, data, one) == [0]
    assert torchrun(2, train_and_write_losses, changes, data, two) == [0, 0]
    expected, got = torch.tensor(losses_of(one, 0)[:20]), torch.tensor(losses_of(two, 0)[:20])
    print(f"{name}: relative difference of 20 losses at most {float((got / expected - 1).abs().max()):.2g}")
    assert len(expected) == 20
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)
    assert losses_of(two, 0) == losses_of(two, 1)
    assert written(one) == written(two)
    assert [line["val/groups"].keys() for line in metrics(one)] == [line["val/groups"].keys() for line in metrics(two)]
    trained, again = load_file(one / "model.safetensors"), ifam.load(two).state_dict()
    assert trained.keys() == again.keys()


@pytest.mark.slow
def test_a_process_may_have_no_image_of_a_batch(data: Path, tmp_path: Path) -> None:
    one, three = tmp_path / "one", tmp_path / "three"
    changes = {"optimizer__batch_size": 5, "optimizer__epochs": 4, "losses__concentration": 1.0}  # 22 = 4 · 5 + 2
    assert torchrun(1, train_and_write_losses, changes, data, one) == [0]
    assert torchrun(3, train_and_write_losses, changes, data, three) == [0, 0, 0]
    torch.testing.assert_close(torch.tensor(losses_of(three, 2)), torch.tensor(losses_of(one, 0)), rtol=1e-5, atol=0)


def test_two_processes_evaluate_every_image_once(data: Path, tmp_path: Path) -> None:
    run(tiny_config(optimizer__epochs=1), read_table(data), tmp_path / "run")
    arguments = ["evaluate", str(tmp_path / "run"), str(data), "--device", "cpu", "--batch-size", "4"]
    numbers = {}
    for size in (1, 2):
        numbers[size] = tmp_path / f"{size}.json"
        assert torchrun(size, command, [*arguments, "--json", str(numbers[size])], tmp_path) == [0] * size
    one, two = (json.loads(path.read_text()) for path in numbers.values())
    assert two["num_samples"] == 11
    assert sum(group["count"] for group in two["groups"].values()) == 11
    assert two == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for name, value in one.items()
    }
    assert (tmp_path / "1.out").read_text() == ""  # the first process speaks


def test_an_image_that_one_process_cannot_read_ends_both(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "scenes")
    damaged = read_table(data).select("test").samples[1].path  # of the second process
    run(tiny_config(optimizer__epochs=1), read_table(data), tmp_path / "run")
    damaged.write_bytes(b"")
    arguments = ["evaluate", str(tmp_path / "run"), str(data), "--device", "cpu"]
    assert torchrun(2, command, arguments, tmp_path) == [1, 1]
    said = (tmp_path / "0.err").read_text() + (tmp_path / "1.err").read_text()
    assert said.count("\n") == said.count("error: ") == 1
    assert str(damaged) in said
    assert torchrun(2, command, [*arguments, "--skip-unreadable", "--json", str(tmp_path / "x.json")], tmp_path) == [
        0,
        0,
    ]
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["num_samples"], len(found["unreadable"])) == (7, 1)


def stop_in_the_second_epoch(changes: dict[str, Any], data: Path, folder: Path, resume: bool = True) -> None:
    """One of the processes is asked to stop; both do, after the same step."""
    from ifam.training.module import TrainingModule

    step = TrainingModule.training_step

    def step_after_signal(module: TrainingModule, batch: Any, index: int) -> Any:
        if (module.current_epoch, index, os.environ["RANK"]) == (1, 0, "1"):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(module, batch, index)

    TrainingModule.training_step = step_after_signal  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt, match="--resume goes on from"):
        run(tiny_config(**changes), read_table(data), folder)
    TrainingModule.training_step = step  # type: ignore[method-assign]
    if resume:
        run(tiny_config(**changes), read_table(data), folder, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("special", [{"ema": 0.9, "workers": 1}, {"strategy": "fsdp"}], ids=["ddp", "fsdp"])
def test_two_processes_go_on_to_the_same_bits(special: dict[str, Any], data: Path, tmp_path: Path) -> None:
    changes = {"optimizer__batch_size": 8} | special
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert torchrun(2, train_and_write_losses, changes, data, straight) == [0, 0]
    assert torchrun(2, stop_in_the_second_epoch, changes, data, stopped) == [0, 0]
    for rank in (0, 1):
        (straight / f"{rank}.losses.json").unlink()
    assert_same_run(stopped, straight)


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(data: Path, tmp_path: Path) -> None:
    changes, straight, stopped = {"optimizer__batch_size": 8}, tmp_path / "straight", tmp_path / "stopped"
    assert torchrun(1, train_and_write_losses, changes, data, straight) == [0]
    assert torchrun(2, stop_in_the_second_epoch, changes, data, stopped, False) == [0, 0]
    assert torchrun(1, train_and_write_losses, changes, data, stopped, True) == [0]
    assert losses_of(stopped, 0) == pytest.approx(losses_of(straight, 0)[-2:], rel=1e-5)
    lines = [[line["train/loss"] for line in metrics(folder)] for folder in (stopped, straight)]
    assert lines[0] == pytest.approx(lines[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [None, by_srun], ids=["torchrun", "srun"])
def test_a_divided_model_is_trained_and_saved_whole(environment: Any, data: Path, tmp_path: Path) -> None:
    changes = {"optimizer__batch_size": 8, "optimizer__epochs": 1}
    one, two = tmp_path / "one", tmp_path / "two"
    assert torchrun(1, train_and_write_losses, changes, data, one) == [0]
    divided = changes | {"strategy": "fsdp"}
    assert torchrun(2, train_and_write_losses, divided, data, two, environment=environment) == [0, 0]
    torch.testing.assert_close(torch.tensor(losses_of(two, 1)), torch.tensor(losses_of(one, 0)), rtol=1e-5, atol=0)
    expected, got = ifam.load(one).state_dict(), ifam.load(two).state_dict()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    groups, divided_groups = (checkpoint(folder)["optimizer_states"][0]["param_groups"] for folder in (one, two))
    assert [len(group["params"]) for group in groups] == [len(group["params"]) for group in divided_groups]
    score = evaluate(ifam.load(two), read_table(data), split="val")
    assert score.worst_group_accuracy == metrics(two)[0]["val/worst_group_accuracy"]
    assert checkpoint(one)["state_dict"].keys() == checkpoint(two)["state_dict"].keys()
