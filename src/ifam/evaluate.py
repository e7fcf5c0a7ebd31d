"""Scores of a model on one split of a data set, by group."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ifam.config import Precision
from ifam.data.batch import Batch, require_readable
from ifam.data.given_masks import give_masks
from ifam.data.imagenet9 import align_imagenet9, class_lookup
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable
from ifam.device import arithmetic
from ifam.errors import CheckpointError, DataError, UsageError
from ifam.metrics.accumulate import Accumulator
from ifam.metrics.bootstrap import Interval
from ifam.metrics.calibration import fit_temperature
from ifam.metrics.keypoints import KeypointRegression, PublishedKeypointRegression, inside_box, keypoint_error
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import interventions_on
from ifam.output import REMEDY, Prediction
from ifam.processes import ALONE, Processes
from ifam.score import ClassResult, Score, accuracy_intervals, calibration_error, outcomes, record, summarise

Progress = Callable[[int, int], None]
"""(images done, images in all)"""
Observe = Callable[[Batch, Prediction, Mapping[str, torch.Tensor]], None]
"""a batch on the model's device, what the model says of it, and what was recorded of each image"""


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A score, the split it was taken on, and what was switched off."""

    split: str
    classes: Mapping[str, ClassResult] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """group -> class -> how often it was the answer there, without zeros"""
    accuracy_interval: Interval | None = None
    """95 %, over another sample of images of this split"""
    worst_group_accuracy_interval: Interval | None = None
    temperature_split: str | None = None
    """the split that the temperature was fitted on, where one was asked for"""
    temperature: float | None = None
    """None also where no temperature is best, see `ifam.metrics.fit_temperature`"""
    calibration_error_scaled: float | None = None
    """calibration error of softmax(logits / temperature)"""
    interventions: Mapping[str, Any] = field(default_factory=dict)
    unreadable: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def evaluate(
    model: Classifier,
    table: ImageTable,
    *,
    split: str = "test",
    remove_parts: Sequence[int] = (),
    token_quantile: float | None = None,
    masks: str | None = None,
    class_map: Mapping[int, int] | None = None,
    temperature_split: str | None = None,
    with_keypoint_error: bool = True,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
    observe: Observe | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score a model on a split, with interventions if asked.

    ``masks``: for a model of early or late masking, another source than in its training; see `ifam.data.given_masks`.
    ``class_map``: scores a model of the 1000 ImageNet classes on data of ImageNet-9, see `ifam.data.imagenet9`: an
    image counts as right where the best of all classes belongs to the right group. ``temperature_split``: fits a
    temperature there, and reports the calibration error that it leaves. The keypoint error needs the training split as
    well, on which the regression from part centroids is fitted: another pass, left out without ``with_keypoint_error``.
    ``observe`` sees every batch of the split that is scored: who wants to know more need not read it again.
    Several ``processes`` share the images, each once, and come to the same result; each observes its own.

    Raises:
        UsageError: a class map for another model, or a temperature that would be judged on the images it was fitted on.
        DataError: classes that the model does not know, no such split, or an unreadable image.
    """
    lookup = None if class_map is None else torch.tensor(class_lookup(class_map, model.num_classes))
    table = _aligned(model, table, class_map)
    if temperature_split is not None:
        _check_temperature(table, split, temperature_split, class_map)
    splits = [name for name in (split, temperature_split) if name is not None]
    if isinstance(model, MaskedClassifier):
        table = give_masks(table, masks or model.masks, splits)
    elif masks is not None:
        raise UsageError(f"masks: expected a model that is given masks, got {type(model).__name__}, which is not")
    data = ImageDataModule.at_test_time(
        table, model.preprocessing, batch_size=batch_size, workers=workers, annotations=True, processes=processes
    )
    interventions = interventions_on(model, remove_parts, token_quantile)
    model = model.to(device).eval()
    unreadable: list[str] = []

    def run(name: str, **options: Any) -> Accumulator:
        total = len(table.select(name))
        left_out: list[str] = []

        def show(done: int) -> None:
            if progress is not None and processes.is_first:
                progress(min(total, done * processes.size), total)

        parts = processes.together(
            lambda: collect(
                model,
                data.loader(name),
                interventions=interventions,
                progress=show,
                unreadable=left_out,
                precision=precision,
                skip_unreadable=skip_unreadable,
                **options,
            )
        )
        unreadable.extend(message for each in processes.gather(left_out) for message in each)
        return Accumulator.of_all(parts)

    temperature = None if temperature_split is None else _temperature(run(temperature_split, keep_logits=True))
    records = run(split, class_map=lookup, temperature=temperature, observe=observe)
    score = summarise(records, table.group_names, model.training_group_sizes, num_classes=model.num_classes)
    keypoints: dict[str, Any] = {}
    fitted = score.not_finite is None and with_keypoint_error and split != "train" and _shows_keypoints(table, "train")
    if fitted and "centroid" in records and "keypoint" in records:
        keypoints = _keypoint_numbers(run("train"), records)
    return Evaluation(
        **(vars(score) | keypoints | accuracy_intervals(records, len(score.groups))),
        **outcomes(records, table.class_names, table.group_names),
        split=split,
        temperature_split=temperature_split,
        temperature=temperature,
        calibration_error_scaled=calibration_error(records, "confidence_scaled"),
        interventions=interventions,
        unreadable=unreadable,
    )


