"""The loader of every command: batches of images, read by this process or by workers."""

import warnings
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ifam.data.batch import Batch, Item, Unreadable
from ifam.data.handover import collate_and_hand_over
from ifam.data.workers import attach_to_main, awaiting, check_workers, name_deaths_anywhere, starting


class Loader(DataLoader[Item | Unreadable]):
    """Iterates over `Batch`; it waits for no worker without an end.

    ``persistent``: the workers stay from one iteration to the next. ``seed``: of what workers draw at random.

    Raises:
        UsageError: an impossible number of workers.
        WorkerError: while it is iterated, in the main thread at any moment: a worker that was killed, or that cannot
            be started, or that gives no batch.
    """

    def __init__(
        self,
        dataset: Dataset[Item | Unreadable],
        batches: Iterable[Any],
        *,
        workers: int,
        persistent: bool = False,
        seed: int = 0,
    ) -> None:
        check_workers(workers)
        # the number of workers is the user's choice
        warnings.filterwarnings("ignore", message="This DataLoader will create", module="torch.utils.data")
        super().__init__(
            dataset,
            batch_sampler=batches,  # any iterable will do
            num_workers=workers,
            collate_fn=collate_and_hand_over,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=persistent and workers > 0,
            worker_init_fn=attach_to_main,
            # without one of its own a loader draws from torch's global generator whenever it is iterated
            generator=torch.Generator().manual_seed(seed),
        )
        self._started: set[BaseProcess] = set()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.num_workers == 0:
            return super().__iter__()
        with starting(self.num_workers) as started:
            batches = super().__iter__()
        self._started = started or self._started  # persistent ones started before
        name_deaths_anywhere()
        return _in_time(batches, self._started)


def _in_time(batches: Iterator[Batch], workers: set[BaseProcess]) -> Iterator[Batch]:
    while True:
        with awaiting(workers):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
