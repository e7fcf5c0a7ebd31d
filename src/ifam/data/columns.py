"""The columns of a table by their names, as people and programs spell them."""

import re
from collections.abc import Sequence
from pathlib import Path

from ifam.errors import DataError
from ifam.files import listed


def find_columns(
    path: Path, header: Sequence[str], *, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, int]:
    """Where each wanted column is; an optional one that is not there is left out.

    Capital letters do not count, nor spaces around a name; within it, a space or a hyphen is as good as an underscore.

    Raises:
        DataError: a required column is missing, or two columns may be meant.
    """
    places: dict[str, list[int]] = {name: [] for name in (*required, *optional)}
    spelt = {plain_name(name): name for name in places}
    for index, column in enumerate(header):
        if (name := spelt.get(plain_name(column))) is not None:
            places[name].append(index)
    missing = [name for name in required if not places[name]]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(required)}, got {listed(header)}; add {', '.join(missing)}"
        )
    for name, found in places.items():
        if len(found) > 1:
            came = ", ".join(repr(header[index]) for index in found[:4])
            raise DataError(
                f"{path}: expected one column {name}, got {len(found)} ({came}); rename or remove the others"
            )
    return {name: found[0] for name, found in places.items() if found}


def plain_name(column: str) -> str:
    """A column's name without what does not count in it."""
    return re.sub(r"[\s-]+", "_", column.strip()).casefold()
