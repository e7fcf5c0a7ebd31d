"""What is odd about the classes of a data set."""

from collections.abc import Mapping, Sequence

from ifam.files import listed

_NOTHING = frozenset({"nan", "null", "<na>", "nat"})
"""how programs write a value that is missing, in small letters"""
_SHOWN = 10


def untrained(trained: Mapping[str, int], counted: Mapping[str, int]) -> str:
    """A line about classes of images that are counted and of which none was trained on; empty where there are none.

    Both say how many images there are of each class.
    """
    names = [name for name, count in counted.items() if count and not trained.get(name)]
    images = sum(counted[name] for name in names)
    if not names:
        return ""
    can = "its" if len(names) == 1 else "their"
    return (
        f"no training image of {listed(names, _SHOWN)}: {can} {images} image{'' if images == 1 else 's'} among "
        f"{sum(counted.values())} can only count as wrong"
    )


def named_as_missing(names: Sequence[str], what: str) -> str:
    """A line about classes or groups that are called as programs write what is missing; else empty."""
    odd = [name for name in names if name.casefold() in _NOTHING]
    return f"{what} {', '.join(odd)}: read as a name; where it means a missing value, take the rows out" if odd else ""
