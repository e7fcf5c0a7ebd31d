"""Memory of ``ifam predict`` over many images, and the cost of ``evaluate`` over the number of images.

    python benchmarks/memory.py DATA --run RUN --json FILE

The resident size is read from the system after every batch of 2,000 images that the command predicts into a Parquet
file, and compared between image 200 and the last. ``evaluate`` scores 500 and 2,000 images in turn; its cost is in
processor seconds, which other work on the machine does not lengthen much, and in seconds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import protocol

from ifam.benchmarks.speed.timing import resident
from ifam.cli import main as command
from ifam.commands import predict
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.device import arrange_memory, resolve_precision
from ifam.evaluate import evaluate
from ifam.storage import load

MIB = 2**20


def first(table: ImageTable, number: int) -> ImageTable:
    """So many images, from all over the data, as a set without splits."""
    if len(table) < number:
        raise SystemExit(f"{table.root}: expected at least {number} images, got {len(table)}")
    chosen = [table.samples[index * len(table) // number] for index in range(number)]
    return replace(table, samples=tuple(replace(sample, split=None) for sample in chosen))


def resident_while_predicting(run: Path, table: ImageTable, resources: dict[str, Any], out: Path) -> dict[int, float]:
    """MiB after so many images of one call of the command."""
    found: dict[int, float] = {}

    def look(done: int, total: int) -> None:
        if done % 100 == 0:
            found[done] = round(resident() / MIB, 1)

    def progress(what: str) -> Callable[[int, int], None]:
        return look

    predict.show_progress = progress  # type: ignore[attr-defined]
    paths = [str(sample.path) for sample in table.samples]
    machine = ["--batch-size", str(resources["batch_size"]), "--precision", resources["precision"], "--device", "cpu"]
    with redirect_stdout(StringIO()):
        if command(["predict", str(run), *paths, "--out", str(out), *machine]) != 0:
            raise SystemExit("expected predictions, got an error, see above")
    return found


def cost_of_evaluation(
    run: Path, table: ImageTable, numbers: list[int], rounds: int, resources: dict[str, Any]
) -> dict[str, dict[int, list[float]]]:
    """Seconds of each round for each number of images, all of them in every round."""
    model = load(run)
    found: dict[str, dict[int, list[float]]] = {
        kind: {number: [] for number in numbers} for kind in ("processor seconds", "seconds")
    }
    evaluate(model, first(table, 40), **resources)  # warms up
    for _ in range(rounds):
        for number in numbers:
            chosen = first(table, number)
            before = time.process_time(), time.perf_counter()
            evaluate(model, chosen, **resources)
            found["processor seconds"][number].append(round(time.process_time() - before[0], 3))
            found["seconds"][number].append(round(time.perf_counter() - before[1], 3))
    return found


def linearity(found: dict[int, list[float]]) -> float:
    """Cost of the most images over that of the fewest, as a multiple of what their numbers say: 1 is linear."""
    fewest, most = min(found), max(found)
    return round(statistics.median(found[most]) / statistics.median(found[fewest]) * fewest / most, 4)


def measure(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """What was asked for, as it is ready."""
    table = read_table(options.data)
    precision = resolve_precision(options.precision, "cpu")
    resources = {"batch_size": options.batch_size, "precision": precision}
    if "predict" in options.measure:
        with tempfile.TemporaryDirectory() as folder:
            chosen, out = first(table, options.images), Path(folder, "rows.parquet")
            # in a process of its own, since the command arranges memory before torch is loaded
            arrange_memory()
            with get_context("spawn").Pool(1) as process:
                memory = process.apply(resident_while_predicting, (options.run, chosen, resources, out))
        growth = round(memory[max(memory)] / memory[200] - 1, 4)
        yield (
            f"predict, {precision}",
            {"growth from image 200 to the last": growth, "resident MiB after images": memory},
        )
    if "evaluate" in options.measure:
        cost = cost_of_evaluation(options.run, table, [500, 2000], options.rounds, resources)
        over = {f"cost over linear, by {kind}": linearity(values) for kind, values in cost.items()}
        yield f"evaluate, {precision}", over | cost


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000, help="default 2000")
    parser.add_argument("--batch-size", type=int, default=20, help="default 20")
    parser.add_argument("--rounds", type=int, default=3, help="of evaluation (default 3)")
    parser.add_argument("--precision", default="32-true", help="default 32-true, as that of the commands")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--measure", nargs="+", choices=("predict", "evaluate"), default=("predict", "evaluate"))
    options = parser.parse_args()
    found = protocol.measured_before(options.json, "measured")
    for name, value in measure(options):
        found[name] = value
        print(name, value, flush=True)
        command_line = "python benchmarks/memory.py DATA --run RUN --json FILE"
        protocol.write_report(options.json, (__doc__ or "").splitlines()[0], command_line, {"measured": found})


if __name__ == "__main__":
    main()
