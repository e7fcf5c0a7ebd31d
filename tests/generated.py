"""Photographs, a model and a configuration small enough to train on in a test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ifam.config import ModelConfig, OptimizerConfig, TrainingConfig, override

CLASSES, PLACES = ("finch", "gull"), ("land", "sea")
COUNTS = {"train": 3, "val": 1, "test": 2}
SIDE = 48  # three patches of the smallest transformer that timm names


def write_scenes(root: Path, counts: Mapping[str, int] = COUNTS) -> Path:
    """Two classes of squares on two backgrounds, as Waterbirds has them: ``counts`` images per group in each split."""
    random = np.random.default_rng(0)
    rows, points = ["img_id,img_filename,y,split,place,y_name,place_name"], ["img_id,part,x,y"]
    groups = [(split, y, place) for split in range(3) for y in (0, 1) for place in (0, 1)]
    for split, y, place in groups:
        for _ in range(counts.get(("train", "val", "test")[split], 0)):
            number, (top, left) = len(rows), random.integers(4, 20, 2)
            image = random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
            image[..., 2 - place] += 120
            mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
            mask[top : top + 24, left : left + 24] = 255
            image[mask > 0] = (255, 40, 40) if y else (90, 90, 0)
            write_image(root / f"images/{number}.png", image)
            write_image(root / f"masks/images/{number}.png", mask)
            rows.append(f"{number},images/{number}.png,{y},{split},{place},{CLASSES[y]},{PLACES[place]}")
            points.append(f"{number},beak,{left + 12},{top + 12}")
    (root / "metadata.csv").write_text("\n".join(rows))
    (root / "keypoints.csv").write_text("\n".join(points))
    return root


def write_image(path: Path, pixels: Any) -> Path:
    """A picture with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def tiny_config(**changes: Any) -> TrainingConfig:
    """Two epochs of three batches over the scenes; changes as ``optimizer__epochs=4``."""
    base = TrainingConfig(
        model=ModelConfig(backbone="test_vit", pretrained=False, num_parts=2),
        optimizer=OptimizerConfig(epochs=2, batch_size=4, lr_tokens=1e-4, lr_stage2=1e-3),
        workers=0,
        device="cpu",
    )
    return override(base, {name.replace("__", "."): value for name, value in changes.items()})
