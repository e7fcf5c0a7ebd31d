"""The training loop of every method, as Lightning sees it."""

import math
import sys
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from ifam.data.batch import Batch, require_readable
from ifam.errors import DataError, TrainingError
from ifam.evaluate import predict_batch
from ifam.files import printable
from ifam.losses.objective import total_loss
from ifam.metrics.accumulate import Accumulator
from ifam.model.base import Classifier
from ifam.output import Output
from ifam.processes import ALONE, Processes, Share
from ifam.score import Score, record, summarise
from ifam.training.means import Means
from ifam.training.methods import Method
from ifam.training.optim import decayed_parameters, freeze_rest, make_optimizer


class TrainingModule(LightningModule):
    """Weighs the method's losses, and scores every epoch on the validation split.

    ``selection_score`` is the number that picks the best epoch, see ``TrainingConfig.select_by``.
    Several ``processes`` compute what one would with all of the batch, each from its own images; what they log, score
    and refuse is the same in all.
    """

    def __init__(
        self, model: Classifier, method: Method, group_names: tuple[str, ...], processes: Processes = ALONE
    ) -> None:
        super().__init__()
        self.processes = processes
        self.model = model
        self.method = method
        self.group_names = group_names
        self.score: Score | None = None
        self.loss: float | None = None
        """mean over the validation images, where the best epoch is chosen by it"""
        self._records = Accumulator()
        self._means = Means()
        self._random: dict[str, Tensor] = {}
        self._left_out: set[str] = set()
        freeze_rest(model, method.groups(model))
        # now, since with fsdp a parameter is a flat piece later
        self._decayed = decayed_parameters(model)

    def on_train_epoch_start(self) -> None:
        """Noise and dropout depend on seed and epoch alone, so that a resumed run repeats an undisturbed one."""
        torch.manual_seed(self.method.config.seed * 1_000_003 + self.current_epoch)
        self._means = Means()

    def on_train_start(self) -> None:
        """Of a run that goes on within an epoch, noise and dropout go on as well."""
        for device, state in self._random.items():
            _generator_of(device).set_rng_state(state)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """The weighted loss, or None for a batch in which no image could be read.

        Of several processes the mean of their losses is that of the batch, and so is the mean of their gradients.
        """
        batch = self._shared(batch)
        if len(batch) == 0:
            return None
        over_batch, weights = self.method.over_batch, self.method.config.losses
        found = self.method.losses(self.model, batch, self.current_epoch)
        terms = {name: term if name in over_batch else batch.share.weigh(term) for name, term in found.items()}
        whole = self.processes.mean(terms)
        try:
            total = total_loss(whole, weights)
        except TrainingError as error:
            raise self._diverged(str(error)) from error
        self._means.update({**whole, "loss": total}, batch.share.total(len(batch)))
        return total_loss(terms, weights) if self.processes.several else total

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.require_finite()
        self._records = Accumulator()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keep what the score needs of each image: of stage 1 while it is trained alone."""
        own, batch = len(batch), self._shared(batch)
        if len(batch):
            output = predict_batch(self.model, batch)
            if isinstance(output, Output) and not self.fully_trained:  # stage 2 has not begun
                output = replace(output, logits=output.stage1_logits)
            values = record(output, batch)
            if self.method.config.select_by == "loss":
                with torch.random.fork_rng():  # the same backgrounds in every epoch, and training goes on as without
                    torch.manual_seed(self.method.config.seed * 1_000_003 + batch_index)
                    values["loss"] = self.method.validation_losses(self.model, batch, output)
            if own:
                self._records.update(**values)

    def score_epoch(self) -> None:
        """Score the whole split, while the weights that were validated are in place."""
        sizes = self.model.training_group_sizes
        records = Accumulator.of_all(self.processes.gather(self._records))
        self.score = summarise(records, self.group_names, sizes, num_classes=self.model.num_classes)
        self.loss = float(records["loss"].double().mean()) if "loss" in records else None

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's losses and the score."""
        self.log_dict({f"train/{name}": value for name, value in self._means.values().items()})
        if self.loss is not None:
            self.log("val/loss", self.loss)
        if self.score is not None:
            self.log_dict({f"val/{name}": float(value) for name, value in self.score.numbers().items()})

    @property
    def selection_score(self) -> float:
        """Higher is better."""
        chosen = self.method.config.select_by
        if chosen == "last":
            return float(self.current_epoch)
        if chosen == "loss":
            return float("-inf") if self.loss is None else -self.loss
        if self.score is None:
            return float("-inf")
        if chosen == "auto":
            worst = self.score.worst_group_accuracy
            return self.score.accuracy if worst is None else worst
        value: float | None = getattr(self.score, chosen)
        if value is None:
            raise DataError(f"select_by: expected data with a known {chosen}, got none on the validation split")
        return value

    @property
    def fully_trained(self) -> bool:
        """Whether every stage has begun: before that, the score says nothing about the model."""
        return self.current_epoch >= self.method.config.optimizer.stage1_epochs

    def require_finite(self) -> None:
        """Refuse to score or save weights that a step has ruined.

        Raises:
            TrainingError: see above.
        """
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise self._diverged(f"{name}: expected finite weights, got others")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the method itself has learnt, and where noise and the epoch's mean losses stand."""
        devices = {"cpu", self.device.type}
        checkpoint["method"] = self.method.state()
        checkpoint["random"] = {device: _generator_of(device).get_rng_state() for device in devices}
        checkpoint["means"] = vars(self._means)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse; the generators are set when the first step is near."""
        for name, value in checkpoint["method"].items():
            setattr(self.method, name, value)
        self._random = checkpoint.get("random", {})
        self._means = Means(**checkpoint.get("means", {}))

    def configure_optimizers(self) -> Any:
        """See `ifam.training.optim`."""
        config = self.method.config.optimizer
        # Lightning's own estimate would start the loader's workers before a resumed run knows its epoch
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = math.ceil(batches / config.accumulate)
        optimizer, schedule = make_optimizer(self.model, self.method.groups(self.model), config, steps, self._decayed)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": config.cosine}}

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of the whole gradient, of which each process has a piece with fsdp."""
        wrapped: Any = self.trainer.strategy.model
        if gradient_clip_val and self.divided:
            wrapped.clip_grad_norm_(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def divided(self) -> bool:
        """Whether each process holds a piece of the weights only."""
        return self.processes.several and self.method.config.strategy == "fsdp"

    def weights(self) -> dict[str, Tensor]:
        """The state of the model; of a divided one every process has to ask, and the first gets it."""
        state = self.trainer.strategy.lightning_module_state_dict()
        return {name.removeprefix("model."): value for name, value in state.items()}

    def _shared(self, batch: Batch) -> Batch:
        """With its share of the batch of all processes, who report together what none of them could read."""
        seen = self.processes.gather((len(batch), batch.unreadable))
        batch = replace(batch, unreadable=tuple(image for _, images in seen for image in images))
        self._report_unreadable(batch)
        if not self.processes.several:
            return batch
        share = Share(counts=tuple(count for count, _ in seen), rank=self.processes.rank)
        return replace(batch if len(batch) else self._stand_in(), share=share)

    def _stand_in(self) -> Batch:
        """One black image, for a process without any: the others wait for it in the middle of a step."""
        height, width = self.model.preprocessing.image_size
        nothing = torch.zeros(1, dtype=torch.int64, device=self.device)
        images = torch.zeros(1, 3, height, width, device=self.device)
        return Batch(images=images, labels=nothing, groups=nothing, indices=nothing, given_masks=images[:, 0] > 0)

    def _diverged(self, what: str) -> TrainingError:
        error = TrainingError(
            f"epoch {self.current_epoch + 1}, step {self.trainer.fit_loop.batch_idx + 1}: {what}; try lower learning "
            "rates in a new folder, or --resume with --precision 32-true; the last checkpoint is kept"
        )
        error.told = not self.processes.is_first
        return error

    def _report_unreadable(self, batch: Batch) -> None:
        require_readable(batch, skip_unreadable=self.method.config.skip_unreadable)
        for image in batch.unreadable:
            if image.message not in self._left_out and self.processes.is_first:  # once, not every epoch
                print(printable(f"left out: {image.message}"), file=sys.stderr)
            self._left_out.add(image.message)


def _generator_of(device: str) -> Any:
    """Where torch keeps the state of a device's generator."""
    return torch if device == "cpu" else torch.get_device_module(device)
