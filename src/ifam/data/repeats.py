"""Images that a table lists in several rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

_SHOWN = 5


def refuse_two_splits(file: Path, samples: Sequence[Sample]) -> None:
    """Refuse a table that lists an image in two splits; ``samples``: of its rows, in their order.

    Raises:
        DataError: see above; it names the rows.
    """
    twice = [rows for rows in _repeated(samples) if len({samples[row].split for row in rows}) > 1]
    if twice:
        said = _said(samples, twice, [str(sample.split) for sample in samples])
        raise DataError(f"{file}: expected each image in one split, got {said}; take the rows out of one of them")


def two_labels(table: ImageTable) -> str:
    """The images that the table has listed under two labels, with their rows; empty where there are none."""
    twice = [rows for rows in _repeated(table.samples) if len({table.samples[row].label for row in rows}) > 1]
    labels = [table.class_names[sample.label] for sample in table.samples] if twice else []
    return _said(table.samples, twice, labels) if twice else ""


def refuse_two_labels(table: ImageTable) -> None:
    """Refuse to train on a table that lists an image under two labels.

    Raises:
        DataError: see above; it names the rows.
    """
    if said := two_labels(table):
        where = table.listed_in or table.root
        raise DataError(f"{where}: expected one label for each image, got two for {said}; correct the rows")


def _repeated(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """The positions of each image that comes more than once."""
    positions: dict[str, list[int]] = {}
    for position, sample in enumerate(samples):
        positions.setdefault(sample.name, []).append(position)
    return (found for found in positions.values() if len(found) > 1)


def _said(samples: Sequence[Sample], twice: Sequence[Sequence[int]], values: Sequence[str]) -> str:
    """How many images, and of the first ones the rows with what each says."""
    shown = "; ".join(
        f"{samples[rows[0]].name} in rows {', '.join(f'{row + 1} ({values[row]})' for row in rows)}"
        for rows in twice[:_SHOWN]
    )
    more = f"; and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
    return f"{len(twice)} image{'' if len(twice) == 1 else 's'}: {shown}{more}"
