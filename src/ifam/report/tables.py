"""The numbers of a report as tables of text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ifam.console import CRITERION_NAMES, LABELS
from ifam.explanations.shapley_summary import ShapleyMean
from ifam.intervene import Study
from ifam.interventions import Intervention, Trial
from ifam.metrics.bootstrap import Interval
from ifam.report.content import Amount, Counts, Origin, PartFacts, Report, Slice
from ifam.verdict.statement import images
from ifam.verify import Certificate

MOST_ROWS = 100
"""of a table, worst or first ones"""
EMPTY = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """The first column names, the others are numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int = 0


def percent(value: float | None) -> str:
    """A share with one decimal; its sign stays on the line."""
    return EMPTY if value is None else f"{100 * value:.1f}\u00a0%"


def whole(value: float | None) -> str:
    """The same without decimals."""
    return EMPTY if value is None else f"{100 * value:.0f}\u00a0%"


def interval(found: Interval | None) -> str:
    """Limits in per cent, without the estimate."""
    if found is None or found.low is None or found.high is None:
        return EMPTY
    return f"{100 * found.low:.1f}–{100 * found.high:.1f}\u00a0%"


def counts(caption: str, found: Counts, trained_on: Mapping[str, int] | None = None) -> Table:
    """A row for each name, a column for each split."""
    names = list(dict.fromkeys(name for split in found.values() for name in split))
    columns = [*(f"{split} images" for split in found), *(["the run trained on"] if trained_on else [])]
    rows = [
        [name, *(f"{split.get(name, 0):,}" for split in found.values())]
        + ([f"{trained_on.get(name, 0):,}"] if trained_on else [])
        for name in names
    ]
    return _cut(caption, ["", *columns], rows)


def metrics(report: Report) -> Table:
    """What ``ifam evaluate`` shows, with every interval that is known."""
    evaluation, numbers = report.evaluation, report.evaluation.numbers()
    known = {
        "accuracy": evaluation.accuracy_interval,
        "worst_group_accuracy": evaluation.worst_group_accuracy_interval,
        **report.intervals,
    }
    rows = []
    for name, label in LABELS.items():
        if name in numbers:
            whole, found = isinstance(numbers[name], int), known.get(name)
            limits = EMPTY if found is None or found.low is None else f"{found.low:.3f}–{found.high:.3f}"
            rows.append([label, f"{numbers[name]:,}" if whole else f"{numbers[name]:.3f}", limits])
    return Table(
        caption=f"All measures, over {images(evaluation.num_samples)}",
        columns=["measure", "value", "95\u00a0% interval"],
        rows=rows,
    )


def slices(caption: str, found: Sequence[Slice]) -> Table:
    """Accuracy of groups or classes."""
    columns = ["", "right", "accuracy", "95\u00a0% interval", "inside the mask", "empty masks"]
    rows = [
        [
            one.name,
            f"{round((one.accuracy.estimate or 0) * one.count):,} of {one.count:,}",
            percent(one.accuracy.estimate),
            interval(one.accuracy),
            percent(one.mean_kept),
            f"{one.no_evidence:,}",
        ]
        for one in found
    ]
    return _cut(caption, columns, rows)


def parts(found: Sequence[PartFacts]) -> Table:
    """One row for each part."""
    rows = [
        [
            f"part {one.part}",
            percent(one.overall.area),
            percent(one.overall.presence),
            EMPTY if one.cosine is None else f"{one.nearest} ({one.cosine:.2f})",
            "; ".join(one.flags) or "none",
        ]
        for one in found
    ]
    return Table(
        caption="Parts",
        columns=["", "mean area", "images that have it", "most alike part (cosine)", "flags"],
        rows=rows,
    )


def part_areas(caption: str, found: Sequence[PartFacts], of: str) -> Table | None:
    """Mean area and presence of each part, a row for each class (``of="by_class"``) or group."""
    by: list[Mapping[str, Amount]] = [getattr(one, of) for one in found]
    names = list(by[0]) if by else []
    rows = [
        [name, *(f"{percent(amounts[name].area)} ({percent(amounts[name].presence)})" for amounts in by)]
        for name in names
    ]
    return _cut(caption, ["", *(f"part {one.part}" for one in found)], rows) if rows else None


