"""Runs that are made or taken, and their scores on the test split, each kept in the folder of its run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ifam import config as configuration
from ifam.benchmarks.rows import FAMILIES, Row, Settings
from ifam.benchmarks.scores import Numbers, Source
from ifam.benchmarks.suite import Benchmark
from ifam.config import TrainingConfig
from ifam.data.read import read_table
from ifam.device import pick_device
from ifam.errors import DataError, IfamError, UsageError
from ifam.files import to_json, write_text
from ifam.intervene import trials_on_validation
from ifam.interventions import Intervention, is_sure
from ifam.model.two_stage import IFAM
from ifam.storage import CONFIG, load
from ifam.training.folder import RESULT, RESUMING, check_same_data, check_same_settings
from ifam.training.run import train

Configure = Callable[[Row, Settings], TrainingConfig]
"""The configuration of a row under one of its settings, without a seed."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained model: its seed, how training went, and what it scores on test."""

    seed: int
    training: Mapping[str, Any]
    score: Numbers
    intervention: str | None = None
    """in words, where one was chosen on the validation split"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a row, or a row under interventions, over seeds."""

    slug: str
    name: str
    config: TrainingConfig
    tuning: Sequence[Mapping[str, Any]]
    """every setting tried, with its score on the validation split"""
    runs: Sequence[Run]


def measure(
    benchmark: Benchmark,
    row: Row,
    configure: Configure,
    *,
    sources: Mapping[int, Source],
    folder: Path,
    say: Callable[[str], None],
) -> Iterator[Line]:
    """The lines of a row over the seeds that ``sources`` names; what was done before is not repeated."""

    def make(config: TrainingConfig, seed: int, data: Path, run: Path) -> dict[str, Any]:
        return take_or_train(config, seed, data, run, say)

    tuning, runs, training = _runs_of(row, configure, sources, folder, make)
    first = next(iter(runs))
    config = configuration.read(_run(runs[first]) / CONFIG)  # as it was run, which may be in another precision

    def line(slug: str, name: str, fixed: Intervention | None = None, kind: str | None = None) -> Line:
        found = []
        for seed, source in runs.items():
            choice = fixed if kind is None else chosen(benchmark, source, config)[kind]
            score = scored(benchmark, source, choice, config)
            words = None if kind is None else str(choice)
            found.append(Run(seed=seed, training=training[seed], score=score, intervention=words))
        return Line(slug=slug, name=name, config=config, tuning=tuning, runs=found)

    yield line(row.slug, row.name)
    for q in row.quantiles:
        removed = Intervention(token_quantile=q)
        yield line(f"{row.slug}-q{round(100 * q)}", f"{row.name}, tokens beyond q = {q:g} removed", removed)
    for kind in row.families:
        yield line(f"{row.slug}-{kind}", f"{row.name}, {FAMILIES[kind]}", kind=kind)
    if row.intervened:
        yield line(f"{row.slug}-intervened", f"{row.name}, interventions", kind="any")


def is_measured(row: Row, configure: Configure, *, sources: Mapping[int, Source], folder: Path) -> bool:
    """Whether every run that the row needs over these seeds is complete, with these settings and on this data."""
    try:
        _runs_of(row, configure, sources, folder, take)
    except (DataError, UsageError):
        return False
    return True


Get = Callable[[TrainingConfig, int, Path, Path], dict[str, Any]]
"""The result of the run of a configuration with a seed, on data, in a folder."""


def _runs_of(
    row: Row, configure: Configure, sources: Mapping[int, Source], folder: Path, get: Get
) -> tuple[list[dict[str, Any]], dict[int, Source], dict[int, dict[str, Any]]]:
    """Every setting tried on the first seed with its score on the validation split; of the best, the runs by seed."""
    first = next(iter(sources))
    tuning = []
    for number, setting in enumerate(row.tries if len(row.tries) > 1 else ()):
        tried = folder / f"{row.slug}/setting{number}-seed{first}"
        done = get(configure(row, setting), first, sources[first].data, tried)
        tuning.append({**setting, "val_score": done["selection_score"]})
    best = max(range(len(tuning)), key=lambda number: tuning[number]["val_score"]) if tuning else 0
    runs = {
        seed: replace(source, run=folder / f"{row.slug}/setting{best}-seed{seed}") for seed, source in sources.items()
    }
    chosen_config = configure(row, row.tries[best])
    return tuning, runs, {seed: get(chosen_config, seed, source.data, _run(source)) for seed, source in runs.items()}


