"""Exported files against their model on photographs: logits, masks, time, and what int8 weights cost.

    python benchmarks/export.py DATA --run RUN --json FILE

Compares on evenly spaced test images in batches of 1, 3 and 8, with all parts on, none, and half of them at random;
times batches of 8, each runtime in turn, on all threads that it takes by itself; and counts right answers of the model
and of the int8 file over the whole test split.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import protocol
import torch
from torch import Tensor

from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.exporting.accuracy import accuracy_change
from ifam.exporting.comparison import compare
from ifam.exporting.export import BATCHES, ExportResult, export
from ifam.exporting.formats import FORMATS
from ifam.exporting.graphs import make_graph
from ifam.model.base import Classifier
from ifam.storage import load

PARTS = ("onnx", "torch", "int8", "time")


def photographs(model: Classifier, table: ImageTable, number: int) -> Tensor:
    """Evenly spaced test images as the model sees them (number, 3, H, W)."""
    samples = table.select("test").samples
    chosen = ImageTable(**{**vars(table), "samples": samples[:: max(1, len(samples) // number)][:number]})
    data = ImageDataModule.at_test_time(chosen, model.preprocessing, batch_size=32)
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


def measure(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any]]:
    """What was asked for, as it is ready."""
    model = load(options.run)
    table = read_table(options.data).align(model.class_names)
    images, graph = photographs(model, table, options.images), make_graph(model)
    exported: dict[str, ExportResult] = {}
    for name, (format, int8) in {"onnx": ("onnx", False), "torch": ("torch", False), "int8": ("onnx", True)}.items():
        if name in options.measure or "time" in options.measure:
            exported[name] = export(model, folder / f"{name}{FORMATS[format].suffix}", format, int8=int8)
    opened = {name: FORMATS["torch" if name == "torch" else "onnx"].open(file.path) for name, file in exported.items()}
    yield "bytes", {name: file.num_bytes for name, file in exported.items()}
    for name in ("onnx", "torch"):
        if name in options.measure:
            by_batch = {str(size): asdict(compare(graph, opened[name], images.split(size))) for size in options.batches}
            yield f"{name} against the model on {len(images)} images, by batch", by_batch
    if "int8" in options.measure:
        yield "int8 against the model", asdict(accuracy_change(model, opened["int8"], table))
    if "time" in options.measure:
        inputs = graph.everything(images[:8])
        runs: dict[str, Callable[[], Any]] = {"model, packed": lambda: model(inputs[0])}
        runs |= {f"{name} file": partial(run, *inputs) for name, run in opened.items()}
        yield "milliseconds per image, batches of 8", milliseconds_per_image(runs, len(inputs[0]), options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100, help="default 100")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="default 1 3 8")
    parser.add_argument("--rounds", type=int, default=10, help="default 10")
    parser.add_argument("--measure", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found = protocol.measured_before(options.json, "measured")
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(options, Path(folder)):
            found[name] = found.get(name, {}) | value
            print(name, value, flush=True)
            protocol.write_report(
                options.json,
                (__doc__ or "").splitlines()[0],
                "python benchmarks/export.py DATA --run RUN --json FILE",
                {"measured": found},
                precision="32-true",
            )


if __name__ == "__main__":
    main()
