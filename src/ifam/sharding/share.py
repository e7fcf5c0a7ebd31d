"""Which of the shards are this process's own, as torchrun and batch systems say it: by the environment."""

import os
from dataclasses import dataclass

from ifam.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Share:
    """One of several processes that never talk to each other: of the shards, every n-th is its own."""

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"RANK and WORLD_SIZE: expected a rank from 0 to below the number of processes, got {self.rank} and "
                f"{self.world_size}"
            )

    def of(self, number: int) -> range:
        """The shards of this process, of ``number`` in all."""
        return range(self.rank, number, self.world_size)


def share_of_environment() -> Share:
    """By RANK and WORLD_SIZE; everything where they are not set."""
    return Share(rank=_number("RANK", 0), world_size=_number("WORLD_SIZE", 1))


def own_device(device: str) -> str:
    """The GPU of this process, where torchrun started one for each."""
    return f"cuda:{_number('LOCAL_RANK', 0)}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise UsageError(f"{name}: expected a whole number in the environment, got {value!r}") from error
