"""``ifam predict``."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_interventions, add_resources, add_run_and_images
from ifam.commands.inputs import images_or_scenes, resources
from ifam.console import print_row, show_progress
from ifam.errors import DataError
from ifam.files import printable


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "predict",
        run,
        "predict files, folders and globs, with the parts that each prediction rests on",
        "ifam predict run photographs/*.jpg --out predictions.parquet --overlays pictures/",
    )
    add_run_and_images(command)
    command.add_argument("--out", type=Path, metavar="FILE", help=".parquet or .jsonl (default: a table on the screen)")
    command.add_argument("--overlays", type=Path, metavar="DIR", help="pictures of the parts over the photographs")
    command.add_argument("--min-kept", type=float, default=0.0, metavar="X", help="abstain below this share of tokens")
    add_interventions(command)
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam predict``."""
    from contextlib import ExitStack

    from ifam.predict import UNREADABLE, predict, writer
    from ifam.storage import load

    paths = images_or_scenes(options.images)
    unreadable = 0
    with ExitStack() as stack:
        write = print_row if options.out is None else stack.enter_context(writer(options.out))
        rows = predict(
            load(options.run_folder),
            paths,
            min_kept=options.min_kept,
            remove_parts=options.remove_parts,
            token_quantile=options.token_quantile,
            overlays=options.overlays,
            **resources(options),
        )
        progress = show_progress("predicting")
        for done, row in enumerate(rows, start=1):
            write(row)
            if row.status == UNREADABLE:
                unreadable += 1
                print(printable(row.message), file=sys.stderr)
            if options.out is not None:
                progress(done, len(paths))
    if options.out is not None:
        print(f"{len(paths) - unreadable} predictions in {options.out}")
    if unreadable:
        raise DataError(f"{unreadable} of {len(paths)} images could not be read, see above; the others are predicted")
