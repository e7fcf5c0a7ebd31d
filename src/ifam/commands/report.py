"""``ifam report``."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_data, add_resources
from ifam.commands.inputs import data_path, load_with_parts, read_aloud, resources, split_as_run
from ifam.console import show_progress
from ifam.data.splits import SPLITS
from ifam.errors import UsageError
from ifam.files import last_name


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "report",
        run,
        "everything that is known of a run on a data set, as one HTML file for people who sign",
        "ifam report run photographs/ --out report.html",
    )
    command.add_argument("run_folder", metavar="RUN")
    add_data(command)
    command.add_argument("--out", type=Path, metavar="FILE", default=Path("report.html"), help="default report.html")
    command.add_argument("--split", choices=SPLITS, default="test", help="default test")
    command.add_argument("--keypoint-error", action="store_true", help="fitted on the training split: one more pass")
    command.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be read")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam report``."""
    from ifam.report.write import require_possible, write_report

    if options.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"out: expected a name ending in .html, got {str(options.out)!r}")
    require_possible(options.out)  # before models and data are read
    data = data_path(options, options.run_folder)
    model, as_read = load_with_parts(options.run_folder), read_aloud(data)
    report = write_report(
        model,
        split_as_run(options.run_folder, as_read),
        options.out,
        run=options.run_folder,
        data=data,
        split=options.split,
        command=_command(options),
        with_keypoint_error=options.keypoint_error,
        skip_unreadable=options.skip_unreadable,
        as_read=as_read,
        progress=show_progress,
        **resources(options),
    )
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {report.evaluation.num_samples} images, {size:.1f} MB, {report.origin.seconds:.0f} s")


def _command(options: Namespace) -> str:
    """As it can be given again, in the folder where run, data and report lie."""
    data = [] if options.data is None else [str(options.data)]
    given = [options.run_folder, *data, "--out", str(options.out)]
    words = ["ifam", "report", *map(last_name, given)]
    words += ["--split", options.split, "--batch-size", str(options.batch_size)]
    words += ["--device", options.device, "--precision", options.precision]
    words += ["--keypoint-error"] * options.keypoint_error + ["--skip-unreadable"] * options.skip_unreadable
    return shlex.join(words)
