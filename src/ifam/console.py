"""What the commands show: tables, lines and progress bars."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ifam.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ifam.evaluate import Evaluation
    from ifam.exporting.accuracy import AccuracyChange
    from ifam.exporting.export import ExportResult
    from ifam.intervene import Study
    from ifam.interventions import Trial
    from ifam.metrics.bootstrap import Interval
    from ifam.predict import PredictionRow
    from ifam.score import GroupResult
    from ifam.sharding.run import ShardedPrediction
    from ifam.verdict import Statement
    from ifam.verify import Certificate


MOST_UNREADABLE = 20
"""images that are named"""


def print_evaluation(result: "Evaluation") -> None:
    """The numbers as a table, groups last; then what to be careful about."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("measure")
    table.add_column("value (95 % interval)" if result.accuracy_interval else "value", justify="right")
    numbers = result.numbers()
    for name, label in LABELS.items():
        if name in numbers:
            table.add_row(label, _cell(result, name, numbers[name]))
    for name, group in result.groups.items():
        table.add_row(escape(printable(f"group {name}")), _accuracy(group))
    print(_heading(result))  # not as the title, which would wrap at the width of the table
    Console().print(table)
    if result.worst_group_auc_between is not None:
        pair = result.worst_group_auc_between
        print(
            f"worst-group AUC: {_images(pair.num_positives)} of class 1 in {printable(pair.positives)} against "
            f"{pair.num_negatives} of class 0 in {printable(pair.negatives)}"
        )
    if result.temperature_split is not None and result.temperature is None:
        where = result.temperature_split
        print(f"no temperature fits {where}: every image is right there, or the scores say no more than chance")
    for message in result.unreadable[:MOST_UNREADABLE]:
        print(printable(f"left out: {message}"))
    if len(result.unreadable) > MOST_UNREADABLE:
        print(f"left out: {len(result.unreadable) - MOST_UNREADABLE:,} more images that cannot be read")
    if result.accuracy_interval is not None:
        _warn_of_few(result.num_samples, result.groups)


def print_verdict(statements: "Sequence[Statement]") -> None:
    """What it comes to, one line or two: the cause and the next step."""
    from ifam.verdict import closing

    for statement in closing(statements):
        print(printable(f"verdict: {statement.line()}"))


LABELS = {
    "accuracy": "accuracy (every image alike)",
    "average_accuracy": "average accuracy (by training group sizes)",
    "worst_group_accuracy": "worst-group accuracy",
    "top5_accuracy": "top-5 accuracy",
    "auc": "AUC",
    "worst_group_auc": "worst-group AUC",
    "calibration_error": "calibration error (15 bins)",
    "temperature": "temperature",
    "calibration_error_scaled": "calibration error with that temperature",
    "mean_kept": "share of the image inside the mask",
    "no_evidence": "images with an empty mask",
    "seen_on_object": "share of what the mask holds that is object",
    "object_seen": "share of the object that the mask holds",
    "not_finite": "images without an answer (scores not finite)",
    "foreground_iou": "foreground IoU (pooled)",
    "foreground_iou_per_image": "foreground IoU (mean over images)",
    "part_nmi": "NMI of parts and keypoints",
    "part_ari": "ARI of parts and keypoints",
    "keypoint_error": "keypoint error (share of the box or image)",
    "keypoint_error_published": "keypoint error (published protocol)",
}


def _cell(result: "Evaluation", name: str, value: float) -> str:
    if name in ("no_evidence", "not_finite"):
        return str(value)
    return _with_interval(value, getattr(result, f"{name}_interval", None))


def _heading(result: "Evaluation") -> str:
    from ifam.interventions import Intervention

    done = Intervention(
        remove_parts=tuple(result.interventions.get("remove_parts", ())),
        token_quantile=result.interventions.get("token_quantile"),
    )
    removed = "" if done == Intervention() else f", {done}"
    return f"{result.split}: {_images(result.num_samples)}{removed}"


def _images(number: int, kind: str = "") -> str:
    return f"{number} {kind}{' ' if kind else ''}image{'' if number == 1 else 's'}"


def _accuracy(group: "GroupResult") -> str:
    if group.accuracy is None:
        return "no images"
    return f"{group.accuracy:.3f} ({round(group.accuracy * group.count)}/{group.count})"


