"""Arguments that several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from ifam.config import Precision


def add_command(
    subparsers: Any, name: str, run: Callable[..., None], help: str, example: str
) -> argparse.ArgumentParser:
    """A command with its help, an example and --debug; ``run`` gets the parsed options."""
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=help, epilog=f"example: {example}"
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=lambda options: run(options))
    return command


def add_data(command: argparse.ArgumentParser) -> None:
    """DATA, which may be left out."""
    command.add_argument(
        "data",
        nargs="?",
        type=Path,
        metavar="DATA",
        help="folder, .csv or .parquet; see ifam doctor (default: scenes, a generated data set)",
    )


def add_run_and_images(command: argparse.ArgumentParser) -> None:
    """RUN and any number of IMAGES."""
    command.add_argument("run_folder", metavar="RUN")
    command.add_argument("images", nargs="*", metavar="IMAGES", help="default: the test images of scenes")


def add_interventions(command: argparse.ArgumentParser) -> None:
    """What to switch off."""
    command.add_argument("--remove-parts", type=int, nargs="+", default=[], metavar="K", help="parts to switch off")
    command.add_argument("--token-quantile", type=float, metavar="Q", help="remove tokens beyond this quantile")


def add_background_check(command: argparse.ArgumentParser) -> None:
    """Whether to measure what the background tells; the option ``background_check`` is true unless switched off."""
    command.add_argument(
        "--no-background-check",
        dest="background_check",
        action="store_false",
        help="do not measure how well the background alone tells the class (on at most 500 images)",
    )


def add_resources(command: argparse.ArgumentParser) -> None:
    """How much of the machine to use; `ifam.commands.inputs.resources` reads them."""
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per batch (default 32)")
    command.add_argument("--workers", type=int, default=0, metavar="N", help="loader processes")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps (default auto)")
    command.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="32-true",
        help="auto: bfloat16 where fast (default 32-true)",
    )
