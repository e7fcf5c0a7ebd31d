"""``ifam train``."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ifam.commands.arguments import add_background_check, add_command, add_data
from ifam.commands.inputs import data_path, read_aloud
from ifam.commands.settings import training_config, warning_of_idle
from ifam.config import MaskGradient, MethodName, Precision, Strategy
from ifam.console import print_verdict, show_progress
from ifam.processes import started
from ifam.recipes import DEFAULT, DEFAULT_WITHOUT_DATA, RECIPES


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "train",
        run,
        "train on a data set, from image labels alone",
        "ifam train photographs/ --out run --backbone vit_small_patch14_reg4_dinov2",
    )
    add_data(command)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for the run")
    config = RECIPES[DEFAULT]("ifam")
    default = config.optimizer
    command.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help=f"configuration to start from (default {DEFAULT}; without DATA {DEFAULT_WITHOUT_DATA})",
    )
    command.add_argument("--method", choices=get_args(MethodName), help="what to train (default ifam)")
    command.add_argument(
        "--backbone",
        metavar="NAME|PATH",
        help="timm model name, or a .safetensors file that names one (default ifam-nano, which needs no network)",
    )
    command.add_argument(
        "--num-parts",
        type=int,
        metavar="K",
        help=f"foreground parts (default: the recipe's; {DEFAULT} {config.model.num_parts})",
    )
    command.add_argument(
        "--masks",
        metavar="SOURCE",
        help="of early_mask and late_mask: annotated, boxes, tokencut or a folder of PNG files (default annotated)",
    )
    command.add_argument(
        "--image-size", type=int, metavar="N", help="pixels (default: the recipe's, else that of the data)"
    )
    command.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help=f"passes over the training images (default: the recipe's; {DEFAULT} {default.epochs})",
    )
    command.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"images per batch, of all processes (default: the recipe's; {DEFAULT} {default.batch_size})",
    )
    command.add_argument(
        "--lr",
        type=float,
        metavar="X",
        help=f"learning rate of the stage-2 transformer (default: the recipe's; {DEFAULT} {default.lr_stage2:g})",
    )
    command.add_argument("--device", metavar="D", help="auto, cpu, cuda, mps (default auto)")
    command.add_argument(
        "--strategy",
        choices=get_args(Strategy),
        help="of the processes that torchrun or srun starts: whole models, or a divided one (default ddp)",
    )
    command.add_argument(
        "--precision", choices=get_args(Precision), help="auto: bfloat16 where fast (default: the recipe's)"
    )
    command.add_argument("--workers", type=int, metavar="N", help=f"loader processes (default {config.workers})")
    command.add_argument("--seed", type=int, metavar="N", help="of splits, weights and views (default 0)")
    command.add_argument(
        "--split-by",
        metavar="COLUMN|folder",
        help="keep together in the splits that are made: images with one value in this column of the table, or in one "
        "folder below the class, as of one patient",
    )
    command.add_argument(
        "--mask-gradient",
        choices=get_args(MaskGradient),
        help=f"gradient of the stage-2 loss into stage 1 (default {config.model.mask_gradient})",
    )
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. losses.entropy=0.5")
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML file to start from instead of a recipe")
    command.add_argument(
        "--skip-unreadable", action="store_true", default=None, help="go on without images that cannot be read"
    )
    command.add_argument("--logger", choices=("tensorboard", "wandb"), help="write there too (needs the extra)")
    add_background_check(command)
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint of RUN")


def run(options: Namespace) -> None:
    """``ifam train``."""
    config = training_config(options)
    from ifam.training.run import train
    from ifam.training.verdict import judge_run

    if (idle := warning_of_idle(config, options)) and started().is_first:
        print(idle, file=sys.stderr)
    path = data_path(options)
    table = read_aloud(path)
    result = train(config, table, options.out, resume=options.resume, logger=options.logger)
    if not started().is_first:
        return
    print(f"best epoch {result.best_epoch + 1}, validation score {result.selection_score:.3f}, {result.seconds:.0f} s")
    progress = show_progress("judging")
    print_verdict(judge_run(result, config, check_background=options.background_check, progress=progress))
    print(f"next: {next_command(options.out, path, table.splits)}")


def next_command(run_folder: Path, path: Path, splits: Sequence[str]) -> str:
    """How to score the run on images that it was not trained on."""
    words = ["ifam", "evaluate", str(run_folder), str(path)]
    if not splits or "test" in splits:
        return shlex.join(words)
    if "val" in splits:
        return f"{shlex.join([*words, '--split', 'val'])}  # there is no test split"
    return f"{shlex.join(words[:-1])} DATA, of other images: {path} has no test split"
