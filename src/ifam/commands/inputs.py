"""What commands read: data, runs and images."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam.console import show_progress
from ifam.device import pick_device
from ifam.errors import UsageError
from ifam.files import listed, printable
from ifam.processes import started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ifam.data.account import Account
    from ifam.data.table import ImageTable
    from ifam.model.two_stage import IFAM


def data_path(options: Namespace, run_folder: str | None = None) -> Path:
    """DATA, or the generated data set where none is given, see `scenes_path`."""
    if options.data is None:
        return scenes_path(run_folder)
    say_what_is_left_out([options.data])
    return Path(options.data)


def say_what_is_left_out(folders: "Sequence[str | Path]") -> None:
    """A line for each folder that holds a table by which it is not read."""
    from ifam.data.read import tables_left_out

    for folder in folders:
        left_out = tables_left_out(Path(folder))
        if left_out and started().is_first:
            names = listed([path.name for path in left_out], 5)
            line = f"{folder}: its folders and images are read, not {names}; to go by a table, name the table"
            print(printable(line), file=sys.stderr)


def scenes_path(run_folder: str | None = None) -> Path:
    """The generated data set, drawn where it is not there yet.

    Raises:
        UsageError: RUN was trained on other data.
    """
    from ifam.scenes.creatures import CLASSES
    from ifam.scenes.dataset import cached_scenes
    from ifam.storage import trained_classes

    classes = run_folder and trained_classes(run_folder)
    if classes and set(classes) != set(CLASSES):
        raise UsageError(
            f"{run_folder}: expected data of its classes ({listed(classes, 5)}), got none, "
            "which means the generated scenes; name a folder of photographs"
        )
    path = cached_scenes(progress=show_progress("drawing scenes"))
    print(f"no DATA given: {path}, the generated data set scenes", file=sys.stderr)
    return path


def read_data(options: Namespace) -> "ImageTable":
    """DATA, as RUN knows it."""
    return table_of_run(options.run_folder, data_path(options, options.run_folder))


def table_of_run(run_folder: str, path: Path) -> "ImageTable":
    """The data set at ``path``, as RUN knows it; see `split_as_run`."""
    return split_as_run(run_folder, read_aloud(path))


def read_aloud(path: Path) -> "ImageTable":
    """The data set at ``path``, with a line for what was not simply read as one image, and for odd names."""
    from ifam.data.doubts import doubts_of_names
    from ifam.data.read import read_table

    table = read_table(path)
    say_account(path, table.account)
    if started().is_first:
        for doubt in doubts_of_names(table.class_names, table.group_names):
            print(printable(f"warning: {doubt}"), file=sys.stderr)
    return table


def say_account(what: object, account: "Account") -> None:
    """A line for what was not simply read as one image, if there is any."""
    if account and started().is_first:
        print(printable(f"{what}: {account.line()}"), file=sys.stderr)


def split_as_run(run_folder: str, table: "ImageTable") -> "ImageTable":
    """The data; where the run made splits of the same images, with these, which a line says.

    Folders that the run kept whole in its splits are no groups.
    """
    from ifam.data.known import recognise
    from ifam.data.units import FOLDER
    from ifam.storage import known_contents, known_splits, was_split_by

    if was_split_by(run_folder) == FOLDER and table.listed_in is None:
        table = table.without_groups()
    splits = known_splits(run_folder)
    if not splits:
        return table
    recognised = recognise(table, splits, known_contents(run_folder))
    if started().is_first:
        for line in recognised.lines(run_folder, table):
            print(printable(line), file=sys.stderr)
    return recognised.table


def resources(options: Namespace) -> dict[str, Any]:
    """How much of the machine a command may use, and in which precision."""
    return {
        "batch_size": options.batch_size,
        "workers": options.workers,
        "device": pick_device(options.device),
        "precision": options.precision,
    }


def load_with_parts(folder: str) -> "IFAM":
    """The two-stage model of a run; one line of error for another kind."""
    from ifam.model.two_stage import IFAM
    from ifam.storage import load

    model = load(folder)
    if not isinstance(model, IFAM):
        raise UsageError(f"{folder}: expected a model with parts, got a {type(model).__name__}, which has none")
    return model


def images_or_scenes(options: Namespace, *, tars: bool = False) -> list[Path]:
    """The images that IMAGES name, ``tars`` too; without any, the test images of the generated data set."""
    from ifam.data.find import TARS_AND_IMAGES, ImageSearch
    from ifam.data.suffixes import IMAGE_SUFFIXES

    if options.images:
        say_what_is_left_out(options.images)
        search = ImageSearch(options.images, TARS_AND_IMAGES if tars else IMAGE_SUFFIXES)
        images = list(search)
        say_account(listed(options.images, 2), search.account)
        return images
    from ifam.data.read import read_table

    return [sample.path for sample in read_table(scenes_path(options.run_folder)).select("test").samples]