def trials(study: Study) -> Table:
    """What was tried on the validation split."""
    rows = [[*_trial(trial), whole(trial.beats_none)] for trial in study.trials]
    chosen_by = CRITERION_NAMES[study.chosen_by]
    caption = f"Tried on {images(study.trials[0].num_samples, 'val')}, best {chosen_by} first"
    return _cut(caption, [*_TRIAL_COLUMNS, "beats none"], rows)


def effect(study: Study, split: str) -> Table:
    """The chosen intervention on the split reported on."""
    both = [study.test_before] + ([study.test_after] if study.chosen != Intervention() else [])
    caption = (
        f"Chosen: {_named(study.chosen)}; on {images(study.test_before.num_samples, split)}, with 95\u00a0% intervals"
    )
    return Table(caption=caption, columns=_TRIAL_COLUMNS, rows=[_trial(trial) for trial in both])


_TRIAL_COLUMNS = ["switched off", "worst group", "accuracy", "inside the mask"]


def _named(intervention: Intervention) -> str:
    return "nothing" if intervention == Intervention() else str(intervention).removeprefix("without ")


def _trial(trial: Trial) -> list[str]:
    pairs = (
        (trial.worst_group_accuracy, trial.worst_group_accuracy_interval),
        (trial.accuracy, trial.accuracy_interval),
    )
    cells = [percent(value) + ("" if limits is None else f" ({interval(limits)})") for value, limits in pairs]
    return [_named(trial.intervention), *cells, percent(trial.mean_kept)]


def certificate(found: Certificate) -> Table:
    """What was replaced and what it changed."""
    region = found.setting.region
    rows = [[f"outside {region}, by {what}", *_changes(one.images, one.bits)] for what, one in found.outside.items()]
    rows.append([f"inside {region}, by noise (control)", *_changes(found.inside.images, found.inside.bits)])
    caption = (
        f"{images(found.num_images)}, {found.with_evidence:,} with evidence; the mask is held, pixels are replaced"
    )
    return Table(caption=caption, columns=["pixels replaced", "images whose logits changed", "bits changed"], rows=rows)


def mask_alone(found: Certificate) -> Table:
    """How many answers stay when the inside of the mask is replaced."""
    region = found.setting.region
    rows = [
        [f"inside {region}, by {what}", f"{percent(one.stays.estimate)} ({interval(one.stays)})", percent(one.chance)]
        for what, one in found.mask_alone.items()
    ]
    return Table(
        caption="The mask is held, and nothing of the object is left in it",
        columns=["pixels replaced", "answers that stay", "by chance"],
        rows=rows,
    )


def _changes(changed: int, bits: int) -> list[str]:
    return [f"{changed:,}", f"{bits:,}"]


def origin(found: Origin) -> Table:
    """Everything but the configuration."""
    same = {True: "the same as in training", False: "another than in training", None: "the run does not say its own"}
    rows = [
        ["run", found.run],
        ["command", found.command or "from Python"],
        ["written", f"{found.written}, in {found.seconds:.0f} s"],
        *([name, value] for name, value in found.machine.items()),
        ["weights, SHA-256", found.weights_sha256],
        ["listing of the data, SHA-256", f"{found.listing_sha256} ({same[found.same_listing]})"],
        [f"digests of the {images(found.images_hashed)} reported on, SHA-256", found.images_sha256],
    ]
    return Table(caption="Origin", columns=[], rows=rows)


def _cut(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    rows = list(rows)
    return Table(caption=caption, columns=columns, rows=rows[:MOST_ROWS], left_out=max(0, len(rows) - MOST_ROWS))


def shapley(caption: str, found: Mapping[str, ShapleyMean]) -> Table:
    """A row for each class or group: the parts, and the scores of the true class with none and with all of them."""
    some = next(iter(found.values()))
    columns = ["", "images", *(f"part {part}" for part in range(len(some.values))), "no part", "all parts"]
    rows = [
        [name, f"{mean.num_images:,}"] + [f"{value:+.3f}" for value in (*mean.values, mean.nothing, mean.everything)]
        for name, mean in found.items()
    ]
    return _cut(caption, columns, rows)
