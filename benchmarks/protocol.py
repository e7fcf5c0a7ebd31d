"""What the benchmarks share: run a configuration once, score it, and keep the numbers with their circumstances."""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ifam import config as configuration
from ifam.benchmarks.report import circumstances
from ifam.config import TrainingConfig
from ifam.data.read import read_table
from ifam.device import pick_device, resolve_precision
from ifam.evaluate import evaluate
from ifam.files import write_text
from ifam.storage import load
from ifam.training.run import train


def arguments(description: str, methods: Sequence[str] = (), **numbers: int) -> argparse.Namespace:
    """The options of every benchmark; ``methods``: what ``--methods`` chooses from; ``numbers``: further defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument(
        "--runs", type=Path, required=True, help="folder for the runs; those that exist are not repeated"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, required=True)
    if methods:
        parser.add_argument("--methods", nargs="+", choices=methods, default=methods, help="default: all")
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default {value}")
    return parser.parse_args()


def measured_before(path: Path, part: str) -> dict[str, Any]:
    """A part of an earlier JSON file, to add to; empty where there is none."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[part]
    return found


def run_once(config: TrainingConfig, data: Path, folder: Path) -> dict[str, Any]:
    """Train unless it was done before; the score of the best validation epoch."""

    def work() -> dict[str, Any]:
        trained = train(config, read_table(data), folder)
        return {
            "seed": config.seed,
            "best_epoch": trained.best_epoch,
            "training_seconds": round(trained.seconds, 1),
            "val_selection_score": trained.selection_score,
        }

    return _once(folder / "trained.json", work)


def test_once(config: TrainingConfig, data: Path, folder: Path) -> dict[str, Any]:
    """`run_once`, and the scores on the test split, in the precision of the training."""
    trained = run_once(config, data, folder)

    def work() -> dict[str, Any]:
        return evaluate(
            load(folder), read_table(data), precision=config.precision, device=pick_device(config.device)
        ).to_dict()

    return trained | {"test": _once(folder / "test.json", work)}


def _once(path: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.exists():
        write_text(path, json.dumps(work(), indent=1))
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def spread(results: Iterable[dict[str, Any]], name: str) -> dict[str, float] | None:
    """Median and range over seeds of a number, None where it is not known."""
    values = [result["test"][name] for result in results if result["test"].get(name) is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "seeds": len(values)}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Test numbers over seeds."""
    names = (
        "worst_group_accuracy",
        "accuracy",
        "average_accuracy",
        "auc",
        "foreground_iou",
        "keypoint_error",
        "mean_kept",
    )
    found = {name: spread(results, name) for name in names}
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def save(path: Path, description: str, command: str, body: dict[str, Any]) -> None:
    """Write the JSON of a benchmark that trains, in the precision of the recipes."""
    write_report(path, description, command, body, precision=resolve_precision("auto", "auto"))


def write_report(path: Path, description: str, command: str, body: dict[str, Any], **where: str) -> None:
    """The JSON of any benchmark; ``where``: circumstances beside the machine."""
    content = {"description": description, "command": command, "circumstances": circumstances() | where, **body}
    write_text(path, json.dumps(content, indent=1) + "\n")


def settings(config: TrainingConfig) -> dict[str, Any]:
    """A configuration for the record, without paths of the machine."""
    values = configuration.to_dict(config)
    values["model"]["backbone"] = Path(values["model"]["backbone"]).name
    return values
