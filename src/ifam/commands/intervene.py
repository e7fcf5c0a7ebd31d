"""``ifam intervene``."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ifam.commands.arguments import add_command, add_data, add_resources
from ifam.commands.inputs import load_with_parts, read_data, resources
from ifam.config import NO_SCORES, SelectBy
from ifam.console import print_study, show_progress

if TYPE_CHECKING:
    from ifam.data.table import ImageTable
    from ifam.intervene import Study
    from ifam.model.two_stage import IFAM

SHOWN = 6
"""test images in the picture of token removal"""


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
        choices=[name for name in get_args(SelectBy) if name not in NO_SCORES],
        default="auto",
        help="what is best on the validation split (default auto: worst-group accuracy, accuracy without groups)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    command.add_argument("--figure", type=Path, metavar="FILE", help="a picture: each part, and the score without it")
    command.add_argument(
        "--token-figure", type=Path, metavar="FILE", help="a picture: test images before and after unsure tokens go"
    )
    command.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be read")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam intervene``."""
    from ifam.explanations.figures import check_picture
    from ifam.files import to_json, write_text
    from ifam.intervene import intervene
    from ifam.outputs import DRAWN, json_with, make_room_for

    if options.json is not None:
        make_room_for(options.json, json_with("trials", "chosen", "test_before"), suffix=".json")
    for path in (options.figure, options.token_figure):
        if path is not None:
            check_picture(path)
            make_room_for(path, DRAWN)
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
        write_text(options.json, to_json(study.to_dict(), indent=1) + "\n")
    if options.figure is not None:
        _draw_parts(options, model, table, study)
    if options.token_figure is not None:
        _draw_token_removal(options, model, table)
    print_study(study)


def _draw_parts(options: Namespace, model: "IFAM", table: "ImageTable", study: "Study") -> None:
    from ifam.explanations.figures import picture_file
    from ifam.explanations.part_gallery import gallery_figure, part_gallery
    from ifam.outputs import mark_of

    progress = show_progress("looking at parts")
    gallery = part_gallery(
        model, table, skip_unreadable=options.skip_unreadable, **resources(options), progress=progress
    )
    notes = study.notes() if model.num_parts > 1 else {0: "without it nothing\nwould be left"}
    with picture_file(options.figure) as temporary:
        gallery_figure(gallery, model.num_parts, notes).savefig(temporary, **mark_of(temporary))


def _draw_token_removal(options: Namespace, model: "IFAM", table: "ImageTable") -> None:
    from ifam.data.images import open_image
    from ifam.data.table import evenly_spaced
    from ifam.errors import DataError
    from ifam.explanations.figures import picture_file
    from ifam.explanations.part_grid import token_removal_figure
    from ifam.outputs import mark_of

    images = []
    for sample in evenly_spaced(table.select("test").samples, SHOWN):
        try:
            images.append(open_image(sample.path))
        except DataError:  # the study has stopped at it already, unless asked to go on
            continue
    with picture_file(options.token_figure) as temporary:
        token_removal_figure(model, images).savefig(temporary, **mark_of(temporary))
