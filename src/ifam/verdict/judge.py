"""The whole verdict on an evaluation."""

from collections.abc import Mapping

from ifam.background import Background
from ifam.evaluate import Evaluation
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.verdict.accuracy import accuracy, one_answer
from ifam.verdict.evidence import background_alone, evidence, on_object
from ifam.verdict.groups import worst_group
from ifam.verdict.statement import Statement


def judge(
    evaluation: Evaluation,
    *,
    training_group_sizes: Mapping[str, int],
    is_faithful: bool,
    background: Background | None = None,
) -> list[Statement]:
    """Everything that an evaluation says about a model, each with its likely cause and the next step.

    ``training_group_sizes``: as the model remembers them. ``is_faithful``: whether its mask limits what it saw.
    ``background``: None where it was not asked for.
    """
    found = [
        one_answer(evaluation),
        accuracy(evaluation),
        None if evaluation.not_finite else worst_group(evaluation, training_group_sizes),
        evidence(evaluation) if is_faithful else None,
        on_object(evaluation, is_faithful),
        None if background is None else background_alone(background, evaluation),
    ]
    return [statement for statement in found if statement is not None]


def judge_model(model: Classifier, evaluation: Evaluation, background: Background | None = None) -> list[Statement]:
    """The same, with what the evaluated model says of itself."""
    return judge(
        evaluation,
        training_group_sizes=model.training_group_sizes,
        is_faithful=isinstance(model, IFAM | MaskedClassifier) and model.is_faithful,
        background=background,
    )
