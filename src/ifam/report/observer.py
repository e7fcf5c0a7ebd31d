"""All that is wanted of a split, seen in the one pass over it that the evaluation makes."""

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from ifam.data.batch import Batch
from ifam.data.table import ImageTable
from ifam.explanations.part_gallery import GalleryBuilder, part_shares
from ifam.explanations.shapley import EXACT_UP_TO, PERMUTATIONS, ShapleyValues, shapley_values
from ifam.explanations.shapley_summary import ShapleySummary, summarise_shapley
from ifam.interventions import Intervention
from ifam.metrics.accumulate import Accumulator
from ifam.model.two_stage import IFAM
from ifam.output import Output, Prediction, require_numbers
from ifam.report.mistakes import MistakeCollector
from ifam.report.samples import shapley_sample
from ifam.score import record_classes

PER_PART = 6


class SplitObserver:
    """Called with every batch; see `ifam.evaluate.Observe`.

    ``table``: the images of the split, aligned with the model. ``chosen``: what is switched off for `after`, if that
    is anything.
    """

    def __init__(self, model: IFAM, table: ImageTable, chosen: Intervention) -> None:
        self._model, self._table, self._chosen = model, table, chosen
        self.records, self.after = Accumulator(), Accumulator()
        self.gallery = GalleryBuilder(model.num_parts, model.preprocessing, PER_PART)
        self.mistakes = MistakeCollector(model, table)
        self._wanted = (
            shapley_sample(table.samples, model.num_parts, EXACT_UP_TO, PERMUTATIONS) if model.is_faithful else set()
        )
        self._shapley: list[tuple[ShapleyValues, int, int]] = []

    def __call__(self, batch: Batch, output: Prediction, values: Mapping[str, Tensor]) -> None:
        """Take what is wanted of a batch."""
        assert isinstance(output, Output)
        parts = output.parts.cpu()
        self.records.update(**values, share=part_shares(parts, self._model.num_parts))
        self.gallery.add(batch.images, parts, [self._table.samples[index].name for index in batch.indices.tolist()])
        self.mistakes.add(batch, output)
        self._ask_shapley(batch, output)
        if self._chosen != Intervention():
            self._intervene(batch, output)

    def shapley(self) -> ShapleySummary | None:
        """The averages over the images that were asked."""
        if not self._shapley:
            return None
        values, labels, groups = zip(*self._shapley, strict=True)
        return summarise_shapley(values, labels, groups, self._model.class_names, self._table.group_names)

    def _ask_shapley(self, batch: Batch, output: Output) -> None:
        for row, index in enumerate(batch.indices.tolist()):
            if index in self._wanted:
                image, parts, logits = (each[row, None] for each in (batch.images, output.parts, output.part_logits))
                found = shapley_values(self._model, image, parts, logits)
                self._shapley.append((found, int(batch.labels[row]), int(batch.groups[row])))

    def _intervene(self, batch: Batch, output: Output) -> None:
        if self._model.stage2 is None:  # late masking pools again the tokens that the output no longer holds
            answer = self._model(batch.images, **asdict(self._chosen))
            logits, kept = answer.logits, answer.kept
        else:
            selection = self._model.select(output, **asdict(self._chosen))
            logits = self._model.second_stage(batch.images, selection)
            kept = selection.mask.flatten(1).float().mean(1)
        require_numbers(Prediction(logits=logits))
        self.after.update(**record_classes(logits, batch), kept=kept)


def seen_indices(records: Accumulator) -> list[int]:
    """Rows of the split that could be read."""
    indices: list[int] = torch.as_tensor(records["index"]).tolist()
    return indices
