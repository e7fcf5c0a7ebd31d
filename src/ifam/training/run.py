"""A whole training run, from a data set to a run folder."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging

from ifam import config as configuration
from ifam.calibrate import calibrate
from ifam.config import TrainingConfig
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import pick_device
from ifam.errors import DataError
from ifam.files import check_name, printable, read_json, to_json, write_text
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.model_card import CARD, TrainingRecord, model_card
from ifam.processes import Processes, joined
from ifam.storage import CONFIG, DATA, SPLITS, known_contents, known_splits, load, save
from ifam.temporaries import remove_leftovers
from ifam.training.callbacks import BestModel, MetricsFile, ProgressBar
from ifam.training.checkpoints import Checkpoints
from ifam.training.folder import (
    FIRST,
    LAST,
    LOCK,
    METRICS,
    RESULT,
    check_folder,
    describe_data,
    describe_training,
    naming_checkpoint,
    saying_how_to_go_on,
)
from ifam.training.lock import locked
from ifam.training.methods import Method
from ifam.training.module import TrainingModule
from ifam.training.prepare import (
    checkpoint_activations,
    compile_blocks,
    doubts,
    few_to_choose_by,
    fit_preprocessing,
    initialise_prototypes,
)
from ifam.training.registry import make_method
from ifam.training.splits import Prepared, prepare_splits
from ifam.training.stopping import StopRequest, listening
from ifam.training.trainer import (
    LoggerName,
    check_logger,
    check_processes,
    end_logged_run,
    make_trainer,
    quiet_lightning,
)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Where the best model is, and how good it was on the validation split."""

    folder: Path
    table: ImageTable
    """the data with the splits that it was trained on"""
    best_epoch: int
    """counted from 0"""
    selection_score: float
    """what ``TrainingConfig.select_by`` names, of the best epoch; with ``loss`` less than 0: its negative; with
    ``last`` the number of that epoch"""
    seconds: float
    """of all sessions, where the run was interrupted and resumed"""


