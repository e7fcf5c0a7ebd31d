"""What the commands show: tables, lines and progress bars."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ifam.evaluate import Evaluation, GroupResult
    from ifam.intervene import Study
    from ifam.interventions import Trial
    from ifam.metrics.bootstrap import Interval
    from ifam.predict import PredictionRow


def print_evaluation(result: "Evaluation") -> None:
    """The numbers as a table, groups last."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=_heading(result), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    labels = {
        "accuracy": "accuracy (every image alike)",
        "average_accuracy": "average accuracy (by training group sizes)",
        "worst_group_accuracy": "worst-group accuracy",
        "auc": "AUC",
        "mean_kept": "share of the image seen by stage 2",
        "no_evidence": "images with no evidence",
        "foreground_iou": "foreground IoU (pooled)",
        "foreground_iou_per_image": "foreground IoU (mean over images)",
        "keypoint_error": "keypoint error (share of the box or image)",
    }
    numbers = result.numbers()
    for name, label in labels.items():
        if name in numbers:
            table.add_row(label, str(numbers[name]) if name == "no_evidence" else f"{numbers[name]:.3f}")
    for name, group in result.groups.items():
        table.add_row(escape(f"group {name}"), _accuracy(group))
    Console().print(table)


def _heading(result: "Evaluation") -> str:
    parts, quantile = (result.interventions.get(name) for name in ("remove_parts", "token_quantile"))
    removed = f", without parts {' '.join(map(str, parts))}" if parts else ""
    tokens = "" if quantile is None else f", q = {quantile:g}"
    return f"{result.split}: {result.num_samples} images{removed}{tokens}"


def _accuracy(group: "GroupResult") -> str:
    if group.accuracy is None:
        return "no images"
    return f"{group.accuracy:.3f} ({round(group.accuracy * group.count)}/{group.count})"


def print_study(study: "Study") -> None:
    """What was tried on the validation split, best first, and what the choice does on the test split."""
    columns = ("intervention", "worst group", "accuracy", "image seen")
    print_comparison(
        f"tried on {study.trials[0].num_samples} validation images, best first",
        columns,
        [_trial_cells(trial) for trial in study.trials],
    )
    rows = (
        [study.test_before] if study.chosen == study.test_before.intervention else [study.test_before, study.test_after]
    )
    print_comparison(
        f"chosen: {study.chosen}; on {study.test_before.num_samples} test images, with 95 % intervals over images",
        columns,
        [_trial_cells(trial) for trial in rows],
    )


def _trial_cells(trial: "Trial") -> tuple[str, ...]:
    return (
        str(trial.intervention),
        _with_interval(trial.worst_group_accuracy, trial.worst_group_interval),
        _with_interval(trial.accuracy, trial.accuracy_interval),
        f"{trial.mean_kept:.3f}",
    )


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
        table.add_row(*map(escape, row))
    Console().print(table)


def print_row(row: "PredictionRow") -> None:
    """One line for one file."""
    answer = "-" if row.label is None else f"{row.label} ({row.probability:.2f})"
    kept = "" if row.kept is None else f", {row.kept:.0%} of the image seen"
    note = "" if row.status == "ok" else f" [{row.status}]"
    print(f"{row.path}: {answer}{kept}{note}")


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
