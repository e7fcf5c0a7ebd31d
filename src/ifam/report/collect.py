"""Everything that a report says, measured; the split that is reported on is read once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ifam.background import BackgroundObserver
from ifam.data.batch import Batch
from ifam.data.table import ImageTable
from ifam.device import describe_machine
from ifam.errors import UsageError
from ifam.evaluate import evaluate
from ifam.files import last_name, now
from ifam.intervene import Study, trials_on_validation
from ifam.interventions import Intervention, Trial, choose, trial_of, with_intervals
from ifam.metrics.accumulate import Accumulator
from ifam.metrics.bootstrap import Interval, accuracy_interval, bootstrap_interval
from ifam.model.two_stage import IFAM
from ifam.output import Prediction
from ifam.report import origin
from ifam.report.content import DataFacts, ModelFacts, Origin, Report, Slice
from ifam.report.observer import SplitObserver, seen_indices
from ifam.report.parts import part_facts
from ifam.report.samples import CERTIFICATE_IMAGES, validation_sample
from ifam.score import auc_intervals
from ifam.storage import weights_sha256
from ifam.verify import Certificate, verify
from ifam.verify.photographs import distinct

ShowProgress = Callable[[str], Callable[[int, int], None]]
"""what is done -> a function of (images done, images in all)"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the report is about, and how it came to be."""

    run: Path
    """folder of the model's run; one that does not exist if it is not from a folder"""
    split: str = "test"
    command: str | None = None
    as_read: ImageTable | None = None
    """the data before it got the splits that the run made of it; None if it came with its own"""
    data: str | None = None
    """file or folder of the data; None if it is the folder that the table names"""


def collect_report(
    model: IFAM,
    table: ImageTable,
    source: Source,
    *,
    skip_unreadable: bool,
    with_keypoint_error: bool,
    progress: ShowProgress,
    **resources: Any,
) -> Report:
    """Measure all of it; ``resources``: batch_size, workers, device and precision.

    Raises:
        UsageError: not a model with parts.
        DataError: classes that the model does not know, no such split, or an unreadable image.
    """
    if not isinstance(model, IFAM):
        raise UsageError(f"report: expected a model with parts, got a {type(model).__name__}, which has none")
    started = time.monotonic()
    given = table if source.as_read is None else source.as_read
    table = table.align(model.class_names).align_groups(tuple(model.training_group_sizes))
    split = table.select(source.split)
    reasons: dict[str, str] = {}
    trials = _trials(model, table, source, reasons, skip_unreadable, progress, resources)
    chosen = choose(trials).intervention if trials else Intervention()
    observer, background = SplitObserver(model, split, chosen), BackgroundObserver(model, split.samples)

    def observe(batch: Batch, output: Prediction, values: Mapping[str, Tensor]) -> None:
        observer(batch, output, values)
        background(batch, output, values)

    evaluation = evaluate(
        model,
        table,
        split=source.split,
        with_keypoint_error=with_keypoint_error,
        skip_unreadable=skip_unreadable,
        progress=progress("reading the images"),
        observe=observe,
        **resources,
    )
    if not model.is_faithful:
        reasons["shapley"] = (
            "the prediction of this model does not rest on its parts alone, so they cannot share it out"
        )
    groups = split.group_names if any(evaluation.groups[name].count for name in evaluation.groups) else ()
    seen = replace(split, samples=tuple(split.samples[index] for index in seen_indices(observer.records)))
    return Report(
        model=_model_facts(model),
        data=_data_facts(model, table, source, evaluation.unreadable),
        evaluation=evaluation,
        intervals=_intervals(observer.records, split.group_names, model.num_classes),
        groups=_slices(observer.records, "group", groups),
        classes=_slices(observer.records, "label", model.class_names),
        parts=part_facts(model, observer.records, groups),
        gallery=observer.gallery.gallery(),
        mistakes=observer.mistakes.mistakes(),
        study=_study(trials, chosen, observer, split.group_names, model.num_classes) if trials else None,
        validation_images=len(table.select("val")) if "val" in table.splits else 0,
        shapley=observer.shapley(),
        certificate=_certificate(model, seen, reasons, progress, resources),
        background=background.background(source.split if table.splits else ""),
        origin=_origin(model, given, split, source, started, progress, resources),
        reasons=reasons,
    )


def _trials(
    model: IFAM,
    table: ImageTable,
    source: Source,
    reasons: dict[str, str],
    skip_unreadable: bool,
    progress: ShowProgress,
    resources: Mapping[str, Any],
) -> list[Trial]:
    """On the validation split; none, with the reason, where there is nothing to choose or nothing to choose it on."""
    if "val" not in table.splits or source.split == "val":
        reasons["study"] = "what to switch off is chosen on a validation split other than the images reported on"
    elif model.num_parts == 1 and not model.token_thresholds:
        reasons["study"] = "there is one part and no calibrated token threshold (ifam calibrate): nothing to switch off"
    else:
        show = progress("trying interventions")
        sample = validation_sample(table)
        return trials_on_validation(model, sample, skip_unreadable=skip_unreadable, progress=show, **resources)
    return []