def train(
    config: TrainingConfig,
    table: ImageTable,
    folder: Path,
    *,
    resume: bool = False,
    logger: LoggerName | None = None,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Train, keep the best validation epoch in ``folder``, and calibrate its token thresholds.

    ``folder`` then holds config.yaml, data.json (which data it was), model.safetensors, model.json, metrics.jsonl, the
    last full checkpoint, README.md (the model card), result.json, and splits.json where the data came without splits of
    its own.

    Ctrl-C and SIGTERM let the present step end, save the run and stop it; a second one stops it at once. A run that
    was killed repeats what came after its last checkpoint, with the same result to the bit on a CPU.

    Processes that torchrun or srun started share one run: all call this, with the same arguments.

    Raises:
        UsageError: ``folder`` already holds a run, or one that is going on, or nothing to resume, or a run with other
            settings or data.
        DataError, TrainingError, OutputError: see there.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the message says how to go on.
    """
    check_logger(logger)
    make_method(config)  # what it refuses, before the images are read
    check_name(folder)
    known, contents = (known_splits(folder), known_contents(folder)) if resume else ({}, {})
    prepared = prepare_splits(table, config.seed, config.split_by, known=known, contents=contents)
    return _train(config, table, prepared, folder, resume=resume, logger=logger, say=say)


def _train(
    config: TrainingConfig,
    table: ImageTable,
    prepared: Prepared,
    folder: Path,
    *,
    resume: bool,
    logger: LoggerName | None = None,
    say: Callable[[str], None],
) -> TrainingResult:
    """Of a method that trains twice, each of the runs; ``table``: the data as it was given."""
    started = time.monotonic()
    method = make_method(config)
    device = torch.device(pick_device(config.device))
    splits = prepared.table
    own = method.prepare(splits)
    with joined(device.type) as processes, listening() as stop, ExitStack() as held:
        check_processes(config, processes)
        say = say if processes.is_first else _say_nothing

        def claim() -> None:
            check_folder(folder, config, table, resume)  # before anything is made there
            held.enter_context(locked(folder / LOCK))
            check_folder(folder, config, table, resume)  # another run may have come and gone meanwhile
            _describe_run(folder, config, table, prepared)

        processes.first_alone(claim)
        for line in prepared.oddities:
            say(printable(line))
        _run_first(method, splits, folder, device, resume=resume, say=say)
        with saying_how_to_go_on(folder):
            last = folder / LAST if resume and (folder / LAST).is_file() else None
            module, data = _prepare(method, splits, own, device, processes, begun=last is not None, say=say)
            best, metrics = BestModel(folder), MetricsFile(folder / METRICS)
            shown = [metrics, ProgressBar(len(own.select("train")), say)] if processes.is_first else []
            with quiet_lightning():
                callbacks = _callbacks(method.config, folder, best, shown, stop)
                trainer = make_trainer(method.config, device, folder, callbacks, logger, processes)
                with naming_checkpoint(last, stop):
                    trainer.fit(module, data, ckpt_path=last, weights_only=None)
                end_logged_run(trainer)
            if best.epoch is None or best.best is None:
                raise DataError(f"{own.root}: expected validation images to choose the best epoch on, got none")
            if few := few_to_choose_by(own, method.config.select_by):
                say(few)
            model = _calibrate_best(folder, own, method.config, device, processes)
            seconds = metrics.earlier + time.monotonic() - started
            (values,) = processes.first_alone(lambda: _finish(folder, model, own, method.config, best, seconds))
        return TrainingResult(folder=folder, table=splits, **values)


def _prepare(
    method: Method,
    splits: ImageTable,
    own: ImageTable,
    device: torch.device,
    processes: Processes,
    *,
    begun: bool,
    say: Callable[[str], None],
) -> tuple[TrainingModule, ImageDataModule]:
    """The model in its loop, and the data as the method uses it; of a run that was begun, weights come later."""
    config = method.config
    seed_everything(config.seed, verbose=False)
    model = method.build(splits.class_names)
    for line in fit_preprocessing(model, splits, config):
        say(line)
    if doubt := doubts(model):
        say(doubt)
    if not begun:
        initialise_prototypes(model, splits, config, device)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.compile:
        compile_blocks(model)
    model.training_group_sizes = splits.select("train").group_counts()
    data = ImageDataModule(
        own,
        model.preprocessing,
        augmentation=config.augmentation,
        batch_size=config.optimizer.batch_size,
        workers=config.workers,
        seed=config.seed,
        annotations=True,
        draw_weights=method.draw_weights(own),
        processes=processes,
    )
    return TrainingModule(model, method, own.group_names, processes), data


def _callbacks(
    config: TrainingConfig,
    folder: Path,
    best: BestModel,
    shown: Sequence[Callback],
    stop: StopRequest,
) -> list[Callback]:
    """In the order in which they have to act: the average of the weights is scored and saved before it is taken out."""
    average = [] if config.ema is None else [EMAWeightAveraging(decay=config.ema)]
    checkpoints = Checkpoints(folder / LAST, minutes=config.checkpoint_minutes, stop=stop)
    return [best, *average, *shown, checkpoints]


def _run_first(
    method: Method, table: ImageTable, folder: Path, device: torch.device, *, resume: bool, say: Callable[[str], None]
) -> None:
    """The run that has to come before, of a method that trains twice; the method takes from it what it needs."""
    if method.first_run is None:
        return
    first = folder / FIRST
    say(f"first run, in {first}: {method.first_run.method}")
    prepared = Prepared(table=table, contents={}, oddities=())
    _train(method.first_run, table, prepared, first, resume=resume and (first / CONFIG).is_file(), say=say)
    with saying_how_to_go_on(folder):
        found = method.follow(load(first).to(device), table)
    say(f"second run, in {folder}: {method.config.method}{'; ' if found else ''}{found}")


def _finish(
    folder: Path, model: Classifier, table: ImageTable, config: TrainingConfig, best: BestModel, seconds: float
) -> dict[str, Any]:
    """What `TrainingResult` says in numbers, after the last files are written.

    With ``result.json``, which comes at the end, the run is complete, and keeps the time that it took.
    """
    assert best.epoch is not None
    if isinstance(model, IFAM):  # with the thresholds
        save(model, folder)
    _write_card(folder, model, table, config, best.epoch)
    path = folder / RESULT
    if path.is_file():
        seconds = read_json(path).get("seconds", seconds)
    values: dict[str, Any] = {"best_epoch": best.epoch, "selection_score": best.best, "seconds": seconds}
    write_text(path, to_json(values, indent=1) + "\n")
    return values


def _describe_run(folder: Path, config: TrainingConfig, given: ImageTable, prepared: Prepared) -> None:
    """Settings and data, and the splits where the run made them. With the settings, which come last, it has begun."""
    for place in (folder, (folder / LAST).parent):
        remove_leftovers(place)
    splits = {sample.name: sample.split for sample in prepared.table.samples}
    write_text(folder / DATA, to_json(describe_data(given) | describe_training(prepared)) + "\n")
    if splits != {sample.name: sample.split for sample in given.samples}:
        write_text(folder / SPLITS, to_json(splits) + "\n")
    write_text(folder / CONFIG, yaml.safe_dump(configuration.to_dict(config), sort_keys=False))


def _calibrate_best(
    folder: Path, table: ImageTable, config: TrainingConfig, device: torch.device, processes: Processes
) -> Classifier:
    """The model that was kept, with its token thresholds."""
    model = load(folder)
    if isinstance(model, IFAM):
        calibrate(
            model,
            table,
            workers=config.workers,
            batch_size=-(-config.optimizer.batch_size // processes.size),
            device=device,
            precision=config.precision,
            processes=processes,
        )
    return model.cpu()


def _say_nothing(line: str) -> None:
    """Of several processes the first speaks."""


def _write_card(folder: Path, model: Classifier, table: ImageTable, config: TrainingConfig, epoch: int) -> None:
    """The card, with the scores of the epoch that was kept. That of a complete run stays: it may have been edited."""
    if (folder / RESULT).is_file():
        return
    lines = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    validation = next(line for line in lines if line["epoch"] == epoch)
    write_text(folder / CARD, model_card(model, TrainingRecord.of_run(config, table, validation)))
