"""The most confident wrong answers, found while a split is read."""

from collections.abc import Sequence

from torch import Tensor

from ifam.data.batch import Batch
from ifam.data.table import ImageTable
from ifam.explanations.explanation import to_photograph
from ifam.model.two_stage import IFAM
from ifam.output import Output, probabilities_of
from ifam.report.content import Mistake, Mistakes

WORST, PER_GROUP, MOST_GROUPS = 8, 2, 12
"""wrong answers shown of all images, and of each group; groups with the most confident ones first"""


class MistakeCollector:
    """Keeps the images of those that may be shown, and no others."""

    def __init__(self, model: IFAM, table: ImageTable) -> None:
        """``table``: the images of the split, aligned with the model."""
        self._model, self._table = model, table
        self._count = 0
        self._worst: list[Mistake] = []
        self._by_group: dict[str, list[Mistake]] = {}

    def add(self, batch: Batch, output: Output) -> None:
        """A batch and what the model said of it."""
        confidence, answers = probabilities_of(output).max(1)
        wrong = (answers != batch.labels).nonzero()[:, 0].tolist()
        self._count += len(wrong)
        for row in sorted(wrong, key=lambda row: -float(confidence[row])):
            group = int(batch.groups[row])
            name = self._table.group_names[group] if group >= 0 else None
            found = None if name is None else self._by_group.setdefault(name, [])
            # its group's own list is as long as all that can be shown of the group after the worst of all
            lists = [(self._worst, WORST)] + ([] if found is None else [(found, WORST + PER_GROUP)])
            needed = [(kept, most) for kept, most in lists if _enters(kept, most, float(confidence[row]))]
            if needed:
                mistake = self._mistake(batch, output, row, name, confidence[row], answers[row])
                for kept, most in needed:
                    kept.append(mistake)
                    kept.sort(key=lambda one: -one.probability)
                    del kept[most:]

    def mistakes(self) -> Mistakes:
        """Of everything that was added."""
        shown = {mistake.name for mistake in self._worst}
        left = {name: _others(found, shown) for name, found in self._by_group.items()}
        order = sorted((name for name in left if left[name]), key=lambda name: -left[name][0].probability)
        return Mistakes(
            count=self._count, worst=self._worst, by_group={name: left[name] for name in order[:MOST_GROUPS]}
        )

    def _mistake(
        self, batch: Batch, output: Output, row: int, group: str | None, confidence: Tensor, answer: Tensor
    ) -> Mistake:
        names = self._model.class_names
        return Mistake(
            name=self._table.samples[int(batch.indices[row])].name,
            truth=names[int(batch.labels[row])],
            answer=names[int(answer)],
            probability=float(confidence),
            group=group,
            kept=float(output.kept[row]),
            image=to_photograph(batch.images[row], self._model.preprocessing),
            parts=output.parts[row].cpu().numpy(),
            pixels=output.pixels[row].cpu().numpy(),
        )


def _enters(kept: Sequence[Mistake], most: int, confidence: float) -> bool:
    return len(kept) < most or confidence > kept[-1].probability


def _others(found: Sequence[Mistake], shown: set[str]) -> list[Mistake]:
    return [mistake for mistake in found if mistake.name not in shown][:PER_GROUP]
