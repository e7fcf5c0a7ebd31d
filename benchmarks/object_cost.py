"""What evidence in pixels costs a prediction, and borrowed backgrounds a step of training.

    python benchmarks/object_cost.py --json FILE

Each is timed against the same without it, in turn, on noise with random weights; ratios are of medians.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import protocol
import torch

from ifam.benchmarks.speed.cases import Setting, Work, keep_shares, make_images, make_model, training_step
from ifam.benchmarks.speed.timing import in_turn, medians
from ifam.config import BorrowedBackgrounds
from ifam.recipes import staged

BACKBONE, KEPT, LR_STAGE1 = "vit_small_patch14_dinov2", 0.3, 7e-5


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


def step(setting: Setting, rounds: int, device: str, stage: int) -> dict[str, float]:
    """Of the recipe `staged` with own backgrounds and with borrowed ones, while it trains this stage."""

    def work(borrowed: BorrowedBackgrounds) -> Work:
        recipe = staged("ifam", num_parts=setting.num_parts)
        lr_stage1 = LR_STAGE1 if borrowed == "both" else 0.0
        config = replace(
            recipe,
            borrowed_backgrounds=borrowed,
            losses=replace(recipe.losses, background_invariance=1.0),
            optimizer=replace(recipe.optimizer, lr_stage1=lr_stage1),
        )
        return training_step(setting, device, "cut", config=config, epoch=0 if stage == 1 else config.optimizer.epochs)

    found = medians(in_turn({"none": work("none"), "both": work("both")}, rounds, device))
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
            **{
                f"training step of stage {stage}": step(setting, options.rounds, options.device, stage)
                for stage in (1, 2)
            },
        }
        print(setting, found[str(setting)])
    command = "python benchmarks/object_cost.py --json FILE"
    protocol.write_report(options.json, "seconds, medians", command, {"settings": found}, device=options.device)


if __name__ == "__main__":
    main()
