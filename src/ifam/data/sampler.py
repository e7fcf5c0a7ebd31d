"""The order of a training epoch, and the seed of every view in it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from ifam.data.dataset import Draw


class EpochSampler(Sampler[Draw]):
    """Every index once per epoch, shuffled; order and views follow from (seed, epoch) alone.

    With ``weights``, as many are drawn with replacement, each with a probability in proportion to its weight.

    So a run that was resumed sees what a straight run sees, with any number of workers. Lightning calls ``set_epoch``;
    ``start_at`` begins an epoch after the indices that were drawn before a run was stopped within it.
    """

    def __init__(self, size: int, *, seed: int, weights: Sequence[float] | None = None) -> None:
        self.size, self.seed = size, seed
        self.shares = None if weights is None else np.asarray(weights) / np.sum(weights)
        self.epoch, self.drawn = 0, 0

    def start_at(self, epoch: int, drawn: int) -> None:
        """The epoch that the next iteration is, and how many of its indices lie behind."""
        self.epoch, self.drawn = epoch, drawn

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is; from its beginning unless it was begun before."""
        if epoch != self.epoch:
            self.start_at(epoch, 0)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.shares is None:
            order = generator.permutation(self.size)
        else:
            order = generator.choice(self.size, self.size, p=self.shares)
        seeds = generator.integers(2**32, size=self.size)
        left = slice(self.drawn, None)
        return (Draw(int(index), int(seed)) for index, seed in zip(order[left], seeds[left], strict=True))


class SharedBatches(BatchSampler):
    """The batches that one process would see, and of each the share of this one: every ``world_size``-th image.

    All processes get as many batches; the share of a short last one may be empty.
    """

    def __init__(
        self, sampler: Any, batch_size: int, drop_last: bool = False, *, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[Any]]:
        return (batch[self.rank :: self.world_size] for batch in super().__iter__())
