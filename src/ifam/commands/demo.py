"""``ifam demo``."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers, "demo", run, "train on a small generated data set, offline", "ifam demo --out demo"
    )
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to write (default demo)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of data and training (default 0)")


def run(options: Namespace) -> None:
    """``ifam demo``."""
    from ifam.demo import run_demo

    run_demo(options.out, seed=options.seed)
