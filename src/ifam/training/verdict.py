"""What a run that has ended is worth, by its validation images."""

from dataclasses import replace
from typing import Any

from ifam.background import Background, BackgroundObserver, drawn, evaluate_with_background
from ifam.config import TrainingConfig
from ifam.data.table import ImageTable, evenly_spaced
from ifam.device import pick_device
from ifam.evaluate import Progress
from ifam.model.base import Classifier
from ifam.storage import load
from ifam.training.run import TrainingResult
from ifam.verdict import Statement, judge_model

MOST_IMAGES = 2000
"""of the validation split"""


def judge_run(
    trained: TrainingResult, config: TrainingConfig, *, check_background: bool, progress: Progress | None = None
) -> list[Statement]:
    """The verdict on the best model of a run, by at most `MOST_IMAGES` validation images of its data.

    What the background tells is asked of the same images; of training images where these are too few.

    Raises:
        KeyboardInterrupt: stopped by Ctrl-C; the message says that the run is complete.
    """
    model, splits = load(trained.folder), trained.table
    samples = evenly_spaced(splits.select("val").samples, MOST_IMAGES)
    enough = bool(drawn(samples))
    options: dict[str, Any] = {
        "with_keypoint_error": False,
        "batch_size": config.optimizer.batch_size,
        "workers": config.workers,
        "device": pick_device(config.device),
        "precision": config.precision,
        "skip_unreadable": config.skip_unreadable,
        "progress": progress,
    }
    try:
        evaluation, background = evaluate_with_background(
            model,
            replace(splits, samples=tuple(samples)),
            split="val",
            check_background=check_background and enough,
            **options,
        )
        if check_background and not enough:
            background = _of_training(model, splits, options)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"interrupted; {trained.folder} is complete, ifam evaluate says what it is worth"
        ) from stop
    return judge_model(model, evaluation, background)


def _of_training(model: Classifier, splits: ImageTable, options: dict[str, Any]) -> Background | None:
    """What the background of training images tells; as many as are drawn are read."""
    samples = splits.select("train").samples
    observer = BackgroundObserver(model, samples)
    if not observer.wanted:
        return observer.background("train")
    some = replace(splits, samples=tuple(samples[row] for row in sorted(observer.wanted)))
    return evaluate_with_background(model, some, split="train", **options)[1]
