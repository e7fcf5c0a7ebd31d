"""One line for a folder that looks like a published layout and lacks a piece of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ifam.errors import DataError


def missing_from(root: Path, names: Sequence[str]) -> list[str]:
    """Those of the relative names that are not there."""
    return [name for name in names if not (root / name).exists()]


def incomplete(root: Path, layout: str, tree: str, came: str) -> DataError:
    """The error that shows what the folder should look like."""
    return DataError(f"{root}: expected the layout of {layout} ({tree}), got {came}; complete the folder")


@contextmanager
def showing(layout: str, tree: str) -> Iterator[None]:
    """Errors in data end with what the folder should look like."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; the layout of {layout} is {tree}") from None