def _aligned(model: Classifier, table: ImageTable, class_map: Mapping[int, int] | None) -> ImageTable:
    """The table with the labels that predictions are compared with, and the groups of the training first."""
    table = table.align(model.class_names) if class_map is None else align_imagenet9(table)
    return table.align_groups(tuple(model.training_group_sizes))


def _check_temperature(table: ImageTable, split: str, fitted_on: str, class_map: Mapping[int, int] | None) -> None:
    if class_map is not None:
        raise UsageError(
            "temperature split: expected none with a class map, whose groups have no probabilities, got one"
        )
    if fitted_on == split:
        raise UsageError(f"temperature split: expected another than {split}, which is evaluated, got the same")
    if not table.splits:
        raise DataError(
            f"{table.root}: expected data with a {fitted_on} split for the temperature, got none with splits"
        )
    table.select(fitted_on)  # refused before the work


def _temperature(records: Accumulator) -> float | None:
    if records.num_samples == 0:
        raise DataError("temperature: expected at least one image that can be read, got none; see ifam doctor")
    if not records["finite"].all():
        raise CheckpointError(f"temperature: expected finite scores of the classes, got NaN or infinity; {REMEDY}")
    return fit_temperature(records["logits"], records["label"])


def predict_batch(model: Classifier, batch: Batch, **interventions: Any) -> Prediction:
    """The model's call, with the given masks where it is one that needs them."""
    if isinstance(model, MaskedClassifier) and batch.given_masks is not None:
        interventions |= {"mask": model.token_mask(batch.given_masks), "pixels": batch.given_masks}
    prediction: Prediction = model(batch.images, **interventions)
    return prediction


@torch.inference_mode()
def collect(
    model: Classifier,
    loader: Iterable[Batch],
    *,
    interventions: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
    unreadable: list[str],
    precision: Precision = "32-true",
    skip_unreadable: bool = False,
    observe: Observe | None = None,
    **recording: Any,
) -> Accumulator:
    """The records of every image of a loader, each once; ``recording``: further arguments of `record`.

    ``observe`` is called in the precision of the model's call.
    """
    device = next(model.parameters()).device
    records = Accumulator()
    done = 0
    for batch in loader:
        require_readable(batch, skip_unreadable=skip_unreadable)
        unreadable.extend(image.message for image in batch.unreadable)
        if len(batch):
            batch = batch.to(device)
            with arithmetic(precision, device):
                output = predict_batch(model, batch, **interventions)
            values = record(output, batch, **recording)
            records.update(**values)
            if observe is not None:
                with arithmetic(precision, device):
                    observe(batch, output, values)
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done)
    return records


def _shows_keypoints(table: ImageTable, split: str) -> bool:
    return split in table.splits and table.select(split).has_keypoints


def _keypoint_numbers(train: Accumulator, test: Accumulator) -> dict[str, Any]:
    """By both protocols."""
    regression = KeypointRegression.fit(train["centroid"], train["active"], train["keypoint"], train["visible"])
    predicted = regression.predict(test["centroid"], test["active"])
    score = keypoint_error(predicted, test["keypoint"], test["visible"], test["box"][:, 2:])
    # the published code counts the places of tokens from 0, half a token to the left of and above their centres
    (seen, points), (test_seen, test_points) = (
        (
            inside_box(each["centroid"] - each["token"][:, None] / 2, each["box"]),
            inside_box(each["keypoint"], each["box"]),
        )
        for each in (train, test)
    )
    published = PublishedKeypointRegression.fit(seen, train["active"], points, train["visible"])
    predicted = published.predict(test_seen, test["active"])
    as_published = keypoint_error(predicted, test_points, test["visible"], torch.ones(len(test_points), 2))
    return {
        "keypoint_error": score.error,
        "keypoint_error_published": as_published.error,
        "keypoint_count": score.count,
    }
