"""How far the losses of several processes are from those of one, and whether they evaluate every image once.

The runs and the data are those of tests/training/test_processes.py: 22 training images in batches of 8, so that the
last batch of an epoch has 6; noise, part dropout and augmentation on; 20 steps. 11 test images are evaluated.

    python benchmarks/distributed.py --json benchmarks/results/distributed.json
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import protocol

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "training")]
STEPS = 20


def largest_difference(changes: dict[str, Any], data: Path, folder: Path, processes: int) -> dict[str, Any]:
    """Relative, over the losses of the first steps."""
    from together import losses_of, torchrun, train_and_write_losses

    alone = {name: value for name, value in changes.items() if name != "strategy"}
    for size, run in ((1, alone), (processes, changes)):
        statuses = torchrun(size, train_and_write_losses, run, data, folder / str(size))
        assert statuses == [0] * size, statuses
    pairs = list(zip(losses_of(folder / "1", 0), losses_of(folder / str(processes), 0), strict=True))[:STEPS]
    assert len(pairs) == STEPS
    return {"steps": len(pairs), "largest_relative_difference": max(abs(got / one - 1) for one, got in pairs)}


def evaluated(run: Path, data: Path, folder: Path) -> list[dict[str, Any]]:
    """What one, two and three processes counted."""
    from together import command, torchrun

    rows = []
    for size in (1, 2, 3):
        numbers = folder / f"{size}.json"
        given = ["evaluate", str(run), str(data), "--device", "cpu", "--batch-size", "4", "--json", str(numbers)]
        assert torchrun(size, command, given, folder) == [0] * size
        found = json.loads(numbers.read_text())
        counts = {name: group["count"] for name, group in found["groups"].items()}
        rows.append({"processes": size, "num_samples": found["num_samples"], "groups": counts} | {
            name: found[name] for name in ("accuracy", "worst_group_accuracy", "auc", "foreground_iou")
        })  # fmt: skip
    return rows


def main() -> None:
    """Every method of the test on two processes, the first on three as well, and divided."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    from test_processes import METHODS, TWENTY_STEPS, write_uneven_scenes

    cases = [(name, 2, changes) for name, changes in METHODS.items()]
    divided = METHODS["ifam"] | {"ema": None, "strategy": "fsdp"}
    cases += [("ifam", 3, METHODS["ifam"]), ("ifam, divided (fsdp)", 2, divided)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        data, rows = write_uneven_scenes(root / "scenes"), []
        for number, (name, size, changes) in enumerate(cases):
            found = largest_difference(TWENTY_STEPS | changes, data, root / str(number), size)
            rows.append({"run": name, "processes": size} | found)
            print(rows[-1], flush=True)
        counts = evaluated(root / "0/1", data, root)
    protocol.write_report(
        options.json,
        " ".join((__doc__ or "").split("\n\n    ")[0].split()),
        "python benchmarks/distributed.py --json benchmarks/results/distributed.json",
        {"losses": rows, "evaluation": counts},
    )


if __name__ == "__main__":
    main()
