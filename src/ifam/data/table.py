"""Images with their labels, groups, splits and annotations, whatever layout they came in."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.data.splits import SPLITS, stratified_splits
from ifam.errors import DataError, UsageError
from ifam.files import listed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image and what is known about it; ``None`` where nothing is."""

    path: Path
    name: str  # relative to the root of the data, with forward slashes
    label: int  # index into class_names
    split: str | None = None  # train, val or test
    group: int | None = None  # index into group_names
    mask: Path | RunLengths | None = None
    keypoints: Mapping[str, tuple[float, float]] | None = None  # visible ones: name -> (x, y) in pixels
    box: Box | None = None
    given_mask: Path | RunLengths | Box | None = None  # for models that are told where to look


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """A data set on disk."""

    root: Path
    layout: str
    class_names: tuple[str, ...]
    group_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold an image; empty where the data has none."""
        present = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in present)

    @property
    def has_masks(self) -> bool:
        """Whether every image has a mask."""
        return bool(self.samples) and all(sample.mask for sample in self.samples)

    @property
    def has_keypoints(self) -> bool:
        """Whether any image has a visible keypoint."""
        return any(sample.keypoints for sample in self.samples)

    def select(self, split: str) -> "ImageTable":
        """The images of one split; all of them where the data has no splits, which may be a test set alone."""
        if split not in SPLITS:
            raise UsageError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        if not self.splits:
            return self
        if split not in self.splits:
            raise DataError(
                f"{self.root}: expected a {split} split, got {', '.join(self.splits)}; add images for {split}, or ask "
                "for another split (--split of ifam evaluate and report)"
            )
        return replace(self, samples=tuple(sample for sample in self.samples if sample.split == split))

    def class_counts(self) -> dict[str, int]:
        """Images per class, zeros included."""
        return _counts(self.class_names, (sample.label for sample in self.samples))

    def group_counts(self) -> dict[str, int]:
        """Images per group, zeros included; images of unknown group are in none."""
        return _counts(self.group_names, (sample.group for sample in self.samples))

    def with_splits(self, *, seed: int, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)) -> "ImageTable":
        """Data without splits shared out into train, val and test, group by group (class by class if it has none)."""
        if self.splits:
            raise DataError(f"{self.root}: expected data without splits, got {', '.join(self.splits)}; use these")
        return self._resplit(self.samples, seed, fractions)

    def with_validation(self, *, seed: int, fraction: float = 0.1) -> "ImageTable":
        """A share of the training images becomes the validation split, group by group."""
        if "val" in self.splits:
            raise DataError(f"{self.root}: expected data without a val split, got one; use it")
        return self._resplit(self.select("train").samples, seed, (1 - fraction, fraction, 0.0))

    def with_known_splits(self, splits: Mapping[str, str]) -> "ImageTable":
        """The splits that a run once made of this data, by image name; new images without a split count as test.

        Data that shares no image's name with the run stays as it is.
        """
        if splits.keys().isdisjoint(sample.name for sample in self.samples):
            return self
        return replace(
            self,
            samples=tuple(
                replace(sample, split=splits.get(sample.name, sample.split or "test")) for sample in self.samples
            ),
        )

    def align(self, class_names: Sequence[str]) -> "ImageTable":
        """The same images labelled in a model's class order, by name; the data may have a part of the classes."""
        known = {name: index for index, name in enumerate(class_names)}
        unknown = [name for name in self.class_names if name not in known]
        if unknown:
            raise DataError(
                f"{self.root}: expected classes that the model knows ({listed(class_names)}), "
                f"got also {listed(unknown)}; rename or remove them"
            )
        samples = tuple(replace(sample, label=known[self.class_names[sample.label]]) for sample in self.samples)
        return replace(self, class_names=tuple(class_names), samples=samples)

    def align_groups(self, group_names: Sequence[str]) -> "ImageTable":
        """The same images with the given groups first, by name; groups that only the data has follow."""
        names = tuple(dict.fromkeys((*group_names, *self.group_names)))
        order = [names.index(name) for name in self.group_names]
        samples = tuple(
            sample if sample.group is None else replace(sample, group=order[sample.group]) for sample in self.samples
        )
        return replace(self, group_names=names, samples=samples)

    def _resplit(self, samples: Sequence[Sample], seed: int, fractions: tuple[float, float, float]) -> "ImageTable":
        strata = {sample.name: self._stratum(sample) for sample in samples}
        splits = stratified_splits(strata, seed=seed, fractions=fractions)
        if fractions[1] and "val" not in splits.values():
            what = "group" if self.group_names else "class"
            raise DataError(
                f"{self.root}: expected two images of at least one {what}, to train on one and validate on the other, "
                f"got {len(splits)} images, each of a {what} of its own; add images"
            )
        return replace(
            self, samples=tuple(replace(sample, split=splits.get(sample.name, sample.split)) for sample in self.samples)
        )

    def _stratum(self, sample: Sample) -> str:
        group = "" if sample.group is None else self.group_names[sample.group]
        return f"{self.class_names[sample.label]}/{group}"


def _counts(names: Sequence[str], indices: Iterable[int | None]) -> dict[str, int]:
    counts = Counter(indices)
    return {name: counts[index] for index, name in enumerate(names)}


def table_of_files(paths: Sequence[Path], class_names: Sequence[str]) -> ImageTable:
    """Images of which nothing is known but where they are; the class is the first for all."""
    samples = tuple(Sample(path=path, name=path.name, label=0) for path in paths)
    return ImageTable(root=Path(), layout="files", class_names=tuple(class_names), samples=samples)


def evenly_spaced(items: Sequence[T], count: int | None) -> Sequence[T]:
    """So many of them from the first to the last; all where there are no more, or with None."""
    if count is None or count >= len(items):
        return items
    return [items[index * len(items) // count] for index in range(count)]
