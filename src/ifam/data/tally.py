"""Counting, file by file, what an account says."""

from collections import Counter

from ifam.data.account import Account, Entry, Fate, account_of


class Tally:
    """What became of files so far; one number for each fate, reason and kind."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Fate, str], Counter[str]] = {}

    def add(self, fate: Fate, reason: str, kind: str, number: int = 1) -> None:
        """So many more files of a kind met this fate for this reason."""
        self._counts.setdefault((fate, reason), Counter())[kind] += number

    @property
    def account(self) -> Account:
        """All that was counted."""
        return account_of(
            Entry(fate=fate, reason=reason, counts=counts) for (fate, reason), counts in self._counts.items()
        )