def take_or_train(
    config: TrainingConfig, seed: int, data: Path, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """``result.json`` of a run, which is trained, or its training resumed, unless it is complete.

    Raises:
        UsageError: the folder holds a run of another configuration or on other data.
    """
    if not (folder / RESULT).is_file():
        say(f"training {folder}")
        begun = (folder / CONFIG).is_file()
        try:
            train(seeded(config, seed), read_table(data), folder, resume=begun, say=say)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"interrupted in {folder}; the same command goes on from there") from stop
        except IfamError as error:  # a benchmark resumes without being asked
            error.args = (str(error).replace(RESUMING, "the same command"),)
            raise
    return take(config, seed, data, folder)


def take(config: TrainingConfig, seed: int, data: Path, folder: Path) -> dict[str, Any]:
    """``result.json`` of a complete run.

    Raises:
        DataError: there is none.
        UsageError: the folder holds a run of another configuration or on other data.
    """
    if not (folder / RESULT).is_file():
        raise DataError(f"{folder}: expected a complete run, found no {RESULT}")
    check_same_settings(folder, seeded(config, seed))
    check_same_data(folder, read_table(data))
    result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return result


def seeded(config: TrainingConfig, seed: int) -> TrainingConfig:
    """The same run with another seed."""
    return replace(config, seed=seed)


def scored(benchmark: Benchmark, source: Source, intervention: Intervention | None, config: TrainingConfig) -> Numbers:
    """The score of the run of ``source``, from an earlier time if the data is the same."""
    wanted = intervention or Intervention()

    def work() -> Numbers:
        return benchmark.score(load(_run(source)), source, wanted, _resources(config))

    return _kept(_run(source) / "scores.json", f"{benchmark.title}: {wanted}", source, work)


def chosen(benchmark: Benchmark, source: Source, config: TrainingConfig) -> dict[str, Intervention]:
    """Of each family, the intervention that `ifam.interventions.choose` takes on the validation split.

    The AUC stands in for a worst-group AUC where the validation split has no groups, as on SIIM-ACR.
    """

    def work() -> dict[str, Any]:
        model, table = load(run), source.table()
        assert isinstance(model, IFAM)
        criterion = benchmark.select_by
        if criterion == "worst_group_auc" and all(sample.group is None for sample in table.select("val").samples):
            criterion = "auc"
        trials = trials_on_validation(model, table, select_by=criterion, **_resources(config))
        return {"select_by": criterion, "trials": [asdict(trial) for trial in trials]}

    run = _run(source)
    study = _kept(run / "interventions.json", benchmark.select_by, source, work)
    best: dict[str, Intervention] = {}
    for trial in study["trials"]:  # best first
        found = Intervention(
            remove_parts=tuple(trial["intervention"]["remove_parts"]),
            token_quantile=trial["intervention"]["token_quantile"],
        )
        if is_sure(found, trial["beats_none"]):
            for family in families_of(found):
                best.setdefault(family, found)
    return best


def _run(source: Source) -> Path:
    assert source.run is not None
    return source.run


def families_of(intervention: Intervention) -> list[str]:
    """The kinds that an intervention is one of; none at all is one of every kind."""
    removed, quantile = len(intervention.remove_parts), intervention.token_quantile
    none = intervention == Intervention()
    kinds = {
        "leave-one-out": removed <= 1 and quantile is None,
        "tokens": removed == 0,
        "both": removed <= 1,
        "any": True,
        "leave-one-out-q97": none or (removed <= 1 and quantile == 0.97),
        "leave-one-out-q99": none or (removed <= 1 and quantile == 0.99),
    }
    return [name for name, belongs in kinds.items() if belongs]


def _resources(config: TrainingConfig) -> dict[str, Any]:
    return {"precision": config.precision, "device": pick_device(config.device), "workers": config.workers}


def _kept(path: Path, key: str, source: Source, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` gave for this key and these images, from the file if it is there."""
    digest = source.digest()
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if stored.get(key, {}).get("data") != digest:
        stored[key] = {"data": digest, "found": work()}
        write_text(path, to_json(stored, indent=1) + "\n")
        stored = json.loads(path.read_text(encoding="utf-8"))  # the same plain values as at any later time
    found: dict[str, Any] = stored[key]["found"]
    return found
