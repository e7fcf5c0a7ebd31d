"""A whole training run, from a data set to a run folder."""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from ifam import config as configuration
from ifam.calibrate import calibrate
from ifam.config import TrainingConfig
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import pick_device, resolve_precision
from ifam.errors import DataError, UsageError
from ifam.files import write_text
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.model_card import CARD, TrainingRecord, model_card
from ifam.storage import SPLITS, load, save
from ifam.training.callbacks import BestModel, MetricsFile, ProgressBar, seconds_of_sessions
from ifam.training.folder import (
    CHECKPOINTS,
    CONFIG,
    DATA,
    FIRST,
    LAST,
    METRICS,
    RESULT,
    check_folder,
    describe_data,
    how_to_go_on,
)
from ifam.training.methods import Method
from ifam.training.module import TrainingModule
from ifam.training.prepare import (
    checkpoint_activations,
    doubts,
    fit_preprocessing,
    initialise_prototypes,
    prepare_splits,
)
from ifam.training.registry import make_method


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Where the best model is, and how good it was on the validation split."""

    folder: Path
    best_epoch: int
    """counted from 0"""
    selection_score: float
    """worst-group accuracy where groups are known, accuracy otherwise"""
    seconds: float
    """of all sessions, where the run was interrupted and resumed"""


def train(
    config: TrainingConfig,
    table: ImageTable,
    folder: Path,
    *,
    resume: bool = False,
    logger: Literal["tensorboard", "wandb"] | None = None,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Train, keep the best validation epoch in ``folder``, and calibrate its token thresholds.

    ``folder`` then holds config.yaml, data.json (which data it was), model.safetensors, model.json, metrics.jsonl, the
    last full checkpoint, README.md (the model card), result.json, and splits.json where the data came without splits of
    its own.

    Raises:
        UsageError: ``folder`` already holds a run, or nothing to resume, or a run with other settings or data.
        DataError, TrainingError: see there.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the message says how to go on.
    """
    started = time.monotonic()
    method = make_method(config)
    _check_logger(logger)
    device = torch.device(pick_device(config.device))
    given, table = table, prepare_splits(table, config.seed)
    own = method.prepare(table)
    check_folder(folder, config, given, resume)
    _describe_run(folder, config, given, table)
    _run_first(method, table, folder, device, resume=resume, say=say)
    resume = resume and (folder / LAST).is_file()
    config = method.config
    seed_everything(config.seed, verbose=False)
    model = method.build(table.class_names)
    fit_preprocessing(model, table, config)
    if doubt := doubts(model):
        say(doubt)
    if not resume:
        initialise_prototypes(model, table, config, device)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    model.training_group_sizes = table.select("train").group_counts()
    table = own
    data = ImageDataModule(
        table,
        model.preprocessing,
        augmentation=config.augmentation,
        batch_size=config.optimizer.batch_size,
        workers=config.workers,
        seed=config.seed,
        annotations=True,
        draw_weights=method.draw_weights(table),
    )
    module = TrainingModule(model, method, table.group_names)
    best = BestModel(folder)
    with _quiet_lightning():
        trainer = _trainer(config, device, folder, best, images=len(table.select("train")), logger=logger, say=say)
        try:
            trainer.fit(module, data, ckpt_path=folder / LAST if resume else None, weights_only=None)
        except SystemExit as stop:  # what Lightning makes of Ctrl-C and of SIGTERM
            raise KeyboardInterrupt(how_to_go_on(folder)) from stop
    if best.epoch is None or best.best is None:
        raise DataError(f"{table.root}: expected validation images to choose the best epoch on, got none")
    model = _calibrate_best(folder, table, config)
    _write_card(folder, model, table, config, best.epoch)
    return _record_result(folder, best.epoch, best.best, time.monotonic() - started, resumed=resume)


