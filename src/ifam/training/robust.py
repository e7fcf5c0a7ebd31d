"""Methods against shortcuts that iFAM is compared with, each on plain fine-tuning of the same network."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.config import TrainingConfig
from ifam.data.batch import Batch
from ifam.data.module import ImageDataModule
from ifam.data.splits import stratified_splits
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.evaluate import collect
from ifam.files import printable
from ifam.losses.objective import Terms
from ifam.model.base import Classifier
from ifam.preprocessing import Preprocessing
from ifam.training.methods import ParameterGroup, PlainFineTuning
from ifam.training.saliency import saliency


class GroupDRO(PlainFineTuning):
    """Group distributionally robust optimisation: the worse a group fares, the more its loss weighs.

    Source: S. Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020; groups are drawn
    equally often, as there. Needs the group of every training image.
    """

    over_batch = frozenset({"stage2"})

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.weights = torch.empty(0)

    def prepare(self, table: ImageTable) -> ImageTable:
        """Refuses data without groups."""
        require_groups(table, "train", "group_dro")
        trained = torch.tensor(list(table.select("train").group_counts().values()), dtype=torch.float64) > 0
        self.weights = trained.double() / trained.sum()  # a group that only the test split has weighs nothing
        return table

    def draw_weights(self, table: ImageTable) -> Sequence[float]:
        """Every group equally often."""
        return balanced(table)

    def losses(self, model: Any, batch: Batch, epoch: int) -> Terms:
        """The groups' mean losses under weights that follow them."""
        losses = F.cross_entropy(model(batch.images).logits.float(), batch.labels, reduction="none")
        losses, groups = batch.share.all(losses), batch.share.all(batch.groups)
        group_losses = group_means(losses, groups, len(self.weights))
        self.weights = updated_group_weights(self.weights, group_losses.detach(), self.config.robustness.group_step)
        return {"stage2": (self.weights.to(group_losses) * group_losses).sum()}

    def state(self) -> dict[str, Tensor]:
        """The weights of the groups."""
        return {"weights": self.weights}


