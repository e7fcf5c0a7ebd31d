"""Names of files and folders as names of classes and groups."""

import os
import unicodedata
from collections.abc import Iterable


def nfc(name: str) -> str:
    """The name in Unicode's composed form, by which names are compared.

    A Mac writes è as e and an accent, other systems as one letter; on the screen both look the same.
    """
    return unicodedata.normalize("NFC", name)


def spelt(name: str) -> str:
    r"""The name of a class or group for the name of a folder: `nfc`, and ``\xe8`` for a byte that is no UTF-8."""
    return nfc(os.fsencode(name).decode("utf-8", "backslashreplace"))


def look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Those of the names that differ from each other by case, spaces or the form of letters only."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [tuple(found) for found in alike.values() if len(found) > 1]
