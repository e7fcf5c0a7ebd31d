"""The photographs of an audit: each once, in an order that follows from their bytes."""

import os
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError
from ifam.files import sha256
from ifam.verify.findings import Photograph


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Photographs in the order of their hashes."""

    table: ImageTable
    facts: tuple[Photograph, ...]
    """of each row of the table"""

    def __len__(self) -> int:
        return len(self.facts)

    def take(self, rows: Sequence[int]) -> ImageTable:
        """The table of some rows, in this order; a row may be taken several times."""
        return replace(self.table, samples=tuple(self.table.samples[row] for row in rows))

    def only(self, hashes: Container[str]) -> "Photographs":
        """Those of these hashes."""
        rows = [row for row, fact in enumerate(self.facts) if fact.sha256 in hashes]
        return Photographs(table=self.take(rows), facts=tuple(self.facts[row] for row in rows))


def distinct(table: ImageTable, sample: int | None = None, *, refuse_copies: bool = True) -> Photographs:
    """The photographs of a table in the order of their hashes; at most ``sample`` of them, those with the lowest.

    Where copies are not refused, the first of them in the table counts. Every file is read once.

    Raises:
        DataError: a file that is there twice, or that cannot be read.
    """
    pairs = sorted(zip(_facts_of(table), table.samples, strict=True), key=lambda pair: pair[0].sha256)
    if refuse_copies:
        _refuse_copies([fact for fact, _ in pairs])
    once: dict[str, tuple[Photograph, Sample]] = {}
    for fact, row in pairs:
        once.setdefault(fact.sha256, (fact, replace(row, split=None)))
    chosen = list(once.values())[:sample]
    samples = tuple(row for _, row in chosen)
    return Photographs(table=replace(table, samples=samples), facts=tuple(fact for fact, _ in chosen))


def _facts_of(table: ImageTable) -> list[Photograph]:
    """Name, length and hash of every file; names are relative to the folder that holds them all.

    Raises:
        DataError: a file that cannot be read.
    """
    paths = [os.path.abspath(sample.path) for sample in table.samples]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [_fact(Path(path), Path(os.path.relpath(path, folder)).as_posix()) for path in paths]


def _fact(path: Path, name: str) -> Photograph:
    try:
        return Photograph(name=name, bytes=path.stat().st_size, sha256=sha256(path))
    except OSError as error:
        raise DataError(f"{path}: expected a photograph, got: {error.strerror}; add it or leave it out") from error


def _refuse_copies(facts: Sequence[Photograph]) -> None:
    """A copy would count as another photograph that says the same."""
    counts = Counter(fact.sha256 for fact in facts)
    copies = len(facts) - len(counts)
    if copies:
        first, second = [fact.name for fact in facts if counts[fact.sha256] > 1][:2]
        raise DataError(
            f"verify: expected every photograph once, got {copies} cop{'y' if copies == 1 else 'ies'}, the first is "
            f"{second}, which has the bytes of {first}; take the copies out"
        )
