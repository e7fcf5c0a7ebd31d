"""``ifam predict``."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_interventions, add_resources, add_run_and_images
from ifam.commands.inputs import images_or_scenes, resources
from ifam.console import print_row, print_sharded, report_progress, show_progress
from ifam.errors import CheckpointError, DataError, OutputError, UnavailableError, UsageError
from ifam.files import listed, printable
from ifam.processes import started

SHARD_SIZE = 5000
GO_ON = "the same command goes on from the shards in"
UNLESS = ", and with --skip-unreadable without them"


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
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE|DIR",
        help=".parquet or .jsonl; or a folder for shards, with which the same command goes on (default: the screen)",
    )
    command.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help=f"images in a shard (default {SHARD_SIZE}; a tar file is always one)",
    )
    command.add_argument("--overlays", type=Path, metavar="DIR", help="pictures of the parts over the photographs")
    command.add_argument("--min-kept", type=float, default=0.0, metavar="X", help="abstain below this share of tokens")
    command.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="with --out DIR: files that are gone or cannot be read now become rows as damaged ones do, for good",
    )
    add_interventions(command)
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam predict``."""
    if options.out is not None and is_folder(options.out):
        to_folder(options)
    elif options.shard_size is not None:
        raise UsageError("shard size: expected with --out DIR alone, which holds the shards, got it without")
    elif options.skip_unreadable:
        raise UsageError("skip unreadable: expected with --out DIR alone, since others go on in any case; leave it out")
    else:
        to_file_or_screen(options)


def is_folder(out: Path) -> bool:
    """Whether predictions become shards: a name without a suffix, or that of a folder."""
    return out.suffix not in (".parquet", ".jsonl") and (out.is_dir() or not out.suffix)


def to_folder(options: Namespace) -> None:
    """Shards in a folder, which may be there in part."""
    from ifam.output import REMEDY
    from ifam.predict import NOT_FINITE, PredictionSettings
    from ifam.sharding.run import predict_shards
    from ifam.storage import load

    if options.overlays is not None:
        raise UsageError("overlays: expected none beside shards in a folder, got both; draw them of a few images")
    if not options.images:
        raise UsageError("images: expected folders, files, globs or tar files to predict into a folder, got none")
    machine = resources(options)
    settings = PredictionSettings(
        min_kept=options.min_kept,
        remove_parts=options.remove_parts,
        token_quantile=options.token_quantile,
        precision=machine.pop("precision"),
    )
    try:
        found = predict_shards(
            load(options.run_folder),
            options.images,
            options.out,
            settings=settings,
            shard_size=SHARD_SIZE if options.shard_size is None else options.shard_size,
            processes=started(talking=False),
            skip_unreadable=options.skip_unreadable,
            **machine,
            progress=report_progress("predicting"),
        )
    except UnavailableError as error:
        raise UnavailableError(f"{error}; {GO_ON} {options.out} when they are there again{UNLESS}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {GO_ON} {options.out}") from None
    print_sharded(found, options.out)
    if found.statuses is not None and not sum(found.statuses.values()):
        raise DataError(f"{options.out}: expected images, got tar files of none")
    # a few broken images are no failure of a large set, which a batch system would repeat
    if found.statuses is not None and set(found.statuses) == {"unreadable"}:
        raise DataError(f"{options.out}: expected images, got none that could be read; see the column message")
    if found.statuses is not None and NOT_FINITE in found.statuses:
        raise CheckpointError(
            f"{options.out}: expected finite scores of the classes, got NaN or infinity for "
            f"{found.statuses[NOT_FINITE]} of {sum(found.statuses.values())} images (not finite); {REMEDY}"
        )


def to_file_or_screen(options: Namespace) -> None:
    """One file, or a line for each image."""
    from contextlib import ExitStack

    from ifam.data.find import images_at
    from ifam.output import REMEDY
    from ifam.predict import NOT_FINITE, UNREADABLE, predict, writer
    from ifam.storage import load

    if started(talking=False).several:
        raise UsageError("out: expected a folder, which several processes can share, got none; add --out DIR")
    files = images_or_scenes(options, tars=True)
    paths = [image for path in files for image in images_at(path)]
    if not paths:
        raise DataError(
            f"{printable(listed([str(path) for path in files], 3))}: expected images, got tar files of none"
        )
    done, unreadable, not_finite, undrawn = 0, 0, 0, None
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
        try:
            for done, row in enumerate(rows, start=1):
                write(row)
                not_finite += row.status == NOT_FINITE
                if row.status == UNREADABLE:
                    unreadable += 1
                    print(printable(row.message), file=sys.stderr)
                if options.out is not None:
                    progress(done, len(paths))
        except OutputError as error:
            if done < len(paths):
                raise
            undrawn = error  # of the pictures alone: the rows are complete
    if options.out is not None:
        failed = f" and {unreadable} rows of images that could not be read" if unreadable else ""
        failed += f" and {not_finite} rows without an answer" if not_finite else ""
        print(f"{len(paths) - unreadable - not_finite} predictions{failed} in {options.out}")
    if undrawn is not None:
        raise undrawn
    if unreadable:
        rest = "the others are predicted" if unreadable < len(paths) else "replace them"
        raise DataError(f"{unreadable} of {len(paths)} images could not be read, see above; {rest}")
    if not_finite:
        raise CheckpointError(
            f"{options.run_folder}: expected finite scores of the classes, got NaN or infinity for {not_finite} of "
            f"{len(paths)} images (not finite); {REMEDY}"
        )
