"""What bfloat16 changes in the answers of trained models, against the same models in float32.

    python benchmarks/precision.py RUN [RUN ...] DATA --json FILE

Every test image is asked twice, on the CPU and in the same batches: in float32, and in bfloat16 as ``--precision auto``
has it where that is fast. There stage 2 answers in float32 all the same; the third column asks it in bfloat16 about the
same mask. Answers that differ are counted by whether the mask differs as well.
"""

import argparse
from pathlib import Path
from typing import Any

import protocol
from torch import Tensor

from ifam.commands.inputs import load_with_parts
from ifam.config import FixedPrecision
from ifam.data.batch import Batch
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.device import resolve_precision
from ifam.evaluate import evaluate
from ifam.metrics.accumulate import Accumulator, classification_score
from ifam.model.two_stage import IFAM
from ifam.output import Output, Prediction
from ifam.storage import load, weights_sha256

BAR = 0.995
"""least share of the images with the same answer"""
COLUMNS = {"bfloat16": "logits", "bfloat16 in both stages": "logits of both"}
SAME, OTHER = "share of images with the same answer", "images with another answer"


def ask(model: IFAM, table: ImageTable, precision: FixedPrecision, batch_size: int) -> Accumulator:
    """Logits and mask of each test image, and what stage 2 says of the mask where all is in that precision."""
    found = Accumulator()

    def keep(batch: Batch, output: Prediction, values: Any) -> None:
        assert isinstance(output, Output)
        told = {"label": batch.labels, "group": batch.groups, "logits": output.logits.float(), "mask": output.mask}
        if model.stage2 is not None and model.is_faithful:
            told["logits of both"] = model.stage2(batch.images, output.mask).float()
        found.update(**told)

    evaluate(model, table, batch_size=batch_size, precision=precision, with_keypoint_error=False, observe=keep)
    return found


def scores(found: Accumulator, logits: str = "logits") -> dict[str, float | None]:
    groups = found["group"]
    answers = found[logits].argmax(1)
    score = classification_score(answers, found["label"], groups, num_groups=int(groups.max()) + 1)
    return {"accuracy": score.accuracy, "worst_group_accuracy": score.worst_group_accuracy}


def changes(before: Tensor, after: Tensor, mask_before: Tensor, mask_after: Tensor) -> dict[str, Any]:
    """What differs between two askings of N images: logits (N, C), masks (N, h, w) bool."""
    other = before.argmax(1) != after.argmax(1)
    tokens = (mask_before != mask_after).flatten(1).sum(1)
    difference = (before - after).abs().amax(1)
    return {
        SAME: 1 - int(other.sum()) / len(other),
        OTHER: int(other.sum()),
        "of these with another mask": int((other & (tokens > 0)).sum()),
        "tokens that their masks differ by": sorted(tokens[other & (tokens > 0)].tolist()),
        "of these with the same mask": int((other & (tokens == 0)).sum()),
        "images with another mask": int((tokens > 0).sum()),
        "largest difference of a logit": float(difference.max()),
        "largest with the same mask": max(difference[tokens == 0].tolist(), default=None),
    }


def name_of(run: Path) -> str:
    """Without the place on this machine."""
    return "/".join(run.resolve().parts[-2:])


def about(model: IFAM, run: Path) -> dict[str, Any]:
    """Which model that is."""
    return {
        "backbone": model.backbone_title,
        "image_size": list(model.preprocessing.image_size),
        "num_parts": model.num_parts,
        "model_sha256": weights_sha256(load(run)),
    }


def measure(run: Path, data: Path, batch_size: int) -> dict[str, Any]:
    """One run in all columns."""
    model, table = load_with_parts(str(run)), read_table(data)
    single, half = (ask(model, table, precision, batch_size) for precision in ("32-true", "bf16-mixed"))
    found: dict[str, Any] = {"model": about(model, run), "images": single.num_samples, "float32": scores(single)}
    for name, logits in COLUMNS.items():
        if logits in half:
            found[name] = scores(half, logits) | changes(single["logits"], half[logits], single["mask"], half["mask"])
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all runs, by column."""
    columns = [name for name in COLUMNS if all(name in run for run in runs)]
    return {
        name: {
            "runs": len(runs),
            f"lowest {SAME}": min(run[name][SAME] for run in runs),
            f"{OTHER}, by run": [run[name][OTHER] for run in runs],
        }
        for name in columns
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch-size", type=int, default=32, help="default 32, as that of the commands")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for run in options.runs:
        found[name_of(run)] = measure(run, options.data, options.batch_size)
        print(name_of(run), found[name_of(run)], flush=True)
        protocol.write_report(
            options.json,
            (__doc__ or "").splitlines()[0],
            "python benchmarks/precision.py RUN [RUN ...] DATA --json FILE",
            {
                "settings": {"batch_size": options.batch_size, "data": options.data.resolve().name, "split": "test"},
                "bar": {f"least {SAME}": BAR},
                "summary": summary(list(found.values())),
                "measured": found,
            },
            **{"precision auto is": resolve_precision("auto", "cpu")},
        )


if __name__ == "__main__":
    main()
