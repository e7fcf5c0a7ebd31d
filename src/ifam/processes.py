"""Several processes with one job: which of them this is, and what they tell one another.

They are started by ``torchrun``, by SLURM's ``srun``, or by anything else that sets the same variables.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ifam.errors import IfamError, ProcessError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PORTS = 15_000
"""from here on: SLURM jobs take the port that the last digits of their number name"""
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL")
"""what errors of gloo and NCCL say where another process has ended"""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those with the same job. What is gathered comes in the order of their ranks.

    Raises:
        UsageError: a rank that is not one of them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """among those of this machine"""
    local_size: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and self.local_rank >= 0):
            raise UsageError(
                "processes: expected RANK and LOCAL_RANK from 0 to below WORLD_SIZE in the environment, got "
                f"{self.rank} and {self.local_rank} of {self.size}"
            )

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def share_of(self, number: int) -> range:
        """Of so many pieces of work those of this process: every n-th of n processes."""
        return range(self.rank, number, self.size)

    def gather(self, value: T) -> list[T]:
        """What every process has to say, in every process."""
        if not self.several:
            return [value]
        import torch.distributed

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> list[T]:
        """What each process makes of its work; if one of them fails, all do, with the error of the first that did.

        The work itself talks to no other process.
        """
        if not self.several:
            return [work()]
        result, error = None, None
        try:
            result = work()
        except Exception as caught:
            error = caught if isinstance(caught, IfamError) else ProcessError(f"{type(caught).__name__}: {caught}")
        found = self.gather((result, error))
        for _, failed in found:
            if failed is not None:
                failed.told = not self.is_first
                raise failed
        return [value for value, _ in found if value is not None]

    def first_alone(self, work: Callable[[], T]) -> list[T]:
        """What the first process makes of its work, while the others wait; if it fails, all do."""
        return self.together(lambda: work() if self.is_first else None)  # type: ignore[arg-type,return-value]

    def mean(self, values: "Mapping[str, Tensor]") -> "Mapping[str, Tensor]":
        """Of numbers with the same names in every process, without their gradients; as they are where there is one."""
        if not self.several:
            return values
        import torch

        sums = torch.stack([value.detach().float() for value in values.values()])
        torch.distributed.all_reduce(sums)
        return dict(zip(values, (sums / self.size).unbind(), strict=True))


ALONE = Processes()


@dataclass(kw_only=True)  # not frozen, as a batch is not
class Share:
    """Which images of a batch that several processes divide are this one's: those at rank, rank + processes, …

    ``counts``: how many images each process has of it; without any the batch is not divided. A process that has none
    computes with a stand-in, which weighs nothing.
    """

    counts: tuple[int, ...] = ()
    rank: int = 0

    def total(self, own: int) -> int:
        """Images of the batch, of which this process holds ``own``."""
        return sum(self.counts) or own

    def weigh(self, mean: "Tensor") -> "Tensor":
        """A mean over own images as a part of the mean over the batch: of these the mean over the processes is it."""
        if not self.counts:
            return mean
        return mean * (len(self.counts) * self.counts[self.rank] / max(1, sum(self.counts)))

    def whole(self, like: "Tensor") -> "Tensor":
        """An empty tensor as ``like`` (B, ...) would be for the batch, also in memory: noise is drawn in that order."""
        if not self.counts:
            return like
        strides = (like[0].numel(), *like.stride()[1:])
        return like.new_empty_strided((self.total(len(like)), *like.shape[1:]), strides)

    def own(self, values: "Tensor") -> "Tensor":
        """The rows of own images; of all processes together each row once."""
        return values[self._rows(self.rank) or [0]] if self.counts else values

    def in_order(self, values: "Tensor") -> "Tensor":
        """Values (B, ...) of every image of the batch in its order, which does not depend on the processes."""
        if not self.counts:
            return values
        places = [row for rank in range(len(self.counts)) for row in self._rows(rank)]
        everyone = self.all(values.detach())
        ordered = everyone.new_empty(everyone.shape)
        ordered[places] = everyone
        return ordered

    def _rows(self, process: int) -> list[int]:
        """Where in the batch the images of a process lie."""
        turns = range(self.counts[process])
        return [sum(min(n, turn + (rank < process)) for rank, n in enumerate(self.counts)) for turn in turns]

    def all(self, values: "Tensor") -> "Tensor":
        """Values (B, ...) of every image of the batch, process by process; the gradient reaches own images alone.

        It is larger by the number of processes, over which the mean of all gradients is taken afterwards.
        """
        if not self.counts:
            return values
        import torch
        import torch.distributed

        own = values[: self.counts[self.rank]]
        padded = values.new_zeros(max(self.counts), *values.shape[1:])
        padded[: len(own)] = own.detach()
        found = [torch.empty_like(padded) for _ in self.counts]
        torch.distributed.all_gather(found, padded)
        rows = [each[:count] for each, count in zip(found, self.counts, strict=True)]
        if own.requires_grad:
            rows[self.rank] = own + (len(self.counts) - 1) * (own - own.detach())
        return torch.cat(rows)


WHOLE = Share()


def started(*, talking: bool = True) -> Processes:
    """What torchrun or srun says of this process; alone where neither started it.

    ``talking``: whether the processes talk to each other; for those that only divide work among them RANK and
    WORLD_SIZE in the environment are enough.

    Raises:
        UsageError: variables that are no whole numbers, or a rank that is not one of the processes.
    """
    if all(name in os.environ for name in (VARIABLES if talking else VARIABLES[:2])):
        rank, size = _number("RANK"), _number("WORLD_SIZE")
        local_rank, local_size = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)
    elif _number("SLURM_STEP_NUM_TASKS", 1) > 1:
        rank, size, local_rank = (_number(f"SLURM_{name}") for name in ("PROCID", "STEP_NUM_TASKS", "LOCALID"))
        local_size = -(-size // _number("SLURM_STEP_NUM_NODES"))
    else:
        return ALONE
    return Processes(rank=rank, size=size, local_rank=local_rank, local_size=local_size)


def _number(name: str, default: int | None = None) -> int:
    value = os.environ.get(name, "nothing" if default is None else str(default))
    try:
        return int(value)
    except ValueError as error:
        raise UsageError(f"{name}: expected a whole number in the environment, got {value!r}") from error


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes of this job, able to talk: over gloo, and NCCL for what lies on GPUs.

    Raises:
        UsageError: machines with different numbers of processes.
    """
    processes = started()
    if processes.size % processes.local_size:
        raise UsageError(
            f"processes: expected as many on each machine, got {processes.size} with {processes.local_size} on this "
            "one; with srun use --ntasks-per-node"
        )
    if not processes.several:
        yield processes
        return
    import torch.distributed

    if torch.distributed.is_initialized():
        yield processes
        return
    os.environ.update(_variables(processes))
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    torch.distributed.init_process_group(backend, rank=processes.rank, world_size=processes.size)
    try:
        yield processes
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        lost = ProcessError(f"processes: expected all {processes.size} until the end, got one that ended; it says why")
        lost.told = not processes.is_first
        raise lost from error
    torch.distributed.destroy_process_group()  # not after an error, when others may wait for this one


def _variables(processes: Processes) -> dict[str, str]:
    """What torchrun sets, also where SLURM started the processes."""
    numbers = (processes.rank, processes.size, processes.local_rank, processes.local_size)
    found = {name: str(number) for name, number in zip(VARIABLES, numbers, strict=False)}
    found["GROUP_RANK"] = str(processes.rank // processes.local_size)
    if "MASTER_ADDR" not in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        found["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
    if "MASTER_PORT" not in os.environ:
        found["MASTER_PORT"] = str(PORTS + int(os.environ["SLURM_JOB_ID"]) % 10_000)
    return found