def group_means(losses: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Mean loss of each group in a batch, 0 where it has no image. ``losses``, ``groups``: (B,); returns (G,)."""
    members = F.one_hot(groups, num_groups).to(losses.dtype)
    return (losses @ members) / members.sum(0).clamp_min(1)


def updated_group_weights(weights: Tensor, group_losses: Tensor, step: float) -> Tensor:
    """Exponentiated gradient ascent: q_g ← q_g · exp(step · loss_g), normalised. Both (G,), on the CPU."""
    grown = weights * (step * group_losses.to(weights)).exp()
    return grown / grown.sum()


class JustTrainTwice(PlainFineTuning):
    """Images that a first run still gets wrong are drawn more often in the second, which starts anew.

    Source: E. Z. Liu et al., Just Train Twice, ICML 2021. There the images are repeated, so that an epoch grows; here
    as many are drawn as there are, with replacement. The first run is short and taken as it ends, not at its best
    epoch: the worse its worst group, the more it has to say.
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        epochs = config.robustness.first_epochs or max(1, round(config.optimizer.epochs / 5))
        self.first_run = replace(plain(config, epochs), select_by="last")
        self.wrong: Tensor = torch.empty(0)

    def follow(self, first: Classifier, table: ImageTable) -> str:
        """Find the training images that it gets wrong."""
        data = ImageDataModule.at_test_time(
            table, first.preprocessing, batch_size=self.config.optimizer.batch_size, workers=self.config.workers
        )
        records = collect(
            first,
            data.loader("train"),
            interventions={},
            unreadable=[],
            precision=self.config.precision,
            skip_unreadable=self.config.skip_unreadable,
        )
        self.wrong = torch.zeros(len(table.select("train")), dtype=torch.bool)
        self.wrong[records["index"]] = records["prediction"] != records["label"]
        wrong = int(self.wrong.sum())
        alike = "" if wrong else ", so that the second run is plain fine-tuning; try fewer robustness.first_epochs"
        return f"the first run gets {wrong} of {len(self.wrong)} training images wrong{alike}"

    def draw_weights(self, table: ImageTable) -> Sequence[float]:
        """Wrong ones ``upweight`` times as often as the others."""
        weights: list[float] = torch.where(self.wrong, self.config.robustness.upweight, 1.0).tolist()
        return weights


class MaskTune(PlainFineTuning):
    """After a first run, a short one in which what that run looked at most is blacked out.

    Source: S. Asgari et al., MaskTune, NeurIPS 2022: one epoch at the same rates; what lies more than two standard
    deviations above the mean of a saliency map, of the class that the first run predicts, becomes black. The map there
    is xGradCAM's, which divides by sums of activations that a ReLU makes positive; tokens are not, so here it is
    gradient × activation (see `saliency`).
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(with_epochs(config, config.robustness.tuning_epochs or 1))
        self.first_run = plain(config, config.optimizer.epochs)
        self.first: Any = None

    def follow(self, first: Classifier, table: ImageTable) -> str:
        """Start from it, and keep it as the one whose looks are masked."""
        self.first = first.eval().requires_grad_(False)
        return ""

    def build(self, class_names: Sequence[str]) -> Classifier:
        """The model of the first run."""
        model: Classifier = copy.deepcopy(self.first)
        return model

    def losses(self, model: Any, batch: Batch, epoch: int) -> Terms:
        """Cross-entropy on what is left of the images."""
        salient = stands_out(saliency(self.first.to(batch.images.device), batch.images))
        masked = torch.where(salient[:, None], black(self.first.preprocessing).to(batch.images), batch.images)
        return super().losses(model, replace(batch, images=masked), epoch)


def stands_out(maps: Tensor) -> Tensor:
    """Bool (B, H, W): over two standard deviations above the mean of the positive values. ``maps``: 0 or more."""
    positive = maps > 0
    count = positive.sum((1, 2)).clamp_min(1)
    mean = maps.sum((1, 2)) / count
    variance = ((maps - mean[:, None, None]).square() * positive).sum((1, 2)) / count
    return maps > (mean + 2 * variance.sqrt())[:, None, None]


def black(preprocessing: Preprocessing) -> Tensor:
    """What a black pixel is after normalisation: (3, 1, 1)."""
    return torch.tensor([-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)]).view(3, 1, 1)


class LastLayer(PlainFineTuning):
    """Deep feature reweighting: only the last layer is trained again, on data in which groups are equally frequent.

    Source: P. Kirichenko et al., Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations, ICLR
    2023. As there, the data is held out from the first run: one half of the validation split, drawn by group; the other
    half picks the epoch. There the layer is a logistic regression averaged over balanced subsets; here it goes through
    the loop of the other methods. Needs the group of every validation image.
    """

    def __init__(self, config: TrainingConfig) -> None:
        tuning = with_epochs(config, config.robustness.tuning_epochs or 20)
        super().__init__(replace(tuning, optimizer=replace(tuning.optimizer, lr_stage2=0.0)))
        self.first_run = replace(plain(config, config.optimizer.epochs), select_by="last")
        self.first: Any = None

    def follow(self, first: Classifier, table: ImageTable) -> str:
        """Start from it."""
        self.first = first
        unseen = ", ".join(_lacking(table.select("train").group_counts(), table.select("val").group_counts()))
        return f"warning: no validation image of {printable(unseen)}, so the last layer sees none" if unseen else ""

    def build(self, class_names: Sequence[str]) -> Classifier:
        """The model of the first run."""
        model: Classifier = self.first
        return model

    def prepare(self, table: ImageTable) -> ImageTable:
        """Half of the validation split to train on, half to select by."""
        require_groups(table, "val", "dfr")
        unseen = _lacking(table.select("train").class_counts(), table.select("val").class_counts())
        if unseen:
            raise DataError(f"{table.root}: expected validation images of every class for dfr, got none of {unseen[0]}")
        few = [name for name, count in table.select("val").group_counts().items() if count == 1]
        if few:
            raise DataError(f"{table.root}: expected 2 validation images or more of a group for dfr, got 1 of {few[0]}")
        held_out = table.select("val").samples
        strata = {sample.name: f"{sample.label}/{sample.group}" for sample in held_out}
        units = {sample.name: sample.unit for sample in held_out if sample.unit}
        halves = stratified_splits(strata, units=units, seed=self.config.seed, fractions=(0.5, 0.5, 0.0))
        kept = [sample for sample in table.samples if sample.split == "test"]
        return replace(table, samples=(*kept, *(replace(each, split=halves[each.name]) for each in held_out)))

    def draw_weights(self, table: ImageTable) -> Sequence[float]:
        """Every group equally often."""
        return balanced(table)

    def groups(self, model: Any) -> list[ParameterGroup]:
        """The last layer alone."""
        rate, layer = self.config.optimizer.lr_heads, model.classifier.head
        return [ParameterGroup(name="last_layer", lr=rate, stage=2, parameters=list(layer.parameters()))]


def _lacking(wanted: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    return [name for name, count in wanted.items() if count and not counts[name]]


def plain(config: TrainingConfig, epochs: int) -> TrainingConfig:
    """Plain fine-tuning with the same settings."""
    return replace(with_epochs(config, epochs), method="erm")


def with_epochs(config: TrainingConfig, epochs: int) -> TrainingConfig:
    """A copy over another number of epochs."""
    return replace(config, optimizer=replace(config.optimizer, epochs=epochs))


def require_groups(table: ImageTable, split: str, method: str) -> None:
    """Refuse data in which an image of the split has no group."""
    without = [sample.name for sample in table.select(split).samples if sample.group is None]
    if without:
        raise DataError(
            f"{table.root}: expected a group for every image of the {split} split, which {method} needs, got none for "
            f"{len(without)}, the first is {without[0]}; use a method that needs none, such as ifam"
        )


def balanced(table: ImageTable) -> list[float]:
    """Weights of the training images under which each group is drawn equally often."""
    training = table.select("train")
    counts = list(training.group_counts().values())
    return [1 / counts[sample.group] for sample in training.samples if sample.group is not None]
