"""What an exported file costs in right answers, on photographs whose classes are known."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ifam.data.batch import reading_all, require_readable
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.exporting.comparison import Exported
from ifam.exporting.graphs import make_graph
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.output import Output


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """Model and file on the same images, everything switched on."""

    split: str
    images: int
    accuracy: float
    """of the model, in 0–1"""
    file_accuracy: float
    answers_changed: int
    logit_difference: float
    """the largest"""
    tokens: int
    moved: int
    """tokens that got another part"""


@torch.inference_mode()
@reading_all()
def accuracy_change(
    model: Classifier,
    exported: Exported,
    table: ImageTable,
    *,
    split: str = "test",
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AccuracyChange:
    """Run both over a split.

    Raises:
        UsageError: a model of given masks, which the file does not find.
        DataError: classes that the model does not know, no such split, or an unreadable image.
    """
    check_scorable(model)
    graph, table = make_graph(model), table.align(model.class_names).select(split)
    data = ImageDataModule.at_test_time(table, model.preprocessing, batch_size=batch_size)
    seen = right = file_right = changed = tokens = moved = 0
    difference = 0.0
    for batch in data.loader(split):
        require_readable(batch, skip_unreadable=False)
        inputs = graph.everything(batch.images)
        expected, found = graph.model(batch.images), exported(*inputs)
        answers, file_answers = expected.logits.argmax(1), found["logits"].argmax(1)
        seen += len(batch)
        right += int((answers == batch.labels).sum())
        file_right += int((file_answers == batch.labels).sum())
        changed += int((answers != file_answers).sum())
        difference = max(difference, float((expected.logits - found["logits"]).abs().amax()))
        if isinstance(expected, Output):
            tokens += expected.parts.numel()
            moved += int((expected.parts != found["parts"]).sum())
        progress(seen, len(table))
    return AccuracyChange(
        split=split,
        images=seen,
        accuracy=right / seen,
        file_accuracy=file_right / seen,
        answers_changed=changed,
        logit_difference=difference,
        tokens=tokens,
        moved=moved,
    )


def check_scorable(model: Classifier) -> None:
    """Refuse a model whose file needs more than photographs.

    Raises:
        UsageError: see above.
    """
    if isinstance(model, MaskedClassifier):
        raise UsageError("data: expected a model that needs no masks from elsewhere, got one that does")
