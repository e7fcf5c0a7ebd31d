"""Whether a classifier tells the classes apart at all."""

from dataclasses import replace

from ifam.evaluate import Evaluation
from ifam.metrics.binomial import chance_of_at_least, chance_of_at_most
from ifam.output import REMEDY
from ifam.score import GroupResult
from ifam.verdict.statement import FEW, ONE_ANSWER, TAIL, Statement, images, percent, quoted

CONSTANT = 0.95
"""share of the answers from which on one class is called the only answer"""
FEWEST_OTHERS = 3
"""images of other classes; with fewer, one may as well have missed them"""


def one_answer(evaluation: Evaluation) -> Statement | None:
    """A classifier that says the same of nearly every image, and of most that are something else."""
    classes, count = evaluation.classes, evaluation.num_samples
    name = max(classes, key=lambda name: classes[name].answers, default=None)
    if name is None or count < FEW:
        return None
    found = classes[name]
    others = count - found.count
    taken_for_it = found.answers - round((found.accuracy or 0) * found.count)
    if found.answers < CONSTANT * count or others < FEWEST_OTHERS or 2 * taken_for_it <= others:
        return None
    auc = ", choosing the epoch by AUC (--set select_by=auc)" if len(classes) == 2 else ""
    return Statement(
        heading=ONE_ANSWER,
        text=f"The model answers {quoted(name)} for {found.answers:,} of {images(count, evaluation.split)}, though "
        f"only {found.count:,} are: it has not learnt to tell the classes apart, as after too short a training, too "
        "high a learning rate, or with one class far more frequent than the others.",
        kind="bad",
        next_step=f"train longer (--epochs) or with a lower --lr{auc}; ifam doctor DATA counts the classes",
    )


def accuracy(evaluation: Evaluation) -> Statement:
    """All images, against guessing and against always answering the same."""
    count, right = evaluation.num_samples, round(evaluation.accuracy * evaluation.num_samples)
    text = f"On {images(count, evaluation.split)} the model is right in {percent(evaluation.accuracy)}"
    text += _interval(evaluation)
    with_masks = evaluation.mean_kept is not None
    found = Statement(
        heading="Accuracy",
        text=f"{text}.",
        kind="good",
        next_step="ifam report RUN DATA" if with_masks else "see what answers rest on with train --method ifam",
    )
    if evaluation.not_finite:
        text = f"{text}: the scores of {evaluation.not_finite:,} are no numbers, and count as wrong."
        return replace(found, text=text, kind="bad", next_step=REMEDY)
    guess = guessing(evaluation)
    usual = max(evaluation.classes, key=lambda name: evaluation.classes[name].count, default="")
    share = evaluation.classes[usual].count / count if usual else 0.0
    if count < FEW:
        step = "evaluate on more images of each class"
        return replace(found, text=f"{text}; so few images say little.", kind="caution", next_step=step)
    if guess and chance_of_at_most(right, count, guess) < TAIL:
        text = f"{text}, worse than guessing ({percent(guess)}): it is systematically wrong, as with exchanged labels."
        step = "compare the classes of DATA with those of the training (ifam doctor DATA)"
        return replace(found, text=text, kind="bad", next_step=step)
    if guess and chance_of_at_least(right, count, guess) >= TAIL:
        text = f"{text}, no better than guessing ({percent(guess)}): it has not learnt what tells the classes apart."
        step = "train longer (--epochs), on more images, or with a larger --backbone: docs/training.md"
        return replace(found, text=text, kind="bad", next_step=step)
    if guess < share < 1 and chance_of_at_least(right, count, share) >= TAIL:
        text = f"{text}, no more than always answering {quoted(usual)} would be ({percent(share)})."
        step = "go by the AUC, or by the accuracy of each class (ifam report RUN DATA)"
        return replace(found, text=text, kind="caution", next_step=step)
    if not known_groups(evaluation):
        text = f"{text}. The data names no groups: whether a kind of image fares worse was not measured."
        step = "name groups, for a few hundred images at least: docs/data.md#groups"
        return replace(found, text=text, kind="caution", next_step=step)
    return found


def guessing(evaluation: Evaluation) -> float:
    """The accuracy of a die with a side for each class; 0 where the classes are not known."""
    return 1 / len(evaluation.classes) if len(evaluation.classes) > 1 else 0.0


def known_groups(evaluation: Evaluation) -> dict[str, GroupResult]:
    """Those that have images."""
    return {name: group for name, group in evaluation.groups.items() if group.count}


def _interval(evaluation: Evaluation) -> str:
    found = evaluation.accuracy_interval
    if found is None or found.low is None or found.high is None:
        return ""
    return f" (95 % interval {100 * found.low:.1f}–{100 * found.high:.1f} %)"
