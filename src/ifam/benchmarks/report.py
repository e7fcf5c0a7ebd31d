"""A table as JSON and as Markdown: mean and range over seeds, counts, and the paper's numbers beside ours."""

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from ifam import config as configuration
from ifam.benchmarks.measure import Line
from ifam.benchmarks.paper import PAPER
from ifam.benchmarks.suite import Benchmark
from ifam.files import last_name


def to_json(name: str, benchmark: Benchmark, command: str, lines: Sequence[Line]) -> dict[str, Any]:
    """Everything that was measured, with its circumstances."""
    return {
        "benchmark": name,
        "title": benchmark.title,
        "command": command,
        "circumstances": circumstances(),
        "lines": [
            {
                "slug": line.slug,
                "name": line.name,
                "test": {column: spread(line, column) for column in benchmark.columns},
                "paper": PAPER.get(name, {}).get(line.slug),
                "interventions": [run.intervention for run in line.runs if run.intervention is not None],
                "tuning": list(line.tuning),
                "config": recorded(line),
                "runs": [asdict(run) for run in line.runs],
            }
            for line in lines
        ],
    }


def spread(line: Line, column: str) -> dict[str, float] | None:
    """Mean, range and number of seeds; None where the data does not allow the number."""
    values = [run.score[column] for run in line.runs if run.score.get(column) is not None]
    if not values:
        return None
    return {"mean": fmean(values), "min": min(values), "max": max(values), "seeds": len(values)}


def to_markdown(name: str, benchmark: Benchmark, command: str, lines: Sequence[Line]) -> str:
    """The table, for people."""
    known = [column for column in benchmark.columns if any(spread(line, column) for line in lines)]
    paper = PAPER.get(name, {})
    published = [column for column in known if any(column in paper.get(line.slug, {}) for line in lines)]
    heads = ["method", *(benchmark.columns[column] for column in known)]
    heads += [f"paper: {benchmark.columns[column]}" for column in published]
    rows = []
    for line in lines:
        cells = [line.name, *(_cell(spread(line, column)) for column in known)]
        cells += [_number(paper.get(line.slug, {}).get(column)) for column in published]
        rows.append(cells)
    seeds = sorted({len(line.runs) for line in lines})
    images = sorted({run.score["num_samples"] for line in lines for run in line.runs})
    number = " or ".join(map(str, seeds))
    averaged = "One seed" if seeds == [1] else f"Mean (lowest–highest) over {number} seeds"
    where = circumstances()
    facts = (
        f"{averaged} on {' or '.join(f'{n:,}' for n in images)} test images. Measured "
        f"{where['date']} on {where['gpu'] or where['cpu']}, torch {where['versions']['torch']}: `{command}`"
    )
    table = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    notes = _notes(lines, benchmark.note if published else "")
    return "\n\n".join([f"# {benchmark.title}", facts, body, *notes])


def _notes(lines: Sequence[Line], about_paper: str) -> list[str]:
    """Whose the paper's numbers are, what was tried, and what was switched off."""
    notes = [about_paper] if about_paper else []
    tuned = [line for line in lines if line.tuning and not line.runs[0].intervention]
    if tuned:
        tried = [f"- {line.name}: {'; '.join(map(_setting, line.tuning))}" for line in tuned]
        notes.append("Tried on the validation split with the first seed (its score there):\n\n" + "\n".join(tried))
    switched = [line for line in lines if line.runs[0].intervention]
    if switched:
        chosen = [
            f"- {line.name}: {'; '.join(f'seed {run.seed} {run.intervention}' for run in line.runs)}"
            for line in switched
        ]
        notes.append("Interventions that the validation split chose:\n\n" + "\n".join(chosen))
    return notes


def _setting(tried: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name.split('.')[-1]} {value:g}" for name, value in tried.items() if name != "val_score")
    return f"{values} ({tried['val_score']:.3f})"


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    if found["seeds"] == 1:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ({found['min']:.3f}–{found['max']:.3f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def recorded(line: Line) -> dict[str, Any]:
    """A configuration without the paths of the machine."""
    values = configuration.to_dict(line.config)
    for name in ("backbone", "masks"):
        values["model"][name] = last_name(values["model"][name])
    return values


def circumstances() -> dict[str, Any]:
    """Hardware, versions and date."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "lightning", "ifam")},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
