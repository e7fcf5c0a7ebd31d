"""Shards, one after the other: each appears whole, and what is there is not done again."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch

from ifam.data.files import batched
from ifam.data.tar import ImageFile
from ifam.device import resolve_precision
from ifam.errors import DataError, UnavailableError
from ifam.files import as_utf8, write_text
from ifam.model.base import Classifier
from ifam.predict import PredictedBatch, PredictionSettings, predict_batches, writer
from ifam.processes import ALONE, Processes
from ifam.sharding.image_list import ImageList
from ifam.sharding.manifest import SUCCESS, agreed_list, asked_for, check_own, lock_of
from ifam.temporaries import remove_leftovers
from ifam.training.lock import locked

Progress = Callable[[int, int], None]
"""(images done, images in all, which for tar files is estimated from those that were opened)"""


@dataclass(frozen=True, kw_only=True)
class ShardedPrediction:
    """What a process has done, and what is there now."""

    predicted: int
    """images, by this process in this call"""
    shards: int
    """in all"""
    missing: int
    """shards, which other processes have not written yet"""
    statuses: Mapping[str, int] | None
    """images by status, of all shards, where none is missing: every image of the list is there once"""


def predict_shards(
    model: Classifier,
    patterns: Sequence[str],
    folder: Path,
    *,
    settings: PredictionSettings | None = None,
    shard_size: int = 5000,
    processes: Processes = ALONE,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> ShardedPrediction:
    """Predict files, folders, globs and tar files into ``folder``, or go on with it; it returns when its share is done.

    ``patterns``: as for `ifam.data.find.find_images`. A batch never reaches into another shard, so that a shard does
    not depend on when the work was interrupted. The process that finishes last checks that every image is there once.
    ``skip_unreadable``: files that are gone or cannot be read now get their row as damaged ones do, for good.

    Raises:
        UsageError: an impossible argument, a folder with another prediction, or with one of the same rank going on.
        DataError: no images, other files than those that were listed, a damaged manifest, or a shard that does not
            hold what it should.
        UnavailableError: files that are gone or cannot be read now; what is written so far is gone on with.
        ProcessError: the first process has failed before it had listed the images, or does not come.
        MovedError: the folder was deleted or moved away meanwhile.
    """
    settings = settings or PredictionSettings()
    # "auto" is another one on another machine
    settings = replace(settings, precision=resolve_precision(settings.precision, torch.device(device).type))
    settings.interventions_on(model)  # refused before the work
    asked = asked_for(model, patterns, settings, shard_size)
    check_own(folder)
    with locked(lock_of(folder, processes.rank)):
        images = agreed_list(folder, asked, processes)
        remove_leftovers(folder)
        missing = _missing(folder, images)
        todo = [number for number in processes.share_of(len(images)) if number in missing]
        batches = _Batches(images, todo, batch_size, skip_unreadable=skip_unreadable)
        found = predict_batches(model, batches, settings, workers=workers, device=device)
        done = 0
        for number, group in groupby(found, key=lambda _: batches.next_shard()):
            batches.require_found(number)
            with writer(part(folder, number)) as write:
                for batch in group:
                    if not skip_unreadable:
                        _require_available(images, number, batch)
                    for row in batch.rows:
                        write(row)
                    done += len(batch.rows)
                    if progress is not None:
                        progress(done, batches.expected_images())
        missing = _missing(folder, images)
        statuses = None if missing else _conclude(folder, images, skip_missing=skip_unreadable)
    return ShardedPrediction(predicted=done, shards=len(images), missing=len(missing), statuses=statuses)


def _require_available(images: ImageList, number: int, found: PredictedBatch) -> None:
    """Refuse rows of images of which nothing is known, since the system did not give them: a shard is for ever."""
    gone = [each for each in found.batch.unreadable if each.transient]
    if gone:
        count = max(len(gone), images.count_gone(number))
        raise UnavailableError(
            f"{gone[0].message}; shard {number} is not written, since {count} of its images could not be read now"
        )


def part(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"part-{number:05d}.parquet"


def _missing(folder: Path, images: ImageList) -> set[int]:
    there = {path.name for path in folder.glob("part-*.parquet")}
    return {number for number in range(len(images)) if part(folder, number).name not in there}


class _Batches:
    """The batches of some shards, found as they are asked for, and the shard of each."""

    def __init__(
        self, images: ImageList, shards: Sequence[int], batch_size: int, *, skip_unreadable: bool = False
    ) -> None:
        self.images, self.shards, self.batch_size, self.skip = images, shards, batch_size, skip_unreadable
        self._asked: deque[int] = deque()
        self._faults: dict[int, DataError] = {}
        self._shards_opened = self._images_found = 0

    def __iter__(self) -> Iterator[list[ImageFile]]:
        for number in self.shards:
            images = self._found(number)
            self._shards_opened += 1
            self._images_found += len(images)
            for batch in batched(images, self.batch_size) if images else [[]]:  # an empty shard is written, too
                self._asked.append(number)
                yield batch

    def _found(self, number: int) -> list[ImageFile]:
        """The images of a shard. What is wrong with it waits for its turn: the ones before it are not written yet."""
        try:
            self.images.require_unchanged(number, skip_missing=self.skip)
            return self.images.shard(number, skip_missing=self.skip)
        except DataError as error:
            self._faults[number] = error
            return []

    def require_found(self, number: int) -> None:
        """Raise what was wrong with the shard when it was opened."""
        if number in self._faults:
            raise self._faults[number]

    def next_shard(self) -> int:
        """The shard of the first batch that was not asked about yet."""
        return self._asked.popleft()

    def expected_images(self) -> int:
        """Of all shards, as if the others were as large as those opened so far."""
        return round(self._images_found * len(self.shards) / self._shards_opened)


def _conclude(folder: Path, images: ImageList, *, skip_missing: bool) -> dict[str, int]:
    """Check that the shards hold every image of the list once and in order, count them, and say so in a file."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    statuses: Counter[str] = Counter()
    for number in range(len(images)):
        path = part(folder, number)
        try:
            rows = read_table(path, columns=["path", "status"])
        except (OSError, ArrowException) as error:
            raise DataError(
                f"{path}: expected a shard, got one that cannot be read; delete it and call again"
            ) from error
        if rows["path"].to_pylist() != [as_utf8(image) for image in images.shard(number, skip_missing=skip_missing)]:
            raise DataError(f"{path}: expected each of its images once, got others; delete it and call again")
        statuses.update(rows["status"].to_pylist())
    lines = [f"{status}: {count}\n" for status, count in sorted(statuses.items())]
    write_text(folder / SUCCESS, f"images: {statuses.total()}\n{''.join(lines)}")
    return dict(statuses)
