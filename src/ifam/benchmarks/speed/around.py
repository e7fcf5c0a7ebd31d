"""What is timed around the model: several processes on one machine, and the loader of the images."""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from ifam.benchmarks.speed.cases import Bench, Measurement, Setting, make_images, make_mask, make_model
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable, table_of_files
from ifam.device import arithmetic
from ifam.preprocessing import Preprocessing

PHOTOGRAPH = (500, 375)
"""width and height in pixels, as in ImageNet and CUB"""


def processes(setting: Setting, bench: Bench) -> Measurement:
    """The whole model in one process with all cores, and in several that share them."""
    cores = os.cpu_count() or 1
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= cores]
    seconds = {f"{count} processes": _together(setting, bench.rounds, count, cores // count) for count in counts}
    numbers = {f"images/s, {side}": len(setting.kept) / median(times) for side, times in seconds.items()}
    return Measurement(case="processes", setting=setting, images=len(setting.kept), seconds=seconds, numbers=numbers)


def _together(setting: Setting, rounds: int, count: int, threads: int) -> list[float]:
    """Seconds of a batch of each process in every round, divided by the number of processes at work meanwhile."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(count, mp_context=context) as pool:
        work = partial(_answer_batches, setting, rounds, threads, manager.Barrier(count))
        found = list(pool.map(work, range(count)))
    return [max(times) / count for times in zip(*found, strict=True)]


def _answer_batches(setting: Setting, rounds: int, threads: int, ready: Any, number: int) -> list[float]:
    torch.set_num_threads(threads)
    model = make_model(setting, "cpu")
    images, mask = make_images(setting, "cpu"), make_mask(model, setting, "cpu")
    seconds = []
    with torch.inference_mode(), arithmetic(setting.precision, torch.device("cpu")):
        model(images, mask=mask)
        for _ in range(rounds):
            ready.wait()
            start = time.perf_counter()
            model(images, mask=mask)
            seconds.append(time.perf_counter() - start)
    return seconds


def loading(setting: Setting, bench: Bench) -> Measurement:
    """The loader of training images, views included, by the number of its processes."""
    counts = [count for count in (0, 1, 2, 4, 8, 16) if count <= (os.cpu_count() or 1)]
    with tempfile.TemporaryDirectory() as folder:
        table = _photographs(Path(folder), count=64)
        seconds = {f"{count} workers": _load(table, setting, count, bench.rounds) for count in counts}
    numbers = {f"images/s, {side}": len(table.samples) / median(times) for side, times in seconds.items()}
    return Measurement(case="loading", setting=setting, images=len(table.samples), seconds=seconds, numbers=numbers)


def _photographs(folder: Path, count: int) -> ImageTable:
    """JPEG files of noise that is smooth enough to compress as photographs do."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(path, quality=90)
    table = table_of_files(paths, class_names=("one", "other"))
    return replace(table, samples=tuple(replace(sample, split="train") for sample in table.samples))


def _load(table: ImageTable, setting: Setting, workers: int, rounds: int) -> list[float]:
    """Seconds of each pass over the table, after one that does not count."""
    data = ImageDataModule(
        table,
        Preprocessing(image_size=(setting.image_size, setting.image_size)),
        augmentation="birds",
        batch_size=len(setting.kept),
        workers=workers,
        seed=0,
    )
    loader, seconds = data.train_dataloader(), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _batch in loader:
            pass
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
