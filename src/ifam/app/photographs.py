"""Where photographs come from: a file that was dropped, or the test split."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Semaphore, Thread

import numpy as np
from PIL import Image, ImageOps

from ifam.app.pictures import Pixels
from ifam.app.question import Question
from ifam.data.images import open_image
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError, UsageError
from ifam.explanations.explanation import explain
from ifam.model.two_stage import IFAM

EXAMPLES, THUMBNAIL = 8, 112
READERS, READING_SECONDS, LOOK_SECONDS = 4, 30, 0.2
"""how many read at a time, how long one may take, and how often is looked whether it is still wanted"""


def ask_file(model: IFAM, path: Path) -> Question:
    """The question about a file.

    Raises:
        DataError: no image, or one of too many pixels; the message names the file, not its folder.
    """
    return ask_image(model, read_photograph(path))


def ask_image(model: IFAM, image: Image.Image) -> Question:
    """The question about an image in memory."""
    return Question(whole=explain(model, image), num_parts=model.num_parts)


def read_photograph(path: Path) -> Image.Image:
    """The image in a file, as `open_image`; errors name the file, not its folder."""
    try:
        return open_image(path)
    except DataError as error:
        raise DataError(str(error).replace(str(path), path.name)) from None


class Readers:
    """Some threads that read photographs, so that one that takes long keeps nobody else waiting.

    No thread keeps this process from ending, which would wait for the slowest photograph.
    """

    def __init__(self, count: int = READERS) -> None:
        self._free = Semaphore(count)

    def read(
        self, path: Path, *, seconds: float = READING_SECONDS, goes_on: Callable[[], bool] = lambda: True
    ) -> Image.Image:
        """As `read_photograph`, within some seconds, and while ``goes_on()``.

        Raises:
            DataError: no image, or it takes too long; what a thread has begun, it ends.
            UsageError: it no longer goes on.
        """
        reading: Future[Image.Image] = Future()
        Thread(target=self._read_into, args=(reading, path), daemon=True).start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and goes_on():
            with suppress(TimeoutError):
                return reading.result(min(seconds, LOOK_SECONDS))
        reading.cancel()
        if not goes_on():
            raise UsageError("stopped: the page is closed")
        raise DataError(
            f"{path.name}: expected a photograph that is read within {seconds:g} s, got one that takes longer, or "
            "others before it; save it anew as JPEG or PNG, or try again later"
        )

    def _read_into(self, reading: "Future[Image.Image]", path: Path) -> None:
        with self._free:
            if reading.set_running_or_notify_cancel():
                try:
                    reading.set_result(read_photograph(path))
                except BaseException as error:
                    reading.set_exception(error)


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
