"""A point of a verdict, and the words that all of them share."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["good", "caution", "bad"]
KINDS: tuple[Kind, ...] = ("bad", "caution", "good")
"""most serious first"""
FEW = 10
"""images below which a share, or an interval, says little"""
TAIL = 0.025
"""probability from which down something is surely no chance"""
CLOSE = 0.05
"""a worst group within these points of all images is nothing to object to"""
NOT_MEASURED = "Not measured"
ALARM = "Background alone"
ONE_ANSWER = "One answer"
FOLLOWS = ("Accuracy", "Worst group")
"""what the same answer for all images explains"""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One point of a verdict; ``kind`` is good, caution or bad, and said in words as well."""

    heading: str
    text: str
    """what was found and its likely cause, in a sentence or two"""
    kind: Kind
    next_step: str = ""
    """a command, or where to read on"""

    def line(self) -> str:
        """All of it, as one line for the terminal."""
        return f"{self.text} Next: {self.next_step}." if self.next_step else self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def closing(statements: Sequence[Statement]) -> list[Statement]:
    """What a command ends with: the most serious statement, and another one if that too has something to object to.

    The alarm goes before others that are as serious, where it is not the first. What was not measured is no finding,
    and what follows from one answer for all images is not said beside that.
    """
    found = [one for one in statements if not one.text.startswith(NOT_MEASURED)]
    if any(one.heading == ONE_ANSWER for one in found):
        found = [one for one in found if one.heading not in FOLLOWS]
    ranked = sorted(found, key=lambda one: KINDS.index(one.kind))
    others = sorted(ranked[1:], key=lambda one: (KINDS.index(one.kind), one.heading != ALARM))
    return [*ranked[:1], *(one for one in others[:1] if one.kind != "good")]


def percent(share: float | None) -> str:
    """A share with one decimal."""
    return "–" if share is None else f"{100 * share:.1f} %"


def images(number: int, split: str = "") -> str:
    """``1 image``, ``1,582 validation images``."""
    kind = {"train": "training", "val": "validation"}.get(split, split)
    return f"{number:,} {kind}{' ' if kind else ''}image{'' if number == 1 else 's'}"


def quoted(name: str) -> str:
    """The name of a class or group, told from the words around it."""
    return f"'{name}'"
