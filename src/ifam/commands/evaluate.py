"""``ifam evaluate``."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam.commands.arguments import add_background_check, add_command, add_data, add_interventions, add_resources
from ifam.commands.inputs import read_data, resources
from ifam.console import print_evaluation, print_verdict, show_progress
from ifam.data.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ifam.data.table import ImageTable


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
    add_background_check(command)
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam evaluate``."""
    from ifam.background import evaluate_with_background
    from ifam.data.imagenet9 import read_in9_mapping
    from ifam.errors import CheckpointError
    from ifam.files import listed, printable, to_json, write_text
    from ifam.output import REMEDY
    from ifam.outputs import json_with, make_room_for
    from ifam.processes import joined
    from ifam.storage import load
    from ifam.verdict import judge_model

    if options.json is not None:
        make_room_for(options.json, json_with("num_samples", "split", "accuracy"), suffix=".json")
    used = resources(options)
    table = read_data(options)
    with joined(used["device"]) as processes:
        model = load(options.run_folder)
        result, background = evaluate_with_background(
            model,
            table,
            check_background=options.background_check and options.class_map is None,
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
    verdict = judge_model(model, result, background)
    if options.json is not None:
        found = {
            "account": table.account.to_list(),
            "background": None if background is None else background.to_dict(),
            "verdict": [statement.to_dict() for statement in verdict],
        }
        write_text(options.json, to_json(result.to_dict() | found, indent=1) + "\n")
    print_evaluation(result)
    scored = table.select(options.split)
    for line in _oddities(options, table, scored):
        print(printable(line))
    counts = scored.class_counts()
    missing = [name for name, count in counts.items() if not count]
    if missing and len(missing) < len(counts):
        absent = printable(listed(missing, 10))
        print(f"warning: no image of {absent} in the {options.split} split, and no word of it above")
    print_verdict(verdict)
    if result.not_finite:
        raise CheckpointError(
            f"{options.run_folder}: expected finite scores of the classes, got NaN or infinity for {result.not_finite} "
            f"of {result.num_samples} images, which count as wrong; {REMEDY}"
        )


def _oddities(options: Namespace, table: "ImageTable", scored: "ImageTable") -> "Iterator[str]":
    """What is odd about the images that were scored."""
    from ifam.data.classes import untrained
    from ifam.data.copies import copies_of, duplicated, in_two_classes
    from ifam.storage import trained_counts

    copies = copies_of(scored.samples)
    if account := duplicated(copies, scored.class_names):
        yield account.line()
    if conflicts := in_two_classes(copies):
        yield f"warning: {conflicts}"
    trained = trained_counts(options.run_folder)
    if not trained and "train" in table.splits:
        trained = table.select("train").class_counts()
    # the groups of a class map have other names
    if trained and options.class_map is None and (line := untrained(trained, scored.class_counts())):
        yield f"warning: {line}"
