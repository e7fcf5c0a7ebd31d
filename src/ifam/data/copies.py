"""Images that are there more than once: files of the same content, whatever they are called."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ifam.data.account import Account, Entry, Fate, account_of
from ifam.data.table import ImageTable, Sample
from ifam.files import open_file

T = TypeVar("T", bound=Hashable)
Content = tuple[int, str]
"""bytes of a file, and their BLAKE2b digest"""
Copies = Sequence[Sequence[Sample]]
"""images of the same content, set by set"""
_END = 4096  # bytes
_SHOWN = 5


def contents_of(samples: Iterable[Sample]) -> dict[str, Content]:
    """The content of every image by its name, for which each file is read once; without those that cannot be."""
    paths = {sample.name: sample.path for sample in samples}
    found = _of_each(paths.values(), _content)
    return {name: content for name, content in zip(paths, found, strict=True) if content is not None}


def copies_of(samples: Iterable[Sample], contents: Mapping[str, Content] | None = None) -> Copies:
    """Sets of images of the same content, in the order of ``samples``; rows that repeat a name count as one image.

    Without ``contents``, files are told apart by their size, then by their ends, and read as a whole only where both
    agree.
    """
    images: dict[str, Sample] = {}
    for sample in samples:
        images.setdefault(sample.name, sample)
    sets: Copies = [list(images.values())]
    if contents is not None:
        return [part for each in sets for part in _parts(each, [contents.get(sample.name) for sample in each])]
    keys: tuple[Callable[[Path], Hashable], ...] = (_size, _ends, _content)
    for key in keys:
        sets = [part for each in sets for part in _parts(each, _of_each([sample.path for sample in each], key))]
    return sets


def duplicated(copies: Copies, class_names: Sequence[str]) -> Account:
    """How many images are copies of another, by their classes."""
    counts = Counter(class_names[sample.label] for found in copies for sample in found[1:])
    return account_of([Entry(fate=Fate.DUPLICATED, reason="copies of other images", counts=counts)])


def in_two_classes(copies: Copies) -> str:
    """A line about images that have a copy with another label; empty where there are none."""
    return _line(copies, "classes", lambda sample: sample.label)


def in_two_splits(copies: Copies) -> str:
    """A line about images that have a copy in another split; empty where there are none."""
    return _line(copies, "splits", lambda sample: sample.split)


def keep_together(table: ImageTable, copies: Copies) -> ImageTable:
    """The table with the copies of an image in one unit, together with the units that they were in before."""
    joined = _joined([sample.unit or sample.name for sample in found] for found in copies)
    units = {sample.name: joined.get(sample.unit or sample.name, sample.unit or "") for sample in table.samples}
    return table.with_units(units, table.split_by)


def _joined(sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """One of its names for all names that are linked through sets."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for first, *others in sets:
        for other in others:
            leader[find(other)] = find(first)
    return {name: find(name) for name in list(leader)}


def _parts(samples: Sequence[Sample], keys: Sequence[Hashable]) -> list[Sequence[Sample]]:
    """Those of the same key together, where there are several of it."""
    parts: dict[Hashable, list[Sample]] = {}
    for sample, key in zip(samples, keys, strict=True):
        if key is not None:
            parts.setdefault(key, []).append(sample)
    return [part for part in parts.values() if len(part) > 1]


def _of_each(paths: Iterable[Path], key: Callable[[Path], T]) -> list[T | None]:
    """The key of each file, of several at a time, since disks may be far away; None of one that cannot be read."""

    def ask(path: Path) -> T | None:
        try:
            return key(path)
        except OSError:
            return None

    with ThreadPoolExecutor() as threads:
        return list(threads.map(ask, paths))


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _ends(path: Path) -> bytes:
    with open_file(path) as file:
        start = file.read(_END)
        file.seek(-min(_END, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return start + file.read(_END)


def _content(path: Path) -> Content:
    with open_file(path) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return file.tell(), digest.hexdigest()


def _line(copies: Copies, what: str, key: Callable[[Sample], Hashable]) -> str:
    differing = [found for found in copies if len({key(sample) for sample in found}) > 1]
    if not differing:
        return ""
    named = [" and ".join(sample.name for sample in found) for found in differing[:_SHOWN]]
    more = [f"{len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
    return f"{sum(map(len, differing))} images are in two {what}: {'; '.join([*named, *more])}"
