"""What became of the files of a data set that were not read as one image each, counted so that it can be said."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ifam.files import listed

SHOWN = 4
"""kinds that a line names for each reason"""


class Fate(StrEnum):
    """What happened to some files or names; the values are what people read."""

    LEFT_OUT = "left out"
    LINKED = "linked"
    DUPLICATED = "duplicated"
    RENAMED = "renamed"
    RESPLIT = "re-split"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Files that met one fate for one reason.

    ``reason`` completes the sentence "14 left out: ..."; ``counts`` says how many files there are of each kind, as
    suffixes, folders or names (for instance ``{".heic": 6, "no suffix": 4}``).
    """

    fate: Fate
    reason: str
    counts: Mapping[str, int]

    @property
    def count(self) -> int:
        """All files of this entry."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Account:
    """The entries of one data set; false where every file was read as one image."""

    entries: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __add__(self, other: "Account") -> "Account":
        """Both, with the counts of the same fate and reason added up."""
        return account_of((*self.entries, *other.entries))

    def count(self, fate: Fate) -> int:
        """Files that met a fate, for whatever reason."""
        return sum(entry.count for entry in self.entries if entry.fate is fate)

    def line(self) -> str:
        """One line for people, empty where there is nothing to say."""
        said = []
        for fate in Fate:
            reasons = [_reason(entry) for entry in self.entries if entry.fate is fate]
            if reasons:
                said.append(f"{fate} {self.count(fate)}: {', '.join(reasons)}")
        return "; ".join(said)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values, for JSON."""
        return [
            {"fate": str(entry.fate), "reason": entry.reason, "counts": dict(entry.counts)} for entry in self.entries
        ]


def account_of(entries: Iterable[Entry]) -> Account:
    """The account of these entries, one for each fate and reason, without those that count nothing."""
    sums: dict[tuple[Fate, str], dict[str, int]] = {}
    for entry in entries:
        counts = sums.setdefault((entry.fate, entry.reason), {})
        for kind, count in entry.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    return Account(
        tuple(
            Entry(fate=fate, reason=reason, counts=counts)
            for (fate, reason), counts in sums.items()
            if any(counts.values())
        )
    )


def _reason(entry: Entry) -> str:
    kinds = [f"{kind} {count}" for kind, count in sorted(entry.counts.items(), key=lambda item: -item[1])]
    return f"{entry.count} {entry.reason} ({listed(kinds, SHOWN)})"
