"""Whether a kind of image fares worse, and whether the place decides."""

from collections.abc import Mapping
from dataclasses import dataclass

from ifam.data.place import class_of, place_of, usual_classes
from ifam.evaluate import Evaluation
from ifam.metrics.binomial import chance_of_at_least, chance_of_at_most
from ifam.score import GroupResult
from ifam.verdict.accuracy import guessing, known_groups
from ifam.verdict.statement import CLOSE, FEW, TAIL, Kind, Statement, images, percent, quoted


def worst_group(evaluation: Evaluation, trained_on: Mapping[str, int]) -> Statement | None:
    """The lowest of the groups that are surely worse than guessing, or else of all; None where none is known.

    ``trained_on``: training images of each group.
    """
    groups = known_groups(evaluation)
    if not groups:
        return None
    guess, tail = guessing(evaluation), TAIL / len(groups)
    worse = [name for name, group in groups.items() if _is_below(group, guess, tail)]
    lowest, name = (min(some, key=lambda name: groups[name].accuracy or 0) for some in (groups, worse or groups))
    group, gap = groups[name], evaluation.accuracy - (groups[name].accuracy or 0)
    wrong, advice = _wrong_answers(evaluation, name, trained_on), _advice(evaluation, name)
    found = (
        f"In {'its worst' if name == lowest else 'the'} group, {quoted(name)}, the model is right in "
        f"{_right(group):,} of {images(group.count)} ({percent(group.accuracy)}), {100 * abs(gap):.1f} points "
        f"{'below' if gap >= 0 else 'above'} all images"
    )

    def said(end: str, kind: Kind, step: str = advice) -> Statement:
        return Statement(heading="Worst group", text=f"{found}{end}.", kind=kind, next_step=step)

    if worse:
        why = "it probably answers by the place" if wrong.by_place else "it is systematically wrong there"
        return said(f" and worse than guessing ({percent(guess)}): {why}{wrong.words}", "bad")
    if group.count < FEW:
        kind: Kind = "good" if gap <= CLOSE else "caution"
        return said("; so few images say little", kind, f"evaluate on more images of {quoted(name)}")
    if chance_of_at_least(_right(group), group.count, guess) >= tail:
        return said(f" and no better than guessing ({percent(guess)}){wrong.words}", "bad")
    if gap <= CLOSE:
        return said("", "good", "ifam report RUN DATA")
    chance = "; with so few images that may be chance"
    return said(wrong.words if _is_below(group, evaluation.accuracy, tail) else chance, "caution")


@dataclass(frozen=True, kw_only=True)
class _WrongAnswers:
    words: str = ""
    by_place: bool = False
    """whether most of them are the class that usually stands in the place of the group"""


def _wrong_answers(evaluation: Evaluation, group: str, trained_on: Mapping[str, int]) -> _WrongAnswers:
    """What a group is taken for, of one that is named after its class."""
    classes = list(evaluation.classes)
    own = class_of(group, classes)
    wrong = {name: count for name, count in evaluation.answers.get(group, {}).items() if name != own}
    if own is None or not wrong:
        return _WrongAnswers()
    answer, total = max(wrong, key=lambda name: wrong[name]), sum(wrong.values())
    words = f"; {wrong[answer]:,} of its {total:,} wrong answers are {quoted(answer)}"
    in_place = usual_classes(trained_on, classes).get(place_of(group, own), {})
    usual = max(in_place, key=lambda name: in_place[name], default=own)
    if usual != answer or 2 * wrong[answer] <= total:
        return _WrongAnswers(words=words)
    share = 100 * in_place[usual] / sum(in_place.values())
    return _WrongAnswers(
        words=f"{words}, the class of {share:.0f} % of the training images in that place", by_place=True
    )


def _advice(evaluation: Evaluation, group: str) -> str:
    more = f"add training images of {quoted(group)}"
    if evaluation.mean_kept is None:
        return f"{more}, or train with --method ifam, which cannot see outside its mask"
    return (
        "see whether the masks of these images hold the object or the place (ifam report RUN DATA); leave such a part "
        f"out (ifam intervene RUN DATA), or {more}"
    )


def _is_below(group: GroupResult, share: float, tail: float) -> bool:
    return chance_of_at_most(_right(group), group.count, share) < tail


def _right(group: GroupResult) -> int:
    return round((group.accuracy or 0) * group.count)
