"""``ifam doctor``."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command
from ifam.commands.inputs import say_what_is_left_out
from ifam.console import show_progress
from ifam.files import printable


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "doctor",
        run,
        "say what is understood of this machine and of a data set",
        "ifam doctor photographs/",
    )
    command.add_argument("data", nargs="?", type=Path, metavar="DATA", help="folder, .csv or .parquet")


def run(options: Namespace) -> None:
    """``ifam doctor``."""
    from ifam.doctor import diagnose_data, diagnose_machine

    for line in diagnose_machine().lines():
        print(line)
    if options.data is not None:
        from ifam.data.read import read_table

        say_what_is_left_out([options.data])
        print()
        for line in diagnose_data(read_table(options.data), progress=show_progress("reading")).lines():
            print(printable(line))
