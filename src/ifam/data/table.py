"""Images with their labels, groups, splits and annotations, whatever layout they came in."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ifam.data.account import Account, Entry, Fate, account_of
from ifam.data.names import nfc
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
    unit: str | None = None  # images of one unit, as of one patient, stay in one split


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """A data set on disk."""

    root: Path
    layout: str
    class_names: tuple[str, ...]
    group_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    samples: tuple[Sample, ...]
    listed_in: Path | None = None
    """the table of which the samples are the rows, where it is one that they were read from"""
    split_by: str | None = None
    """what the units of the samples are: a column of that table, or folder"""
    account: Account = field(default_factory=Account)
    """what was left out, linked, duplicated, renamed or re-split on the way to these samples"""

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

    def with_units(self, units: Mapping[str, str], split_by: str | None) -> "ImageTable":
        """The same images with their units, by image name; one without, or with an empty one, is on its own."""
        samples = tuple(replace(sample, unit=units.get(sample.name) or None) for sample in self.samples)
        return replace(self, samples=samples, split_by=split_by)

    def without_groups(self) -> "ImageTable":
        """The same images, of whose groups nothing is known."""
        return replace(self, group_names=(), samples=tuple(replace(sample, group=None) for sample in self.samples))

    def with_splits(self, *, seed: int, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)) -> "ImageTable":
        """Data without splits shared out into train, val and test, group by group (class by class if it has none).

        Of units each is in one split, and they are shared out class by class where ``split_by`` names them.
        """
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

        Splits that the data has of its own stay as they are, but for the validation images that the run took out of
        its training split. Data that shares no image with the run stays as it is.
        """
        known = {nfc(name): split for name, split in splits.items()}
        if known.keys().isdisjoint(nfc(sample.name) for sample in self.samples):
            return self
        has_validation = "val" in self.splits

        def split(sample: Sample) -> str:
            run_split = known.get(nfc(sample.name))
            if sample.split is None:
                return run_split or "test"
            held_out = (sample.split, run_split, has_validation) == ("train", "val", False)
            return "val" if held_out else sample.split

        made = tuple(replace(sample, split=split(sample)) for sample in self.samples)
        moved = Counter(new.split for new, old in zip(made, self.samples, strict=True) if new.split != old.split)
        counts = {name: moved[name] for name in SPLITS if moved[name]}
        resplit = account_of([Entry(fate=Fate.RESPLIT, reason="as the run has split them", counts=counts)])
        return replace(self, samples=made, account=self.account + resplit)

    def align(self, class_names: Sequence[str]) -> "ImageTable":
        """The same images labelled in a model's class order, by name; the data may have a part of the classes."""
        known = {nfc(name): index for index, name in enumerate(class_names)}
        unknown = [name for name in self.class_names if nfc(name) not in known]
        if unknown:
            raise DataError(
                f"{self.root}: expected classes that the model knows ({listed(class_names)}), "
                f"got also {listed(unknown)}; rename or remove them"
            )
        samples = tuple(replace(sample, label=known[nfc(self.class_names[sample.label])]) for sample in self.samples)
        return replace(self, class_names=tuple(class_names), samples=samples)

    def align_groups(self, group_names: Sequence[str]) -> "ImageTable":
        """The same images with the given groups first, by name; groups that only the data has follow."""
        known = {nfc(name): name for name in (*self.group_names, *group_names)}  # as the model writes them
        names = tuple(dict.fromkeys((*group_names, *(known[nfc(name)] for name in self.group_names))))
        order = [names.index(known[nfc(name)]) for name in self.group_names]
        samples = tuple(
            sample if sample.group is None else replace(sample, group=order[sample.group]) for sample in self.samples
        )
        return replace(self, group_names=names, samples=samples)

    def _resplit(self, samples: Sequence[Sample], seed: int, fractions: tuple[float, float, float]) -> "ImageTable":
        strata = {sample.name: self._stratum(sample) for sample in samples}
        units = {sample.name: sample.unit for sample in samples if sample.unit}
        splits = stratified_splits(strata, units=units, seed=seed, fractions=fractions)
        if fractions[1] and "val" not in splits.values():
            raise DataError(f"{self.root}: {self._too_few(splits, units)}")
        return replace(
            self, samples=tuple(replace(sample, split=splits.get(sample.name, sample.split)) for sample in self.samples)
        )

    def _too_few(self, names: Collection[str], units: Mapping[str, str]) -> str:
        what = "group" if self.group_names and not self.split_by else "class"
        if not units:
            return (
                f"expected two images of at least one {what}, to train on one and validate on the other, "
                f"got {len(names)} images, each of a {what} of its own; add images"
            )
        kind = f"units (by {self.split_by})" if self.split_by else "images that are not copies of each other"
        count = len({units.get(name, name) for name in names})
        return (
            f"expected two {kind} of at least one {what}, to train on one and validate on the other, got {count} in "
            f"{len(names)} images; add images"
        )

    def _stratum(self, sample: Sample) -> str:
        by_group = sample.group is not None and not self.split_by
        return f"{self.class_names[sample.label]}/{self.group_names[sample.group or 0] if by_group else ''}"


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