def _study(
    trials: Sequence[Trial],
    chosen: Intervention,
    observer: SplitObserver,
    group_names: Sequence[str],
    num_classes: int,
) -> Study:
    """The trials, and what the chosen one does to the split that the observer saw."""

    def on_split(intervention: Intervention, records: Accumulator) -> Trial:
        return with_intervals(trial_of(intervention, records, group_names, num_classes), records, "auto")

    before = on_split(Intervention(), observer.records)
    return Study(
        trials=trials,
        chosen=chosen,
        chosen_by=trials[0].criterion("auto"),
        test_before=before,
        test_after=before if chosen == Intervention() else on_split(chosen, observer.after),
    )


def _certificate(
    model: IFAM,
    seen: ImageTable,
    reasons: dict[str, str],
    progress: ShowProgress,
    resources: Mapping[str, Any],
) -> Certificate | None:
    """Of a sample of the images that could be read, each once."""
    photographs = distinct(seen, CERTIFICATE_IMAGES, refuse_copies=False)
    if len(photographs) < 2:
        reasons["certificate"] = "it takes two images, since each lends the other its background"
        return None
    return verify(model, photographs, progress=progress("verifying"), **resources)


def _model_facts(model: IFAM) -> ModelFacts:
    height, width = model.preprocessing.image_size
    rows, columns = model.stage1.grid((height, width))
    return ModelFacts(
        num_parts=model.num_parts,
        num_classes=model.num_classes,
        is_faithful=model.is_faithful,
        has_second_stage=model.stage2 is not None,
        evidence=model.evidence,
        backbone=last_name(model.backbone_title),
        image_size=(height, width),
        grid=(rows, columns),
    )


def _data_facts(model: IFAM, table: ImageTable, source: Source, unreadable: Sequence[str]) -> DataFacts:
    tables = {name: table.select(name) for name in table.splits} or {"all": table}
    has_groups = any(sample.group is not None for sample in table.samples)
    seen = table.select(source.split)
    annotations = [name for name, there in (("masks", seen.has_masks), ("keypoints", seen.has_keypoints)) if there]
    return DataFacts(
        name=last_name(source.data or str(table.root)),
        layout=table.layout,
        split=source.split if table.splits else "all",
        classes={name: part.class_counts() for name, part in tables.items()},
        groups={name: part.group_counts() for name, part in tables.items()} if has_groups else {},
        trained_on=model.training_group_sizes,
        annotations=annotations,
        account=table.account,
        unreadable=[origin.without_root(message, table.root) for message in unreadable],
    )


def _intervals(records: Accumulator, group_names: Sequence[str], num_classes: int) -> dict[str, Interval]:
    """Beside those of the evaluation."""
    found = {"mean_kept": _mean_interval(records["kept"])}
    if num_classes == 2 and len(torch.unique(records["label"])) == 2:
        named = auc_intervals(records, len(group_names))
        found |= {name.removesuffix("_interval"): interval for name, interval in named.items()}
    return found


def _mean_interval(values: Tensor) -> Interval:
    return bootstrap_interval(lambda values: float(values.double().mean()), values, seed=0)


def _slices(records: Accumulator, by: str, names: Sequence[str]) -> list[Slice]:
    """Those with images, worst first."""
    correct, of, kept = records["prediction"] == records["label"], records[by], records["kept"]
    found = [
        Slice(
            name=names[index],
            count=int((of == index).sum()),
            accuracy=accuracy_interval(correct[of == index], seed=0),
            mean_kept=float(kept[of == index].mean()),
            no_evidence=int((kept[of == index] == 0).sum()),
        )
        for index in torch.unique(of).tolist()
        if 0 <= index < len(names)
    ]
    return sorted(found, key=lambda one: one.accuracy.estimate or 0)


def _origin(
    model: IFAM,
    given: ImageTable,
    split: ImageTable,
    source: Source,
    started: float,
    progress: ShowProgress,
    resources: Mapping[str, Any],
) -> Origin:
    digest, same = origin.listing(given, source.run)
    paths = [sample.path for sample in split.samples]
    return Origin(
        run=last_name(str(source.run)),
        command=source.command,
        written=now(),
        machine=describe_machine(resources.get("device", "cpu"), resources.get("precision", "32-true")),
        weights_sha256=weights_sha256(model),
        listing_sha256=digest,
        same_listing=same,
        images_sha256=origin.images_sha256(paths, progress("hashing")),
        images_hashed=len(paths),
        configuration=origin.configuration(source.run),
        seconds=time.monotonic() - started,
    )
