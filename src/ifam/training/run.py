"""A whole training run, from a data set to a run folder."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from PIL import Image

from ifam import config as configuration
from ifam.calibrate import calibrate
from ifam.config import FixedPrecision, Precision, TrainingConfig
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.files import write_text
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.storage import load, save_model
from ifam.training.callbacks import BestModel, MetricsFile, ProgressBar
from ifam.training.methods import make_method
from ifam.training.module import TrainingModule

XRAY_MEAN, XRAY_STD = 0.48865, 0.24621
CONFIG, METRICS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Where the best model is, and how good it was on the validation split."""

    folder: Path
    best_epoch: int
    """counted from 0"""
    selection_score: float
    """worst-group accuracy where groups are known, accuracy otherwise"""
    seconds: float


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

    ``folder`` then holds config.yaml, model.safetensors, model.json, metrics.jsonl and the last full checkpoint.

    Raises:
        UsageError: ``folder`` already holds a run, or nothing to resume.
        DataError, TrainingError: see there.
    """
    started = time.monotonic()
    _check_folder(folder, resume)
    seed_everything(config.seed, verbose=False)
    table = prepare_splits(table, config.seed)
    method = make_method(config)
    model = method.build(table.class_names)
    fit_preprocessing(model, table, config)
    model.training_group_sizes = table.select("train").group_counts()
    data = ImageDataModule(
        table,
        model.preprocessing,
        augmentation=config.augmentation,
        batch_size=config.optimizer.batch_size,
        workers=config.workers,
        seed=config.seed,
        annotations=True,
    )
    module = TrainingModule(model, method, table.group_names)
    best = BestModel(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(configuration.to_dict(config), sort_keys=False)
    write_text(folder / CONFIG, text)
    trainer = _trainer(config, folder, best, images=len(table.select("train")), logger=logger, say=say)
    with warnings.catch_warnings():
        # Lightning's advice on loaders and devices: chosen on purpose here
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", category=UserWarning, message=".*does not have many workers.*")
        trainer.fit(module, data, ckpt_path=folder / LAST if resume else None, weights_only=None)
    if best.epoch is None or best.best is None:
        raise DataError(f"{table.root}: expected validation images to choose the best epoch on, got none")
    _calibrate_best(folder, table, config)
    return TrainingResult(
        folder=folder, best_epoch=best.epoch, selection_score=best.best, seconds=time.monotonic() - started
    )


def prepare_splits(table: ImageTable, seed: int) -> ImageTable:
    """The table with a training and a validation split, made from its images where it has none."""
    if not table.splits:
        table = table.with_splits(seed=seed)
    if "train" not in table.splits:
        raise DataError(f"{table.root}: expected a train split, got {', '.join(table.splits)}; choose the folder above")
    return table if "val" in table.splits else table.with_validation(seed=seed)


def fit_preprocessing(model: Classifier, table: ImageTable, config: TrainingConfig) -> None:
    """Image size and statistics: as configured, else the images' size in whole patches, at most the backbone's own."""
    size = config.model.image_size
    if size is None:
        largest, patch = model.backbone.image_size, model.backbone.patch_size
        found = image_size_of(table)
        height, width = (
            min(most, max(1, round(pixels / side)) * side)
            for pixels, side, most in zip(found, patch, largest, strict=True)
        )
        size = (height, width)
    model.set_image_size((size, size) if isinstance(size, int) else size)
    if config.augmentation == "xray":
        model.preprocessing = replace(model.preprocessing, resize="squash", mean=(XRAY_MEAN,) * 3, std=(XRAY_STD,) * 3)


def image_size_of(table: ImageTable, sample: int = 50) -> tuple[int, int]:
    """(height, width) of the training images, from the headers of ``sample`` of them; a square where they differ."""
    samples = table.select("train").samples
    sizes = set()
    for item in samples[:: max(1, len(samples) // sample)]:
        try:
            with Image.open(item.path) as image:
                sizes.add((image.height, image.width))
        except OSError:
            continue
    if not sizes:
        raise DataError(f"{table.root}: expected images that can be read, got none among {sample} of them")
    if len(sizes) == 1:
        return sizes.pop()
    side = sorted(min(size) for size in sizes)[len(sizes) // 2]
    return side, side


def resolve_precision(precision: Precision, device: str) -> FixedPrecision:
    """What "auto" means on this machine."""
    if precision != "auto":
        return precision
    on_gpu = device != "cpu" and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return "bf16-mixed" if fast else "32-true"


def _check_folder(folder: Path, resume: bool) -> None:
    if resume and not (folder / LAST).is_file():
        raise UsageError(f"{folder}: expected a run with {LAST} to resume, found none; start it without --resume")
    if not resume and (folder / CONFIG).exists():
        raise UsageError(f"{folder}: expected a new folder, got one that holds a run; add --resume or choose another")


def _trainer(
    config: TrainingConfig,
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
        accelerator=config.device,
        devices="auto" if config.device != "cpu" else 1,
        precision=resolve_precision(config.precision, config.device),
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

    try:
        if name == "tensorboard":
            return TensorBoardLogger(folder, name="tensorboard", version="")
        return WandbLogger(save_dir=folder, project="ifam") if name == "wandb" else False
    except ModuleNotFoundError as error:
        raise UsageError(f"logger: expected {name} to be installed, it is not; pip install 'ifam[{name}]'") from error


def _calibrate_best(folder: Path, table: ImageTable, config: TrainingConfig) -> None:
    """Token thresholds of the model that was kept."""
    model = load(folder)
    if isinstance(model, IFAM):
        calibrate(model, table, workers=config.workers, batch_size=config.optimizer.batch_size)
        save_model(model, folder)
