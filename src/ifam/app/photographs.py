"""Where photographs come from: a file that was dropped, or the test split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ImageOps

from ifam.app.pictures import Pixels
from ifam.app.question import Question
from ifam.data.images import open_image
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError
from ifam.explanations.explanation import explain
from ifam.model.two_stage import IFAM

EXAMPLES, THUMBNAIL = 8, 112


def ask_file(model: IFAM, path: Path) -> Question:
    """The question about a file.

    Raises:
        DataError: no image, or one of too many pixels; the message names the file, not its folder.
    """
    try:
        return Question(whole=explain(model, path), num_parts=model.num_parts)
    except DataError as error:
        raise DataError(str(error).replace(str(path), path.name)) from None


def example_samples(table: ImageTable, count: int = EXAMPLES) -> list[Sample]:
    """Test images of every class and group in turn."""
    seen: dict[tuple[int, int | None], int] = {}

    def turn(sample: Sample) -> int:
        key = (sample.label, sample.group)
        seen[key] = seen.get(key, 0) + 1
        return seen[key]

    turns = [(turn(sample), sample) for sample in table.select("test").samples]
    return [sample for _, sample in sorted(turns, key=lambda pair: pair[0])[:count]]


def thumbnails(samples: Sequence[Sample]) -> dict[str, Pixels]:
    """Small squares to choose from, by name.

    Raises:
        DataError: an image that cannot be read.
    """
    size = (THUMBNAIL, THUMBNAIL)
    return {sample.name: np.asarray(ImageOps.fit(open_image(sample.path), size)) for sample in samples}
