"""A small generated data set with a shortcut, and a run on it without data, network or pretrained weights.

The birds' stand-ins are striped (class 0) or spotted (class 1) blobs; they stand on grass or water, and in training the
background agrees with the class in 95 of 100 images.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ifam.config import ModelConfig, OptimizerConfig, TrainingConfig
from ifam.console import print_evaluation, show_progress
from ifam.errors import UsageError
from ifam.files import replacing

SIZE = 160
AGREEMENT = {"train": 0.95, "val": 0.5, "test": 0.5}
COUNTS = {"train": 320, "val": 80, "test": 160}


def draw_scene(rng: np.random.Generator, label: int, place: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A photograph-like image (160, 160, 3) and its foreground (160, 160)."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    base = np.array([[90, 140, 60], [60, 110, 160]][place], dtype=np.float64)
    noise = rng.normal(0, 12, (SIZE, SIZE, 1))
    waves = 18 * np.sin((y if place else x) / rng.uniform(2, 4) + rng.uniform(0, 6))[..., None]
    image = base + noise + waves + rng.normal(0, 10, 3)
    centre_y, centre_x = rng.uniform(55, 105, 2)
    radius_y, radius_x = rng.uniform(28, 42, 2)
    mask = ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 < 1
    period = rng.uniform(9, 13)
    stripes = np.sin(2 * np.pi * (x + y) / period) > 0
    spots = (np.sin(2 * np.pi * x / period) > 0.2) & (np.sin(2 * np.pi * y / period) > 0.2)
    pattern = stripes if label == 0 else spots
    colour = np.array([200, 160, 120]) + rng.normal(0, 15, 3)
    image[mask] = (colour * np.where(pattern, 1.0, 0.45)[..., None] + rng.normal(0, 8, (SIZE, SIZE, 1)))[mask]
    return image.clip(0, 255).astype(np.uint8), mask


def write_scenes(folder: Path, seed: int) -> None:
    """The data set on disk, in the layout of Waterbirds with masks."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    rows: list[tuple[int | str, ...]] = []
    for split_number, (split, count) in enumerate(COUNTS.items()):
        for position in range(count):
            label = position % 2
            place = label if rng.random() < AGREEMENT[split] else 1 - label
            number = len(rows)
            image, mask = draw_scene(rng, label, place)
            Image.fromarray(image).save(folder / f"images/{number:04d}.png")
            Image.fromarray(mask).save(folder / f"masks/{number:04d}.png")
            names = ("striped", "spotted")[label], ("grass", "water")[place]
            rows.append((number, f"images/{number:04d}.png", label, split_number, place, *names))
    with replacing(folder / "metadata.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("img_id", "img_filename", "y", "split", "place", "y_name", "place_name"))
        writer.writerows(rows)


def demo_config(seed: int) -> TrainingConfig:
    """Both stages of a tiny transformer from random weights, in about a minute."""
    return TrainingConfig(
        model=ModelConfig(backbone="test_vit", pretrained=False, num_parts=1, prototype_init="centre"),
        optimizer=OptimizerConfig(
            epochs=8, batch_size=32, lr_tokens=0.0, lr_stage2=1e-3, stage1_epochs=3, freeze_stage1=True
        ),
        augmentation="light",
        workers=0,
        seed=seed,
    )


def run_demo(folder: Path, *, seed: int = 0) -> None:
    """Draw the data, train iFAM and plain fine-tuning on it, and compare them by group."""
    from ifam.data.read import read_table
    from ifam.evaluate import evaluate
    from ifam.explanations.explanation import explain
    from ifam.model.two_stage import IFAM
    from ifam.storage import load
    from ifam.training.run import train

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: expected a new or empty folder, got one with files; delete it or choose another --out"
        )
    data = folder / "data"
    write_scenes(data, seed)
    table = read_table(data)
    config = demo_config(seed)
    plain = replace(config, method="erm", optimizer=replace(config.optimizer, stage1_epochs=0, freeze_stage1=False))
    print(f"{len(table)} images drawn; in training the background agrees with the class in 95 of 100")
    for name, title, each in (
        ("ifam", "iFAM: parts first, then a classifier that sees only them", config),
        ("plain", "plain fine-tuning of the same transformer, which sees everything", plain),
    ):
        print(f"\n{title}")
        train(each, table, folder / name)
        model = load(folder / name)
        print_evaluation(evaluate(model, table, progress=show_progress("evaluating")))
        if isinstance(model, IFAM):
            explain(model, table.select("test").samples[0].path).save(folder / "explanation.png")
    print(f"\nlook at {folder / 'explanation.png'}; next: ifam predict {folder / 'ifam'} {data / 'images'}")
