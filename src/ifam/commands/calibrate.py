"""``ifam calibrate``."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_data, add_resources
from ifam.commands.inputs import load_with_parts, read_data, resources
from ifam.errors import UsageError


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "calibrate",
        run,
        "store the token thresholds of every part, from the training split",
        "ifam calibrate run photographs/",
    )
    command.add_argument("run_folder", metavar="RUN")
    add_data(command)
    command.add_argument("--quantiles", type=float, nargs="+", metavar="Q", help="default 0.9 0.95 0.97 0.99")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam calibrate``."""
    from ifam.calibrate import calibrate
    from ifam.config import QUANTILES
    from ifam.files import make_room
    from ifam.storage import WEIGHTS, save

    if options.run_folder.startswith("hf:"):
        raise UsageError(
            f"{options.run_folder}: expected a folder, where the thresholds are kept, got a model on a hub; get it "
            f"first: hf download {options.run_folder.removeprefix('hf:')} --local-dir model"
        )
    model = load_with_parts(options.run_folder)
    make_room(Path(options.run_folder, WEIGHTS))
    thresholds = calibrate(
        model,
        read_data(options),
        quantiles=options.quantiles or QUANTILES,
        **resources(options),
    )
    save(model, Path(options.run_folder))
    for quantile, values in thresholds.items():
        print(f"q = {quantile:g}: squared distance at most {', '.join(f'{value:.1f}' for value in values)}")
