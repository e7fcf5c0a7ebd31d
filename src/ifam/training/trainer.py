"""Lightning's trainer, as a run uses it."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.optim import Optimizer

from ifam.config import TrainingConfig
from ifam.device import resolve_precision
from ifam.errors import UsageError
from ifam.processes import ALONE, Processes
from ifam.training.checkpoints import WholeFiles

LoggerName = Literal["tensorboard", "wandb"]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""what AdamW remembers of a parameter"""


def make_trainer(
    config: TrainingConfig,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[Callback],
    logger: LoggerName | None,
    processes: Processes = ALONE,
) -> Trainer:
    """A trainer of one device in each process."""
    return Trainer(
        max_epochs=config.optimizer.epochs,
        accelerator=device.type,
        devices=processes.local_size if processes.several else 1 if device.index is None else [device.index],
        num_nodes=processes.size // processes.local_size,
        strategy=_strategy(config) if processes.several else "auto",
        precision=resolve_precision(config.precision, device.type),
        accumulate_grad_batches=config.optimizer.accumulate,
        gradient_clip_val=config.optimizer.gradient_clip or None,
        callbacks=list(callbacks),
        # never what Lightning would find in the environment, where a batch system leaves more than what it started
        plugins=[WholeFiles(), TorchElasticEnvironment() if processes.several else LightningEnvironment()],
        logger=_logger(logger, folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


class DividedModel(FSDPStrategy):
    """Lightning's FSDP, on CPUs too."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        # by the device, where Lightning names a GPU's number
        return FullyShardedDataParallel(
            model,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=self.root_device,
            **self.kwargs,
        )

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Of one kind at a time: torch gathers all into one buffer, and what a CPU gets are views of the last kind."""
        own: Any = {parameter: dict(state) for parameter, state in optimizer.state.items()}
        whole: dict[str, Any] = {}
        for kind in MOMENTS:
            optimizer.state.update({parameter: {kind: state[kind]} for parameter, state in own.items()})
            found = copy.deepcopy(super().optimizer_state(optimizer))
            for number, state in whole.get("state", {}).items():
                found["state"][number] |= state
            whole = found
        optimizer.state.update(own)
        return whole


def _strategy(config: TrainingConfig) -> Strategy:
    if config.strategy == "fsdp":
        # every number as it is: what is to be computed in bfloat16 autocast knows better
        return DividedModel(mixed_precision=MixedPrecision())
    # where a stage rests, or a head has no loss, not every parameter has a gradient in every step
    rests = config.optimizer.stage1_epochs > 0 or config.losses.stage1 == 0
    return DDPStrategy(find_unused_parameters=rests)


def check_processes(config: TrainingConfig, processes: Processes) -> None:
    """Refuse to divide among processes what is not enough for them."""
    if config.strategy == "fsdp" and not processes.several:
        raise UsageError("strategy: expected several processes for fsdp, got one; start them with torchrun or srun")
    if config.optimizer.batch_size < processes.size:
        raise UsageError(
            f"optimizer.batch_size: expected an image for each of {processes.size} processes, "
            f"got {config.optimizer.batch_size}"
        )


def check_logger(name: LoggerName | None) -> None:
    """Refuse a logger that is not installed."""
    try:
        if name is not None:
            version(name)
    except PackageNotFoundError as error:
        raise UsageError(f"logger: expected {name} to be installed, it is not; pip install 'ifam[{name}]'") from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's advertisements, and its advice on loaders and devices: they are chosen on purpose here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", category=UserWarning, message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", category=UserWarning, message=".*dataloader is not resumable.*")
            yield
    finally:
        logger.setLevel(level)


def end_logged_run(trainer: Trainer) -> None:
    """W&B has one run at a time in a process: the next training begins one of its own."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _logger(name: LoggerName | None, folder: Path) -> Any:
    """An extra place for the metrics; metrics.jsonl is always written."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if name == "tensorboard":
        return TensorBoardLogger(folder, name="tensorboard", version="")
    return WandbLogger(save_dir=folder, project="ifam") if name == "wandb" else False
