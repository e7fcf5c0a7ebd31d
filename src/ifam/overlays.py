"""Pictures of the parts over photographs, in a folder of their own."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ifam.data.tar import ImageFile
from ifam.errors import UsageError
from ifam.files import make_room
from ifam.outputs import DRAWN, is_drawn, mark_folder, require_earlier
from ifam.temporaries import fitting, remove_leftovers

LONGEST_NAME = 230
"""bytes: with a number and .png behind it it fits where a name may have 255"""


def overlay_paths(folder: Path, images: Sequence[ImageFile]) -> list[Path]:
    """Where the picture of each file goes. The folder is made, and marked as one of pictures: it is not read as data.

    Raises:
        UsageError: a folder of photographs or one above it, where the pictures would be read as photographs later; one
            with other files; or a picture that would take the place of a file that was not drawn here.
    """
    _check_apart(folder, images)
    others = [path.name for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    if others and not is_drawn(folder):
        raise UsageError(
            f"overlays: expected a new folder, or that of earlier ones, got {folder} with {min(others)}; choose another"
        )
    paths = [folder / name for name in overlay_names(images)]
    there = set(others)
    for path in paths:
        if path.name in there:
            require_earlier(path, DRAWN)
    make_room(folder / "x.png")
    mark_folder(folder)
    remove_leftovers(folder)
    return paths


def _check_apart(folder: Path, images: Sequence[ImageFile]) -> None:
    real = folder.resolve()
    of_photographs = {Path(str(image)).parent for image in images}
    if any(real == each or real in each.parents for each in {path.resolve() for path in of_photographs}):
        raise UsageError(
            "overlays: expected another folder than that of the photographs and those above it, got "
            f"{folder}; choose one"
        )


def overlay_names(images: Sequence[ImageFile]) -> list[str]:
    """A picture name for each file: its own; where files share it, the way to it from the folder above them all.

    Numbered where that is the same as well. Names that differ in capitals only count as the same: so they are on some
    disks. Very long ones are shortened.
    """
    paths = [Path(str(image)) for image in images]
    shared = Counter(path.stem.casefold() for path in paths)
    above = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""

    def name(path: Path) -> str:
        alone = shared[path.stem.casefold()] == 1
        return fitting(path.stem if alone else "_".join(path.absolute().relative_to(above).parts), LONGEST_NAME)

    return [f"{each}.png" for each in _numbered(map(name, paths))]


def _numbered(names: Iterable[str]) -> Iterator[str]:
    """Each name, with a number behind it where one before is the same but for capitals."""
    times: Counter[str] = Counter()
    for name in names:
        free = name
        while times[free.casefold()]:
            times[name.casefold()] += 1
            free = f"{name}_{times[name.casefold()]}"
        times[free.casefold()] = 1
        yield free
