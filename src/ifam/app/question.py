"""What is asked of one photograph: which parts are off, which threshold, or a mask painted by hand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ifam.errors import UsageError
from ifam.explanations.explanation import Explanation
from ifam.interventions import Intervention
from ifam.model.two_stage import IFAM

Cell = tuple[int, int]
"""row and column of a token"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A photograph that was encoded once, and what is switched off; every change is a new question."""

    whole: Explanation
    """the answer with nothing switched off"""
    num_parts: int
    off: frozenset[int] = frozenset()
    quantile: float | None = None
    painted: NDArray[np.bool_] | None = None
    """(h, w): by hand, in place of parts and threshold"""

    @cached_property
    def answer(self) -> Explanation:
        """What the model says; stage 1 is not run again."""
        if self.painted is not None:
            return self.whole.with_mask(self.painted)
        if not self.off and self.quantile is None:
            return self.whole
        return self.whole.without(parts=sorted(self.off), token_quantile=self.quantile)

    @property
    def on(self) -> list[int]:
        """The parts that count."""
        return [part for part in range(self.num_parts) if part not in self.off]

    def with_parts(self, on: Collection[int]) -> "Question":
        """These parts on, the others off; a painted mask is given up."""
        return replace(self, off=frozenset(range(self.num_parts)) - frozenset(on), painted=None)

    def toggled_at(self, cell: Cell) -> "Question":
        """The part at a token off if it is on, and on if it is off; the same question where there is no part."""
        self._check([cell])
        part = int(self.whole.parts[cell])
        return self if part == self.num_parts else self.with_parts(frozenset(self.on) ^ {part})

    def with_quantile(self, quantile: float | None) -> "Question":
        """Another threshold; a painted mask is given up."""
        return replace(self, quantile=quantile, painted=None)

    def with_stroke(self, cells: Sequence[Cell]) -> "Question":
        """The mask as it is, with a stroke painted in if its first token is not in the mask, and out if it is."""
        self._check(cells)
        mask = self.answer.mask.copy()
        mask[tuple(np.array(cells).T)] = not mask[cells[0]]
        return replace(self, painted=mask)

    def plain(self) -> "Question":
        """Everything as the model chose it."""
        return Question(whole=self.whole, num_parts=self.num_parts)

    def __str__(self) -> str:
        if self.painted is not None:
            return "mask painted by hand"
        if not self.off and self.quantile is None:
            return "all parts"
        return str(Intervention(remove_parts=tuple(sorted(self.off)), token_quantile=self.quantile))

    def _check(self, cells: Sequence[Cell]) -> None:
        height, width = self.whole.parts.shape
        if not cells or not all(0 <= row < height and 0 <= column < width for row, column in cells):
            raise UsageError(f"tokens: expected at least one, inside {height} × {width}, got {list(cells)[:3]}")


def quantile_levels(model: IFAM) -> list[float | None]:
    """What the threshold can be: none, then from the mildest to the strictest."""
    return [None, *sorted(model.token_thresholds, reverse=True)]
