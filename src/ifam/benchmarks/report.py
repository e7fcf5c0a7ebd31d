"""A table as JSON and as Markdown: mean and range over seeds, counts, and the paper's numbers beside ours."""

import datetime
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from ifam import config as configuration
from ifam.benchmarks.measure import Line
from ifam.benchmarks.paper import MASKS_THERE, PAPER, PUBLISHED_ONLY
from ifam.benchmarks.suite import Benchmark
from ifam.files import MIB, last_name, without_folders
from ifam.outputs import DRAWN, json_with

KNOWN_WEIGHTS = {
    "vit_small_patch14_dinov2_dav2.safetensors": "the encoder of Depth-Anything-V2-Small: DINOv2 ViT-S/14 fine-tuned "
    "for depth, which may itself help to tell figure from ground",
}
"""file -> what it holds, where its name says less"""
MEASURED = re.compile(r"Measured \d{4}-\d\d-\d\d\S* on .+, torch \S+: `")
"""in the Markdown of every benchmark"""


def is_earlier(path: Path) -> bool:
    """Whether a benchmark wrote this file: JSON, Markdown or a figure."""
    is_json = json_with("benchmark", "command", "circumstances")
    with path.open("rb") as file:
        head = file.read(MIB).decode("utf-8", "ignore")
    return is_json(path) or DRAWN(path) or MEASURED.search(head) is not None


def to_json(name: str, benchmark: Benchmark, command: str, lines: Sequence[Line]) -> dict[str, Any]:
    """Everything that was measured, with its circumstances."""
    return {
        "benchmark": name,
        "title": benchmark.title,
        "command": command,
        "circumstances": circumstances(),
        "backbones": backbones(lines),
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
        "published_only": [
            {"slug": slug, "name": named, "paper": PAPER[name][slug]}
            for slug, named in PUBLISHED_ONLY.get(name, {}).items()
        ],
    }


def backbones(lines: Sequence[Line]) -> dict[str, str]:
    """Name -> what is known of its weights, empty where the name says it."""
    names = dict.fromkeys(last_name(line.config.model.backbone) for line in lines)
    return {name: KNOWN_WEIGHTS.get(name, "") for name in names}


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

    def theirs(slug: str) -> list[str]:
        masks = MASKS_THERE.get(name, {}).get(slug)
        return [_number(paper.get(slug, {}).get(column), masks) for column in published]

    rows = [[line.name, *(_cell(spread(line, column)) for column in known), *theirs(line.slug)] for line in lines]
    rows += [
        [f"{named} (published, not run here)", *("–" for _ in known), *theirs(slug)]
        for slug, named in PUBLISHED_ONLY.get(name, {}).items()
    ]
    seeds = sorted({len(line.runs) for line in lines})
    images = sorted({run.score["num_samples"] for line in lines for run in line.runs})
    number = " or ".join(map(str, seeds))
    averaged = "One seed" if seeds == [1] else f"Mean (lowest–highest) over {number} seeds"
    where = circumstances()
    facts = (
        f"{averaged} on {' or '.join(f'{n:,}' for n in images)} test images. Measured "
        f"{where['date']} on {where['gpu'] or where['cpu']}, torch {where['versions']['torch']}: `{command}`. "
        f"Backbone: {'; '.join(_weights(name, what) for name, what in backbones(lines).items())}."
    )
    table = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    notes = _notes(benchmark, lines, about_paper=bool(published))
    return "\n\n".join([f"# {benchmark.title}", facts, body, *notes])


def _weights(name: str, what: str) -> str:
    return f"`{name}`, {what}" if what else f"`{name}`"


def _notes(benchmark: Benchmark, lines: Sequence[Line], *, about_paper: bool) -> list[str]:
    """Whose the paper's numbers are, what was tried, what was not, and what was switched off."""
    notes = [benchmark.note] if about_paper and benchmark.note else []
    rows = {row.slug for row in benchmark.rows}
    plain = [line for line in lines if line.slug in rows]
    tuned = [line for line in plain if line.tuning]
    if tuned:
        tried = [f"- {line.name}: {'; '.join(map(_setting, line.tuning))}" for line in tuned]
        notes.append("Tried on the validation split with the first seed (its score there):\n\n" + "\n".join(tried))
    untuned = [line.name for line in plain if not line.tuning]
    if tuned and untuned:
        notes.append(f"Not tuned here, run at the one setting of their row: {'; '.join(untuned)}.")
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


def _number(value: float | None, masks: str | None) -> str:
    """A number of the paper; ``masks``: their source there, where it is another."""
    if value is None:
        return "–"
    return f"{value:.3f} ({masks})" if masks else f"{value:.3f}"


def recorded(line: Line) -> dict[str, Any]:
    """A configuration without the paths of the machine."""
    recorded: dict[str, Any] = without_folders(configuration.to_dict(line.config))
    return recorded


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
