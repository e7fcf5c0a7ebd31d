"""What evidence in pixels costs a prediction, and borrowed backgrounds a step of training.

    python benchmarks/object_cost.py --json FILE

Each is timed against the same without it, in turn, on noise with random weights; ratios are of medians.
"""

import argparse
from pathlib import Path
from typing import Any

import protocol
import torch

from ifam.benchmarks.speed.cases import Setting, keep_shares, make_images, make_model, training_step
from ifam.benchmarks.speed.timing import in_turn, medians

BACKBONE, KEPT = "vit_small_patch14_dinov2", 0.3


def prediction(setting: Setting, rounds: int, device: str) -> dict[str, float]:
    """Of the same batch with evidence in patches and in pixels."""
    model = make_model(setting, device)
    images = make_images(setting, device)
    keep_shares(model, setting.kept)

    def predict(evidence: Any) -> None:
        model.evidence = evidence
        model(images)

    with torch.inference_mode():
        found = medians(
            in_turn({each: lambda each=each: predict(each) for each in ("patches", "pixels")}, rounds, device)  # type: ignore[misc]
        )
    return found | {"pixels over patches": found["pixels"] / found["patches"]}


def step(setting: Setting, rounds: int, device: str) -> dict[str, float]:
    """Of both stages with own backgrounds and with borrowed ones."""
    works = {each: training_step(setting, device, "cut", borrowed=each) for each in ("none", "both")}  # type: ignore[arg-type]
    found = medians(in_turn(works, rounds, device))
    return found | {"both over none": found["both"] / found["none"]}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=168)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    found = {}
    for parts in (1, 4):
        kept = (KEPT,) * options.batch_size
        setting = Setting(backbone=BACKBONE, image_size=options.image_size, kept=kept, num_parts=parts)
        found[str(setting)] = {
            "prediction": prediction(setting, options.rounds, options.device),
            "training step": step(setting, options.rounds, options.device),
        }
        print(setting, found[str(setting)])
    command = "python benchmarks/object_cost.py --json FILE"
    protocol.write_report(options.json, "seconds, medians", command, {"settings": found}, device=options.device)


if __name__ == "__main__":
    main()
