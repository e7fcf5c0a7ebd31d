"""A benchmark from its name to its two files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ifam.benchmarks.measure import Configure, Line, is_measured, measure, seeded
from ifam.benchmarks.report import is_earlier, to_json, to_markdown
from ifam.benchmarks.rows import Row, Settings
from ifam.benchmarks.scores import Source
from ifam.benchmarks.suite import BENCHMARKS, Benchmark
from ifam.config import TrainingConfig, override
from ifam.data.batch import reading_all
from ifam.data.given_masks import give_masks
from ifam.errors import UsageError
from ifam.files import to_json as json_text
from ifam.files import write_text
from ifam.outputs import make_room_for
from ifam.recipes import recipe


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user chose of a benchmark."""

    runs: Path
    """folder of the runs; those that exist are taken"""
    seeds: Sequence[int] = (0, 1, 2)
    methods: Sequence[str] = ()
    """slugs of the rows to run; all if empty"""
    recipe: str | None = None
    epochs: int | None = None
    changes: Settings | None = None
    """to every configuration, by dotted name, of what the rows leave open"""
    imagenet9: Path | None = None
    class_map: Path | None = None


@reading_all()
def run_benchmark(
    name: str,
    data: Path | None,
    options: Options,
    *,
    json_path: Path,
    markdown_path: Path,
    command: str,
    say: Callable[[str], None] = print,
) -> list[Line]:
    """Measure the chosen rows over every seed; both files are written anew after each, so that nothing is lost.

    Rows that were not chosen are in the files too if all of their runs are complete.

    Raises:
        UsageError: no such benchmark or row, or a run of other settings or data in the way.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name!r}")
    benchmark = BENCHMARKS[name]
    rows = chosen_rows(benchmark, options.methods)
    if json_path == markdown_path:
        raise UsageError(f"json and markdown: expected two files, got {json_path} for both")
    for path in (json_path, markdown_path):
        make_room_for(path, is_earlier)
    sources = {
        seed: Source(data=benchmark.data(data, seed), imagenet9=options.imagenet9, class_map=options.class_map)
        for seed in options.seeds
    }

    def configure(row: Row, setting: Settings) -> TrainingConfig:
        return configuration_of(benchmark, row, setting, options)

    _check(benchmark, rows, configure, sources, options)
    rows = tuple(
        row
        for row in benchmark.rows
        if row in rows or is_measured(row, configure, sources=sources, folder=options.runs)
    )
    lines: list[Line] = []
    for number, row in enumerate(rows, start=1):
        say(f"{number} of {len(rows)}: {row.name}")
        for line in measure(benchmark, row, configure, sources=sources, folder=options.runs, say=say):
            lines.append(line)
            content: dict[str, Any] = to_json(name, benchmark, command, lines)
            write_text(json_path, json_text(content, indent=1) + "\n")
            write_text(markdown_path, to_markdown(name, benchmark, command, lines) + "\n")
    return lines


def _check(
    benchmark: Benchmark, rows: Sequence[Row], configure: Configure, sources: Mapping[int, Source], options: Options
) -> None:
    """Refuse, before any work, what would fail after hours of it."""
    for row in rows:
        for setting in row.tries:
            own = ({*row.settings, *setting} & {*(options.changes or {})}) - {"model.backbone"}  # some rows are ResNets
            if own:
                raise UsageError(
                    f"set: expected what the rows leave open, got {min(own)}, which {row.slug} sets itself"
                )
            for seed in sources:
                seeded(configure(row, setting), seed)
    for source in sources.values():
        table = source.table()
        benchmark.check(source)
        for masks in {configure(row, {}).model.masks for row in rows if row.method in ("early_mask", "late_mask")}:
            give_masks(table, masks, table.splits or ("test",))


def chosen_rows(benchmark: Benchmark, slugs: Sequence[str]) -> tuple[Row, ...]:
    """The rows of these slugs, in the order of the table.

    Raises:
        UsageError: there is no such row.
    """
    known = {row.slug: row for row in benchmark.rows}
    unknown = [slug for slug in slugs if slug not in known]
    if unknown:
        raise UsageError(f"methods: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return tuple(row for row in benchmark.rows if not slugs or row.slug in slugs)


def configuration_of(benchmark: Benchmark, row: Row, setting: Settings, options: Options) -> TrainingConfig:
    """The recipe for the row's method and parts, with the user's changes, the row's, then the setting that is tried."""
    changes = {**(options.changes or {}), **row.settings, **setting}
    base = recipe(
        options.recipe or benchmark.recipe, row.method, options.epochs, num_parts=changes.get("model.num_parts")
    )
    return override(base, changes)
