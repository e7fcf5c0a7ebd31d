"""What each measure against the background is worth, alone and together, on a data set in the Waterbirds layout.

    python benchmarks/only_the_object.py DATA --backbone WEIGHTS --runs DIR --json FILE [--parts 4] [--seeds 0 1 2]

The measures: borrowed backgrounds in the training of stage 2, the same in that of stage 1, and evidence in pixels. The
last needs no training, so that every run is scored with it and without. Scores are those of the last epoch, which no
label chose, and of the epoch that validation chose. ``moved``: answers of `ifam.verify` that change before the
backgrounds of other photographs. Runs that exist are not repeated.
"""

import json
from pathlib import Path
from typing import Any, get_args

import protocol
import torch

from ifam.config import BorrowedBackgrounds, Evidence, TrainingConfig, override
from ifam.data.read import read_table
from ifam.evaluate import evaluate
from ifam.files import write_text
from ifam.model.two_stage import IFAM
from ifam.recipes import staged
from ifam.storage import load
from ifam.training.folder import LAST
from ifam.verify import verify

NUMBERS = ("accuracy", "worst_group_accuracy", "worst_group_auc", "foreground_iou", "mean_kept", "no_evidence")
AUDITED = 300
"""test photographs whose backgrounds are exchanged"""


def make_config(borrowed: str, num_parts: int, seed: int, backbone: str, epochs: int) -> TrainingConfig:
    """The default recipe with backgrounds borrowed by these stages."""
    changes = {"model.backbone": backbone, "seed": seed, "borrowed_backgrounds": borrowed}
    return override(staged("ifam", epochs, num_parts), changes)


def models(folder: Path) -> dict[str, IFAM]:
    """Of the epoch that validation chose, and of the last."""
    chosen, last = load(folder), load(folder)
    state = torch.load(folder / LAST, map_location="cpu", weights_only=False)["state_dict"]
    last.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    assert isinstance(chosen, IFAM)
    assert isinstance(last, IFAM)
    return {"chosen": chosen, "last": last}


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Test scores by epoch and evidence, and what other backgrounds change; kept beside the run."""
    path = folder / "object.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    table = read_table(data)
    found = {}
    for epoch, model in models(folder).items():
        for evidence in get_args(Evidence):
            model.evidence = evidence
            score = evaluate(model, table)
            found[f"{epoch}, {evidence}"] = {name: getattr(score, name) for name in NUMBERS}
            if epoch == "last":
                audit = verify(model, table.select("test"), sample=AUDITED)
                found[f"{epoch}, {evidence}"] |= {"moved": audit.answers_moved, "mask_iou": audit.mask_iou}
    write_text(path, json.dumps(found, indent=1))
    return found


def main() -> None:
    options = protocol.arguments(__doc__ or "", methods=list(get_args(BorrowedBackgrounds)), parts=1, epochs=6)
    report: dict[str, Any] = protocol.measured_before(options.json, "rows")
    for borrowed in options.methods:
        name, runs = f"K = {options.parts}, borrowed by {borrowed}", []
        for seed in options.seeds:
            config = make_config(borrowed, options.parts, seed, options.backbone, options.epochs)
            folder = options.runs / f"parts{options.parts}-{borrowed}-seed{seed}"
            runs.append(protocol.run_once(config, options.data, folder) | {"test": measure(folder, options.data)})
            report[name] = runs
            command = "python benchmarks/only_the_object.py DATA --backbone WEIGHTS --runs DIR --json FILE"
            protocol.save(options.json, (__doc__ or "").splitlines()[0], command, {"rows": report})
            print(name, seed, json.dumps(runs[-1]["test"]), flush=True)


if __name__ == "__main__":
    main()
