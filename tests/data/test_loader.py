import errno
import os
import pickle
import signal
import time
from collections.abc import Iterator
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_image
from torch import Tensor

from ifam.data import workers
from ifam.data.batch import Batch, Unreadable
from ifam.data.files import FileDataset, batched, read_batches
from ifam.data.handover import Parcel, unpack
from ifam.errors import WorkerError
from ifam.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(image_size=(32, 32))


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    return [write_image(tmp_path / f"{n}.png", random.integers(0, 256, (32, 32, 3))) for n in range(8)]


def read(photographs: list[Path], number: int = 2) -> Iterator[Batch]:
    return (batch for _, batch in read_batches(batched(photographs, 2), PREPROCESSING, workers=number))


def assert_equal(one: Batch, other: Batch) -> None:
    for each in fields(Batch):
        value, expected = getattr(one, each.name), getattr(other, each.name)
        if isinstance(expected, Tensor):
            assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
            assert torch.equal(value, expected), each.name
        else:
            assert value == expected, each.name


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs anonymous memory")
@pytest.mark.parametrize("images", [3, 0])
def test_a_parcel_is_the_batch_when_it_is_opened(images: int) -> None:
    numbers = torch.arange(images)
    batch = Batch(
        images=torch.rand(images, 3, 5, 7).transpose(2, 3),
        labels=numbers,
        groups=numbers - 1,
        indices=numbers,
        masks=torch.rand(images, 5, 7) > 0.5,
        keypoints=torch.empty(images, 0, 2),
        unreadable=(Unreadable("damaged", 7),),
    )
    opened = pickle.loads(ForkingPickler.dumps(Parcel(batch)))
    assert_equal(opened, batch)
    opened.images += 1  # it can be written to, as any tensor
    assert all(getattr(opened, each.name).data_ptr() % 64 == 0 for each in fields(Batch) if each.name == "images")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs anonymous memory")
def test_batches_need_no_shared_memory(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        os._exit(3)  # where torch would print, lose the batch and have the main process wait for ever

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", full)
    for one, other in zip(read(photographs), read(photographs, 0), strict=True):
        assert_equal(one, other)


def in_worker(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Have each worker do something else at its second batch."""
    main, get = os.getpid(), FileDataset.__getitem__

    def get_or_act(dataset: FileDataset, asked: Any) -> Any:
        if os.getpid() != main and asked.image.name > "3":
            act()
        return get(dataset, asked)

    monkeypatch.setattr(FileDataset, "__getitem__", get_or_act)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_worker_that_is_killed(
    number: int, photographs: list[Path], monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    in_worker(monkeypatch, lambda: os.kill(os.getpid(), number))
    with refuses_line("workers: expected", "killed", "memory", "fewer --workers", "--batch-size", error=WorkerError):
        for _ in read(photographs):
            time.sleep(0.1)  # it may die while the main process waits for it, and while that does something else


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_that_is_killed_while_it_hands_over(error: Exception, refuses_line: Any) -> None:
    """Before the system says that it has ended, the main process meets a connection that is closed."""

    class OfKilled:
        def detach(self) -> int:
            raise error

    with refuses_line("workers: expected", "ended", "fewer --workers", error=WorkerError):
        unpack(OfKilled(), [])


def test_a_worker_that_ends(photographs: list[Path], monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    in_worker(monkeypatch, lambda: os._exit(0))
    with refuses_line("workers: expected", "ended", "fewer --workers", error=WorkerError):
        list(read(photographs))


def test_no_batch_is_waited_for_without_an_end(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    in_worker(monkeypatch, lambda: time.sleep(600))
    monkeypatch.setattr(workers, "LONGEST_WAIT", 3)
    with refuses_line("workers: expected a batch within 0.05 minutes", "--workers 0", error=WorkerError):
        list(read(photographs))


def test_workers_that_cannot_start(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch, refuses_line: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.multiprocessing, "Queue", full)
    with refuses_line("room for 2 loader processes", "--workers 0", "--shm-size", error=WorkerError):
        list(read(photographs))
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_list_of_images_stays_what_it_is(photographs: list[Path]) -> None:
    def broken() -> Iterator[list[Path]]:
        raise FileNotFoundError(errno.ENOENT, "No such file", "list.txt")
        yield []

    with pytest.raises(FileNotFoundError, match=r"list\.txt"):
        list(read_batches(broken(), PREPROCESSING, workers=2))
