"""Exported files against their model on photographs: logits, masks, time, and what int8 weights cost.

    python benchmarks/export.py DATA --run RUN --json FILE

Compares on evenly spaced test images in batches of 1, 3 and 8, with all parts on, none, and half of them at random;
times batches of 8, each runtime in turn, on all threads that it takes by itself; and counts right answers of the model
and of the int8 file over the whole test split.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ifam.benchmarks.report import circumstances
from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.exporting.accuracy import accuracy_change
from ifam.exporting.comparison import BATCHES, compare
from ifam.exporting.export import export
from ifam.exporting.formats import FORMATS
from ifam.exporting.graphs import make_graph
from ifam.files import write_text
from ifam.model.base import Classifier
from ifam.storage import load


def photographs(model: Classifier, table: ImageTable, number: int) -> Tensor:
    """Evenly spaced test images as the model sees them (number, 3, H, W)."""
    samples = table.select("test").samples
    chosen = ImageTable(**{**vars(table), "samples": samples[:: max(1, len(samples) // number)][:number]})
    data = ImageDataModule(chosen, model.preprocessing, augmentation="none", batch_size=32, workers=0, seed=0)
    return torch.cat([batch.images for batch in data.loader("test")])


@torch.inference_mode()
def milliseconds_per_image(runs: dict[str, Callable[[], Any]], images: int, rounds: int) -> dict[str, float]:
    """Median over rounds, in each of which every run has its turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):  # the first warms up
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: round(1000 * statistics.median(values[1:]) / images, 1) for name, values in seconds.items()}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every number."""
    model, table = load(options.run), read_table(options.data).align(load(options.run).class_names)
    images, graph = photographs(model, table, options.images), make_graph(model)
    whole = {name: export(model, folder / f"model{kind.suffix}", name) for name, kind in FORMATS.items()}
    rounded = export(model, folder / "int8.onnx", int8=True)
    opened = {name: FORMATS[name].open(result.path) for name, result in whole.items()}
    int8 = FORMATS["onnx"].open(rounded.path)
    inputs = graph.everything(images[:8])
    runs: dict[str, Callable[[], Any]] = {"model": lambda: model(inputs[0]), "dense graph": lambda: graph(*inputs)}
    runs |= {f"{name} file": lambda run=run: run(*inputs) for name, run in opened.items()}
    runs["int8 file"] = lambda: int8(*inputs)
    return {
        "images": len(images),
        "batches": BATCHES,
        "differences": {
            name: {str(size): asdict(compare(graph, run, images, batches=[size])) for size in BATCHES}
            for name, run in opened.items()
        },
        "bytes": {name: result.num_bytes for name, result in (whole | {"int8": rounded}).items()},
        "milliseconds_per_image": milliseconds_per_image(runs, len(inputs[0]), options.rounds),
        "int8": asdict(accuracy_change(model, int8, table)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the numbers with their circumstances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    write_text(options.json, json.dumps(circumstances() | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