def _warn_of_few(num_samples: int, groups: "Mapping[str, GroupResult]") -> None:
    """One line where intervals rest on few images."""
    from ifam.verdict.statement import FEW

    counts = {name: group.count for name, group in groups.items() if group.count}
    few = [f"{printable(name)} ({count})" for name, count in counts.items() if count < FEW]
    where = f"{num_samples} in all" if num_samples < FEW else f"in {', '.join(few)}"
    if num_samples < FEW or few:
        print(f"warning: an interval over fewer than {FEW} images says little: {where}")


def print_study(study: "Study") -> None:
    """What was tried on the validation split, best first, and what the choice does on the test split."""
    from ifam.interventions import CONFIDENCE, Intervention

    by_auc = study.chosen_by.endswith("auc")
    names = ("worst_group_auc", "auc") if by_auc else ("worst_group_accuracy", "accuracy")
    columns = ("intervention", *(CRITERION_NAMES[name] for name in names), "inside the mask")
    print_comparison(
        f"tried on {_images(study.trials[0].num_samples, 'validation')}, best {CRITERION_NAMES[study.chosen_by]} first",
        (*columns, "beats none"),
        [(*_trial_cells(trial, names), _share(trial.beats_none)) for trial in study.trials],
    )
    if study.chosen == Intervention() and study.trials[0].intervention != Intervention():
        print(
            f"none detectably beats no intervention (in {CONFIDENCE:.0%} of resamples of these images), so none is "
            "chosen; gains too small for so few images may be there"
        )
    rows = (
        [study.test_before] if study.chosen == study.test_before.intervention else [study.test_before, study.test_after]
    )
    print_comparison(
        f"chosen by {CRITERION_NAMES[study.chosen_by]}: {study.chosen}; "
        f"on {_images(study.test_before.num_samples, 'test')}, with 95 % intervals over images",
        columns,
        [_trial_cells(trial, names) for trial in rows],
    )
    if study.trials[0].worst_group_accuracy is None:
        print(f"no groups are known: chosen by {CRITERION_NAMES[study.chosen_by]}, which a shortcut can raise as well")
    _warn_of_few(study.test_before.num_samples, study.test_before.groups)


CRITERION_NAMES = {
    "worst_group_accuracy": "worst group",
    "accuracy": "accuracy",
    "worst_group_auc": "worst-group AUC",
    "auc": "AUC",
}


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _trial_cells(trial: "Trial", names: "Sequence[str]") -> tuple[str, ...]:
    numbers = (_with_interval(getattr(trial, name), getattr(trial, f"{name}_interval")) for name in names)
    return (str(trial.intervention), *numbers, f"{trial.mean_kept:.3f}")


