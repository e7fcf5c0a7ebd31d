"""``ifam evaluate``."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_data, add_interventions, add_resources
from ifam.commands.inputs import read_data, resources
from ifam.console import print_evaluation, show_progress
from ifam.data.splits import SPLITS


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "evaluate",
        run,
        "score a run on a split, by group",
        "ifam evaluate run photographs/ --remove-parts 0 2",
    )
    command.add_argument("run_folder", metavar="RUN")
    add_data(command)
    command.add_argument("--split", choices=SPLITS, default="test", help="default test")
    add_interventions(command)
    command.add_argument(
        "--masks", metavar="SOURCE", help="of an early or late masking run: another source than in its training"
    )
    command.add_argument(
        "--temperature-split",
        choices=SPLITS,
        help="fit a temperature on this split, and report the calibration error with it",
    )
    command.add_argument(
        "--class-map", type=Path, metavar="FILE", help="in_to_in9.json: an ImageNet model on data of ImageNet-9"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    command.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be read")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam evaluate``."""
    from ifam.data.imagenet9 import read_in9_mapping
    from ifam.evaluate import evaluate
    from ifam.files import listed, make_room, printable, write_text
    from ifam.processes import joined
    from ifam.storage import load

    if options.json is not None:
        make_room(options.json, suffix=".json")
    used = resources(options)
    table = read_data(options)
    with joined(used["device"]) as processes:
        result = evaluate(
            load(options.run_folder),
            table,
            split=options.split,
            remove_parts=options.remove_parts,
            token_quantile=options.token_quantile,
            masks=options.masks,
            class_map=None if options.class_map is None else read_in9_mapping(options.class_map),
            temperature_split=options.temperature_split,
            **used,
            skip_unreadable=options.skip_unreadable,
            progress=show_progress("evaluating"),
            processes=processes,
        )
    if not processes.is_first:
        return
    if options.json is not None:
        write_text(options.json, json.dumps(result.to_dict(), indent=1) + "\n")
    print_evaluation(result)
    counts = table.select(options.split).class_counts()
    missing = [name for name, count in counts.items() if not count]
    if missing and len(missing) < len(counts):
        absent = printable(listed(missing, 10))
        print(f"warning: no image of {absent} in the {options.split} split, and no word of it above")
