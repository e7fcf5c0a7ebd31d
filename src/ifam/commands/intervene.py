"""``ifam intervene``."""

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ifam.commands.arguments import add_command, add_data, add_resources
from ifam.commands.inputs import load_with_parts, read_data, resources
from ifam.config import SelectBy
from ifam.console import print_study, show_progress

if TYPE_CHECKING:
    from ifam.data.table import ImageTable
    from ifam.intervene import Study
    from ifam.model.two_stage import IFAM


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "intervene",
        run,
        "find what to switch off: tried on the validation split, reported on test",
        "ifam intervene run photographs/ --json interventions.json",
    )
    command.add_argument("run_folder", metavar="RUN")
    add_data(command)
    command.add_argument(
        "--select-by",
        choices=[name for name in get_args(SelectBy) if name != "last"],
        default="auto",
        help="what is best on the validation split (default auto: worst-group accuracy, accuracy without groups)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    command.add_argument("--figure", type=Path, metavar="FILE", help="a picture: each part, and the score without it")
    command.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be read")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam intervene``."""
    from ifam.files import make_room, write_text
    from ifam.intervene import intervene

    if options.json is not None:
        make_room(options.json, suffix=".json")
    if options.figure is not None:
        make_room(options.figure)
    model, table = load_with_parts(options.run_folder), read_data(options)
    study = intervene(
        model,
        table,
        select_by=options.select_by,
        skip_unreadable=options.skip_unreadable,
        **resources(options),
        progress=show_progress("trying interventions"),
    )
    if options.json is not None:
        write_text(options.json, json.dumps(study.to_dict(), indent=1) + "\n")
    if options.figure is not None:
        _draw_parts(options, model, table, study)
    print_study(study)


def _draw_parts(options: Namespace, model: "IFAM", table: "ImageTable", study: "Study") -> None:
    from ifam.explanations.figures import picture_file
    from ifam.explanations.part_gallery import gallery_figure, part_gallery

    progress = show_progress("looking at parts")
    gallery = part_gallery(
        model, table, skip_unreadable=options.skip_unreadable, **resources(options), progress=progress
    )
    notes = study.notes() if model.num_parts > 1 else {0: "without it nothing\nwould be left"}
    with picture_file(options.figure) as temporary:
        gallery_figure(gallery, model.num_parts, notes).savefig(temporary)