def _run_first(
    method: Method, table: ImageTable, folder: Path, device: torch.device, *, resume: bool, say: Callable[[str], None]
) -> None:
    """The run that has to come before, of a method that trains twice; the method takes from it what it needs."""
    if method.first_run is None:
        return
    first = folder / FIRST
    say(f"first run, in {first}: {method.first_run.method}")
    train(method.first_run, table, first, resume=resume and (first / LAST).is_file(), say=say)
    found = method.follow(load(first).to(device), table)
    say(f"second run, in {folder}: {method.config.method}{'; ' if found else ''}{found}")


def _record_result(folder: Path, epoch: int, score: float, seconds: float, *, resumed: bool) -> TrainingResult:
    """``result.json``, the last file: with it the run is complete. Earlier sessions count; a complete run stays."""
    path = folder / RESULT
    if path.is_file():
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    elif resumed:
        seconds += sum(seconds_of_sessions(folder / METRICS)[:-1])
    values: dict[str, Any] = {"best_epoch": epoch, "selection_score": score, "seconds": seconds}
    write_text(path, json.dumps(values, indent=1) + "\n")
    return TrainingResult(folder=folder, **values)


def _describe_run(folder: Path, config: TrainingConfig, given: ImageTable, table: ImageTable) -> None:
    """Settings and data, and the splits where the run made them."""
    write_text(folder / CONFIG, yaml.safe_dump(configuration.to_dict(config), sort_keys=False))
    write_text(folder / DATA, json.dumps(describe_data(given), indent=1) + "\n")
    if table != given:
        write_text(folder / SPLITS, json.dumps({sample.name: sample.split for sample in table.samples}) + "\n")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's advertisements, and its advice on loaders and devices: they are chosen on purpose here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", category=UserWarning, message=".*does not have many workers.*")
            yield
    finally:
        logger.setLevel(level)


def _trainer(
    config: TrainingConfig,
    device: torch.device,
    folder: Path,
    best: BestModel,
    *,
    images: int,
    logger: str | None,
    say: Callable[[str], None],
) -> Trainer:
    callbacks: list[Callback] = [best]
    if config.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    callbacks += [
        MetricsFile(folder / METRICS),
        ProgressBar(images, say),
        ModelCheckpoint(
            folder / CHECKPOINTS, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
        ),
    ]
    return Trainer(
        max_epochs=config.optimizer.epochs,
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=resolve_precision(config.precision, device.type),
        accumulate_grad_batches=config.optimizer.accumulate,
        gradient_clip_val=config.optimizer.gradient_clip or None,
        callbacks=callbacks,
        logger=_logger(logger, folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _logger(name: str | None, folder: Path) -> Any:
    """An extra place for the metrics; metrics.jsonl is always written."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if name == "tensorboard":
        return TensorBoardLogger(folder, name="tensorboard", version="")
    return WandbLogger(save_dir=folder, project="ifam") if name == "wandb" else False


def _check_logger(name: str | None) -> None:
    try:
        if name is not None:
            version(name)
    except PackageNotFoundError as error:
        raise UsageError(f"logger: expected {name} to be installed, it is not; pip install 'ifam[{name}]'") from error


def _calibrate_best(folder: Path, table: ImageTable, config: TrainingConfig) -> Classifier:
    """The model that was kept, with its token thresholds."""
    model = load(folder)
    if isinstance(model, IFAM):
        calibrate(
            model,
            table,
            workers=config.workers,
            batch_size=config.optimizer.batch_size,
            precision=config.precision,
        )
        save(model, folder)
    return model


def _write_card(folder: Path, model: Classifier, table: ImageTable, config: TrainingConfig, epoch: int) -> None:
    """The card, with the scores of the epoch that was kept. That of a complete run stays: it may have been edited."""
    if (folder / RESULT).is_file():
        return
    lines = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    validation = next(line for line in lines if line["epoch"] == epoch)
    write_text(folder / CARD, model_card(model, TrainingRecord.of_run(config, table, validation)))
