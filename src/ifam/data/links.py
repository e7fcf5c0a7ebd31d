"""Links in the files that a table lists, which are followed wherever they lead, and counted."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ifam.data.account import Account, Entry, Fate, account_of
from ifam.data.walk import LEAVING, WITHIN


def linked(root: Path, paths: Iterable[Path]) -> Account:
    """How many of the files in ``root`` are links or lie below one, by the folder that they are found in."""
    counts: dict[str, dict[str, int]] = {WITHIN: {}, LEAVING: {}}
    resolved = cache(os.path.realpath)
    home = os.path.realpath(root)
    for path in paths:
        folder, name = os.path.split(path)
        is_link = os.path.islink(path)
        found = os.path.realpath(path) if is_link else os.path.join(resolved(folder or os.curdir), name)
        if is_link or found != os.path.join(home, os.path.relpath(path, root)):
            reason = WITHIN if os.path.commonpath([home, found]) == home else LEAVING
            kind = Path(folder).relative_to(root).as_posix()
            counts[reason][kind] = counts[reason].get(kind, 0) + 1
    return account_of(Entry(fate=Fate.LINKED, reason=reason, counts=kinds) for reason, kinds in counts.items())
