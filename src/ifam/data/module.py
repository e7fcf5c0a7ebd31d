"""Loaders of a table for training and evaluation."""

from collections.abc import Iterable, Sequence
from typing import Any

from lightning import LightningDataModule, Trainer

from ifam.data.dataset import Draw, ImageDataset
from ifam.data.imagenet9 import LAYOUT as IMAGENET9
from ifam.data.loader import Loader
from ifam.data.sampler import EpochSampler, SharedBatches
from ifam.data.table import ImageTable
from ifam.data.transforms import IMAGE_ONLY, test_transform, train_transform
from ifam.data.workers import check_workers
from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing
from ifam.processes import ALONE, Processes

LARGEST_BATCH = 1_000_000


class ImageDataModule(LightningDataModule):
    """A training loader with random views, and loaders of any split with the test view in the order of the table.

    With ``annotations`` batches carry masks, keypoints and box sizes, but not in training with an augmentation for
    images alone (``imagenet``). ``draw_weights``: how often each training image is drawn, in the order of the table;
    each once if None. Several ``processes`` share every batch of ``batch_size`` in training, and in evaluation the
    images, each once, in batches of ``eval_batch_size`` for each of them; create the trainer with
    ``use_distributed_sampler=False``.
    """

    def __init__(
        self,
        table: ImageTable,
        preprocessing: Preprocessing,
        *,
        augmentation: str,
        batch_size: int,
        eval_batch_size: int | None = None,
        workers: int,
        seed: int,
        annotations: bool = False,
        draw_weights: Sequence[float] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.table = table
        self.batch_size = batch_size
        self.eval_batch_size = -(-batch_size // processes.size) if eval_batch_size is None else eval_batch_size
        self.processes = processes
        self.workers = workers
        self.seed = seed
        self.annotations = annotations
        self.draw_weights = draw_weights
        self._images_only = augmentation in IMAGE_ONLY
        self._train_transform = train_transform(preprocessing, augmentation)
        self._test_transform = test_transform(preprocessing)
        for size in (self.batch_size, self.eval_batch_size):
            if not 1 <= size <= LARGEST_BATCH:
                raise UsageError(f"batch size: expected at least 1 and at most {LARGEST_BATCH:,}, got {size}")
        check_workers(workers)
        if seed < 0:
            raise UsageError(f"seed: expected 0 or more, got {seed}")

    @classmethod
    def at_test_time(
        cls,
        table: ImageTable,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        workers: int = 0,
        annotations: bool = False,
        processes: Processes = ALONE,
    ) -> "ImageDataModule":
        """Of which `loader` alone is used: nothing is drawn at random. Images of ImageNet-9 come cut and stay whole."""
        return cls(
            table,
            preprocessing.whole() if table.layout == IMAGENET9 else preprocessing,
            augmentation="none",
            batch_size=batch_size,
            workers=workers,
            seed=0,
            annotations=annotations,
            processes=processes,
        )

    def train_dataloader(self) -> Loader:
        """Batches of random views; the last one is left out if it would hold a single image beside others."""
        dataset = ImageDataset(
            self.table.select("train"), self._train_transform, annotations=self.annotations and not self._images_only
        )
        sampler = EpochSampler(len(dataset), seed=self.seed, weights=self.draw_weights)
        if self.trainer:
            # Lightning sets the epoch as well, but after the workers of a resumed run have begun to read ahead
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            sampler.start_at(progress.processed, batches_done(self.trainer) * self.batch_size)
        alone = len(sampler) % self.batch_size == 1 and len(sampler) > self.batch_size
        return self._loader(dataset, sampler, self.batch_size, drop_last=alone)

    def val_dataloader(self) -> Loader:
        """The validation split."""
        return self.loader("val")

    def test_dataloader(self) -> Loader:
        """The test split."""
        return self.loader("test")

    def loader(self, split: str) -> Loader:
        """Every image of the split once, in order, as the model sees it at test time."""
        dataset = ImageDataset(self.table.select(split), self._test_transform, annotations=self.annotations)
        return self._loader(dataset, range(len(dataset)), self.eval_batch_size * self.processes.size)

    def _loader(
        self, dataset: ImageDataset, sampler: Iterable[int | Draw], batch_size: int, drop_last: bool = False
    ) -> Loader:
        batches = SharedBatches(
            sampler, batch_size, drop_last, rank=self.processes.rank, world_size=self.processes.size
        )
        return Loader(dataset, batches, workers=self.workers, persistent=True, seed=self.seed)


def batches_done(trainer: Trainer) -> int:
    """Batches that a run which was stopped within an epoch, and now goes on, has behind it in that epoch."""
    loop = trainer.fit_loop
    progress: Any = loop.epoch_loop.batch_progress.current
    return int(progress.processed) if loop.restarting else 0