def _with_interval(value: float | None, interval: "Interval | None") -> str:
    if value is None:
        return "–"
    if interval is None or interval.low is None or interval.high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def print_comparison(title: str, columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> None:
    """A table whose first column is text and the others numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    Console().print(table)


def print_row(row: "PredictionRow") -> None:
    """One line for one file."""
    answer = "-" if row.label is None else f"{row.label} ({row.probability:.2f})"
    kept = "" if row.kept is None else f", {row.kept:.0%} of the image seen"
    note = "" if row.status == "ok" else f" [{row.status}]"
    print(printable(f"{row.path}: {answer}{kept}{note}"))


def print_sharded(found: "ShardedPrediction", folder: object) -> None:
    """What was done in this call, and whether all is there."""
    done = f"{_images(found.predicted)} in this call"
    if found.statuses is None:
        print(f"{done}; {found.missing} of {found.shards} shards in {folder} are missing, which other processes write")
        return
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found.statuses.items()))
    total = sum(found.statuses.values())
    shards = f"{found.shards} shard{'' if found.shards == 1 else 's'}"
    print(f"{done}; {folder} is complete: {_images(total)}, each once, in {shards} ({counts})")


def print_certificate(found: "Certificate") -> None:
    """What was replaced and what it changed; then what the mask decides, and what the guarantee does not cover."""
    rows = [
        (f"outside, {what}", str(changes.images), str(changes.bits), f"{changes.largest:.3g}")
        for what, changes in found.outside.items()
    ]
    inside = found.inside
    rows.append(("inside, noise (control)", str(inside.images), str(inside.bits), f"{inside.largest:.3g}"))
    print_comparison(
        f"{_images(found.num_images)}, {found.with_evidence} with evidence; the mask is held, pixels are replaced, and "
        "the logits change",
        ("pixels replaced", "images", "bits", "largest change"),
        rows,
    )
    if found.holds:
        print(f"holds: no pixel outside {found.setting.region} changed a bit of any prediction")
    elif any(changes.bits for changes in found.outside.values()):
        print(f"does not hold: pixels outside {found.setting.region} changed predictions")
    else:
        print(f"cannot tell: pixels inside {found.setting.region} changed nothing either")
    for what, alone in found.mask_alone.items():
        print(
            f"mask alone: with every pixel inside replaced by {what}, {_with_limits(alone.stays)} of the answers stay "
            f"(chance {alone.chance:.1%}){': the mask decides them' if alone.decides else ''}"
        )
    if found.is_one_answer:
        print("mask alone: every answer is the same, so that answers stay says nothing; train the model longer first")
    leak = found.leakage
    if leak is None:
        print("mask leakage: not measured, too few images of two answers")
    else:
        verdict = "suspicious: the mask may say the answer by its shape" if leak.is_suspicious else "no sign of a code"
        print(
            f"mask leakage, a lower bound: from the masks a linear classifier tells {_with_limits(leak.linear)} of the "
            f"answers, a non-linear one {_with_limits(leak.nonlinear)} (chance {leak.chance:.1%}, "
            f"{_images(leak.num_images)}): {verdict}"
        )
    print(
        f"not covered: before the backgrounds of {found.setting.rounds} other photographs, of another answer where "
        f"there is one, the mask keeps {found.mask_iou:.1%} of itself (IoU, mean), "
        f"{_with_limits(found.answers_moved_interval)} of the "
        f"answers change, and {found.answers_followed:.1%} become the answer of the other photograph"
        f"{': the background decides them' if found.background_decides else ''}"
    )


def _with_limits(interval: "Interval") -> str:
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def print_export(result: "ExportResult") -> None:
    """The file, and how it compares with the model."""
    found, rounded = result.comparison, result.rounded
    print(f"{result.path}: {result.num_bytes / 1e6:.1f} MB")
    masks = ""
    if found.tokens:
        masks = f"; masks equal in {found.tokens - found.moved_ties} of {found.tokens} tokens"
    if found.moved_ties:
        masks += f", the others too close to call, as {found.ties} are"
    print(
        f"compared with the model on {found.images} inputs, {found.with_evidence} of them with evidence: logits differ "
        f"by at most {found.logit_difference:.2g}{masks}"
    )
    if rounded is not None:
        moved = rounded.moved + rounded.moved_ties
        tokens = f", and {moved} of {rounded.tokens} tokens the part" if rounded.tokens else ""
        print(
            f"weights rounded to int8 after that: logits change by up to {rounded.logit_difference:.2g}; "
            f"{rounded.answers_changed} of {rounded.images} inputs change the answer{tokens}"
        )


def print_accuracy_change(found: "AccuracyChange") -> None:
    """Right answers of the model and of the file."""
    moved = f"; {found.moved / found.tokens:.2%} of the tokens changed part" if found.tokens else ""
    print(
        f"{found.split}, {_images(found.images)}: accuracy {found.accuracy:.4f} of the model, "
        f"{found.file_accuracy:.4f} of the file; {found.answers_changed} answers changed, "
        f"a logit by up to {found.logit_difference:.2g}{moved}"
    )


def show_progress(what: str) -> Any:
    """A function of (done, total) that draws a bar with images per second and the time left, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.1f} images/s, left"),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task(what, total=None, rate=0.0)

    def show(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total, rate=bar.tasks[0].speed or 0.0)
        if done >= total:
            bar.stop()

    return show


def report_progress(what: str, seconds: float = 60.0) -> Any:
    """The same; where there is no terminal, as in the log of a batch system, a line at most every so many seconds."""
    from time import monotonic

    if sys.stderr.isatty():
        return show_progress(what)
    start = shown = monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = monotonic()
        if done and now - shown >= seconds:
            shown, rate = now, done / (now - start)
            left = timedelta(seconds=round((total - done) / rate))
            print(f"{what}: {done} of {total}, {rate:.1f} images/s, {left} left", file=sys.stderr, flush=True)

    return show
