"""What each part contributes to the class scores of one image: Shapley values over the parts.

Parts are dropped in training, so that every coalition of them is an input that stage 2 knows: nothing has to be filled
in where a part is missing. With P parts in the image all 2^P coalitions are asked, in packed batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifam.errors import UsageError
from ifam.explanations.shapley_figure import ShapleyBars, shapley_figure
from ifam.model.pixels import foreground_margin
from ifam.model.two_stage import IFAM
from ifam.output import Selection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT_UP_TO = 10
"""parts in the image: 1,024 coalitions"""
PERMUTATIONS = 128
"""orders of the parts that are drawn beyond, each with its reverse"""
PACKED_TOKENS = 2**15
"""of all coalitions that stage 2 answers at a time"""

Game = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
"""coalitions (n, P) to the class scores (n, C) that each of them reaches"""


@dataclass(frozen=True, kw_only=True)
class ShapleyValues:
    """Contributions of the K parts to the C logits: they sum to ``everything`` − ``nothing`` for each class."""

    values: NDArray[np.float64]
    """(K, C); 0 for a part that the image does not have"""
    standard_error: NDArray[np.float64]
    """(K, C); 0 where all coalitions were asked"""
    everything: NDArray[np.float64]
    """(C,) logits of all parts together: those of the prediction"""
    nothing: NDArray[np.float64]
    """(C,) logits with no part at all"""
    is_exact: bool

    def in_favour_of(self, index: int) -> "Favour":
        """What each part says for one class rather than the others: its logit minus the mean of all logits.

        Probabilities depend on nothing else of the logits; what raises all of them alike is 0 here.
        """
        error = self.standard_error / self.values.shape[1]
        return Favour(
            values=self.values[:, index] - self.values.mean(1),
            # the errors of the logits are not independent: this is what they add up to at worst
            standard_error=self.standard_error[:, index] + error.sum(1) - 2 * error[:, index],
            everything=float(self.everything[index] - self.everything.mean()),
            nothing=float(self.nothing[index] - self.nothing.mean()),
        )

    def plot(self, index: int | None = None, title: str = "") -> "Figure":
        """Bars, one for each part, in favour of a class, that of the prediction if None; see `in_favour_of`."""
        favour = self.in_favour_of(int(self.everything.argmax()) if index is None else index)
        error = None if self.is_exact else 1.96 * favour.standard_error
        return shapley_figure([ShapleyBars(title=title, values=favour.values, error=error)])


@dataclass(frozen=True, kw_only=True)
class Favour:
    """What speaks for one class rather than the others; ``values`` sum to ``everything`` − ``nothing``."""

    values: NDArray[np.float64]
    """(K,)"""
    standard_error: NDArray[np.float64]
    """(K,) at most, from drawing orders; 0 where exact"""
    everything: float
    nothing: float


@torch.inference_mode()
def shapley_values(
    model: IFAM, view: Tensor, parts: Tensor, part_logits: Tensor | None = None, *, seed: int = 0
) -> ShapleyValues:
    """Shapley values of one image's parts, exact for up to `EXACT_UP_TO` of them, else from drawn orders.

    ``view``: (1, 3, H, W), normalised; ``parts``: (1, h, w), the part of each token, K for background or removed;
    ``part_logits``: (1, K+1, h, w), which a model needs that takes its evidence in pixels.

    Raises:
        UsageError: a model whose prediction does not rest on its mask alone, or no logits of the parts.
    """
    if not model.is_faithful:
        raise UsageError(
            "shapley: expected a model whose stage 2 sees selected tokens only, got soft masks or no stage 2"
        )
    if model.evidence == "pixels" and part_logits is None:
        raise UsageError("shapley: expected the logits of the parts, in which evidence in pixels ends, got none")
    present = [part for part in range(model.num_parts) if bool((parts == part).any())]
    masks_Phw = torch.stack([parts[0] == part for part in present]) if present else parts.new_zeros(0, *parts.shape[1:])
    tokens = model.stage1.num_prefix_tokens + int((parts < model.num_parts).sum())
    at_a_time = max(1, PACKED_TOKENS // tokens)

    known: dict[bytes, NDArray[np.float64]] = {}  # each coalition is asked once: its answer is then the same everywhere

    def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        new = {row.tobytes(): row for row in coalitions if row.tobytes() not in known}
        rows = list(new.values())
        for start in range(0, len(rows), at_a_time):
            some = torch.from_numpy(np.stack(rows[start : start + at_a_time])).to(view.device)
            masks = (some[:, :, None, None] & masks_Phw).any(1)
            pixels = (
                None if part_logits is None else _pixels_of_coalitions(model, view, masks, some, present, part_logits)
            )
            answers = model.classify_each(view, masks[None], pixels)[0].double().cpu().numpy()
            known.update(zip(list(new)[start : start + at_a_time], answers, strict=True))
        return np.stack([known[row.tobytes()] for row in coalitions])

    exact = len(present) <= EXACT_UP_TO
    ends = game(np.stack([np.zeros(len(present), bool), np.ones(len(present), bool)]))
    found, error = exact_values(game, len(present)) if exact else drawn_values(game, len(present), PERMUTATIONS, seed)
    values, standard_error = np.zeros((2, model.num_parts, ends.shape[1]))
    values[present], standard_error[present] = found, error
    return ShapleyValues(
        values=values, standard_error=standard_error, everything=ends[1], nothing=ends[0], is_exact=exact
    )


def _pixels_of_coalitions(
    model: IFAM, view: Tensor, masks: Tensor, members: Tensor, present: Sequence[int], part_logits: Tensor
) -> Tensor:
    """What stage 2 reads when only the members among the ``present`` parts are there: (1, M, H, W) bool.

    ``masks``: (M, h, w) bool; ``members``: (M, P) bool.
    """
    survives = torch.zeros(len(members), model.num_parts, dtype=torch.bool, device=members.device)
    survives[:, list(present)] = members
    own = foreground_margin(part_logits.expand(len(members), -1, -1, -1), survives)
    own = torch.where(masks, own, -own.abs())
    selection = Selection(parts=masks.long(), mask=masks, weights=masks.float(), margin=own)
    return model.evidence_pixels(selection, (view.shape[2], view.shape[3]))[None]


def exact_values(game: Game, players: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """φ_k = Σ_{S without k} |S|! (P − |S| − 1)! / P! · (v(S ∪ k) − v(S)): (P, C), and its error, which is 0."""
    codes = np.arange(2**players)
    members = (codes[:, None] >> np.arange(players)) & 1 == 1  # (2^P, P)
    scores, sizes = game(members), members.sum(1)
    weights = np.array([factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)])
    values = np.zeros((players, scores.shape[1]))
    for k in range(players):
        without = codes[~members[:, k]]
        values[k] = weights[sizes[without]] @ (scores[without | 1 << k] - scores[without])
    return values, np.zeros_like(values)


def drawn_values(
    game: Game, players: int, permutations: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean gain of each player when it joins in a random order, and the standard error of that mean: (P, C) each.

    Every order is used forwards and backwards, which lowers the variance; each sums to v(all) − v(none) by itself.
    """
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(permutations):
        order = generator.permutation(players)
        pairs.append((_gains(game, order) + _gains(game, order[::-1])) / 2)
    gains = np.stack(pairs)
    return gains.mean(0), gains.std(0, ddof=1) / np.sqrt(permutations)


def _gains(game: Game, order: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """What each player adds when all join in this order: (P, C)."""
    steps = np.zeros((len(order) + 1, len(order)), bool)
    for number, player in enumerate(order, start=1):
        steps[number:, player] = True
    added = np.diff(game(steps), axis=0)
    gains = np.empty_like(added)
    gains[np.asarray(order)] = added
    return gains
