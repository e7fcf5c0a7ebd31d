"""What this machine offers, and what a data set holds and hides."""

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from ifam.data.account import Account
from ifam.data.classes import named_as_missing
from ifam.data.copies import Copies, copies_of, in_two_classes, keep_together
from ifam.data.doubts import doubts_of_names
from ifam.data.images import BITS, open_image, too_dark
from ifam.data.masks import Coding, mask_warnings, open_mask, read_mask
from ifam.data.place import ClassByPlace, class_by_place
from ifam.data.repeats import two_labels
from ifam.data.table import ImageTable, Sample, evenly_spaced
from ifam.data.units import unit_like_folders, unit_like_groups
from ifam.errors import DataError
from ifam.files import listed

SMALL_GROUP = 20  # training images: below that, its accuracy hangs on a handful
SMALL_CLASS = 10  # training images
IMBALANCE = 10  # largest class over smallest
TELLING = 0.05  # how much more than the largest class alone the place has to tell, to be a shortcut
_SHOWN = 8  # small groups or classes that a line names
_PACKAGES = ("torch", "torchvision", "timm", "lightning")

Size = tuple[int, int]
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class ImageSizes:
    """(width, height) in pixels, each side on its own."""

    smallest: Size
    median: Size
    largest: Size


@dataclass(frozen=True, kw_only=True)
class DataDiagnosis:
    """What was understood of a data set; counts are split -> name -> images, with "all" where there are no splits."""

    root: str
    layout: str
    classes: Counts
    groups: Counts
    sizes: ImageSizes | None  # of the images that could be read
    num_images: int
    num_checked: int
    num_masks: int
    mask_codings: Mapping[str, int]  # how the masks that were read say what is foreground -> masks
    num_keypoints: int  # images with a visible keypoint
    num_boxes: int
    unreadable: tuple[str, ...]
    num_copies: int  # of other images, whatever they are called
    leaks: tuple[tuple[str, str], ...]  # the same file in two splits
    account: Account  # of what was not simply read as one image
    warnings: tuple[str, ...]
    class_by_place: ClassByPlace | None = None  # of the training images

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{self.root}: {self.num_images} images ({self.layout})",
            *_count_lines("classes", self.classes),
            *_count_lines("groups", self.groups),
            *_place_line(self.class_by_place),
            f"annotations: {self.num_masks} masks, {self.num_keypoints} images with keypoints, {self.num_boxes} boxes",
            *(f"masks, {count} of them: {coding}" for coding, count in self.mask_codings.items()),
            f"checked: {self.num_checked} images, {len(self.unreadable)} unreadable, {len(self.leaks)} in two splits",
            f"files: {self.account.line() or 'every file was read as one image'}",
            *([f"copies: {self.num_copies} of other images"] if self.num_copies else []),
        ]
        if self.sizes:
            smallest, middle, largest = (
                f"{width} × {height}" for width, height in (self.sizes.smallest, self.sizes.median, self.sizes.largest)
            )
            lines.append(f"image size: from {smallest} to {largest}, median {middle}")
        lines += [f"unreadable: {message}" for message in self.unreadable]
        lines += [f"in two splits: {first} and {second}" for first, second in self.leaks]
        return lines + [f"warning: {warning}" for warning in self.warnings]


def diagnose_data(
    table: ImageTable, *, max_images: int | None = None, progress: Callable[[int, int], None] | None = None
) -> DataDiagnosis:
    """Reads every image and mask, or ``max_images`` of them evenly spaced; ``progress`` is told (done, total)."""
    chosen = evenly_spaced(table.samples, max_images)
    found: list[_Found] = []
    unreadable: list[str] = []
    readable: list[Sample] = []
    for done, sample in enumerate(chosen, start=1):
        try:
            found.append(_check(sample))
            readable.append(sample)
        except DataError as error:
            unreadable.append(str(error))
        if progress:
            progress(done, len(chosen))
    sizes, masks = [image.size for image in found], [image.mask for image in found if image.mask]
    parts = {split: table.select(split) for split in table.splits} or {"all": table}
    copies = copies_of(readable)
    return DataDiagnosis(
        root=str(table.root),
        layout=table.layout,
        classes={split: part.class_counts() for split, part in parts.items()},
        groups={split: part.group_counts() for split, part in parts.items()} if table.group_names else {},
        sizes=_summary(sizes),
        num_images=len(table),
        num_checked=len(chosen),
        num_masks=sum(sample.mask is not None for sample in table.samples),
        mask_codings=Counter(str(coding) for coding, _ in masks),
        num_keypoints=sum(bool(sample.keypoints) for sample in table.samples),
        num_boxes=sum(sample.box is not None for sample in table.samples),
        unreadable=tuple(unreadable),
        num_copies=sum(len(same) - 1 for same in copies),
        leaks=tuple(
            (first.name, other.name) for first, *others in copies for other in others if other.split != first.split
        ),
        account=table.account,
        warnings=(
            *_warnings(table, parts, copies),
            *_shape_warnings(sizes),
            *too_dark([image.bits for image in found]),
            *mask_warnings(masks),
        ),
        class_by_place=class_by_place(table, _training_part(table)) if _has_training(table) else None,
    )


@dataclass(frozen=True, kw_only=True)
class MachineDiagnosis:
    """Software and hardware that training would use."""

    system: str
    python: str
    packages: Mapping[str, str]
    cpus: int  # that this process may use
    threads: int  # of torch
    memory_gib: float | None
    gpus: tuple[str, ...]
    bfloat16_gpu: bool  # on the GPU, in hardware

    def lines(self) -> list[str]:
        """For people."""
        memory = "memory unknown" if self.memory_gib is None else f"{self.memory_gib:.1f} GiB memory"
        bfloat16 = f" (bfloat16: {'yes' if self.bfloat16_gpu else 'no'})" if self.gpus else ""
        return [
            f"{self.system}, Python {self.python}",
            ", ".join(f"{name} {number}" for name, number in self.packages.items()),
            f"{self.cpus} CPU cores, {self.threads} torch threads, {memory}",
            f"GPU: {', '.join(self.gpus) or 'none'}{bfloat16}",
        ]


def diagnose_machine() -> MachineDiagnosis:
    """Asks the system; loads torch."""
    import torch

    has_gpu = torch.cuda.is_available()
    return MachineDiagnosis(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version(name) for name in _PACKAGES},
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gib=_memory_gib(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
        bfloat16_gpu=has_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What was seen of an image."""

    size: Size
    bits: int | None
    """of 16, that its brightest value takes"""
    mask: tuple[Coding, bool] | None
    """how it is coded, and whether it is `Mask.at_edge`"""


def _check(sample: Sample) -> _Found:
    image = open_image(sample.path)
    facts = None
    if isinstance(sample.mask, Path):
        mask = read_mask(sample.mask, size=image.size)
        facts = (mask.coding, mask.at_edge)
    elif sample.mask:
        open_mask(sample.mask, size=image.size)
    return _Found(size=image.size, bits=image.info.get(BITS), mask=facts)


def _summary(sizes: Sequence[Size]) -> ImageSizes | None:
    if not sizes:
        return None
    widths, heights = zip(*sizes, strict=True)
    return ImageSizes(
        smallest=(min(widths), min(heights)),
        median=(round(median(widths)), round(median(heights))),
        largest=(max(widths), max(heights)),
    )


def _warnings(table: ImageTable, parts: Mapping[str, ImageTable], copies: Copies) -> Iterable[str]:
    together = keep_together(table, copies)  # as training splits them
    yield from _split_warnings(together)
    yield from doubts_of_names(table.class_names, table.group_names)
    yield from filter(None, (in_two_classes(copies), unit_like_groups(table), unit_like_folders(table)))
    yield from filter(
        None, (named_as_missing(table.class_names, "class"), named_as_missing(table.group_names, "group"))
    )
    if labels := two_labels(table):
        yield f"training would be refused: two labels for {labels}"
    if not table.group_names:
        yield "group information missing: worst-group accuracy cannot be computed"
    elif any(sample.group is None for sample in table.samples):
        yield "some images have no group: they are left out of the group accuracies"
    for split, part in parts.items():
        masks = sum(sample.mask is not None for sample in part.samples)
        if 0 < masks < len(part):
            yield f"{split}: {masks} of {len(part)} images have masks, which are used where all have one"
    if _has_training(table):
        yield from _training_warnings(_training_part(together))


def _has_training(table: ImageTable) -> bool:
    return not table.splits or "train" in table.splits


def _training_part(table: ImageTable) -> ImageTable:
    """What training would train on; all images where it would be refused."""
    try:
        made = table if table.splits else table.with_splits(seed=0)
        return (made if "val" in made.splits else made.with_validation(seed=0)).select("train")
    except DataError:
        return table


def _split_warnings(table: ImageTable) -> Iterable[str]:
    """What training would make of the splits that are there."""
    if len(table.class_names) < 2:
        yield f"one class alone, {table.class_names[0]}: enough to evaluate a model on, not to train one"
        return
    try:
        if not table.splits:
            made = table.with_splits(seed=0)
            yield "no train, val and test splits: training makes them"
            if "test" not in made.splits:
                yield "too few images for a test split, which takes four of one class (and group)"
        elif "train" in table.splits:
            if "val" not in table.splits:
                table.with_validation(seed=0)
                yield "no val split: training holds out a tenth of the training images to select the model on"
            if "test" not in table.splits:
                yield "no test split: what a model is worth, only other images can tell"
    except DataError as error:
        yield f"training would be refused: {str(error).removeprefix(f'{table.root}: ')}"


def _shape_warnings(sizes: Sequence[Size]) -> Iterable[str]:
    oblong = sum(width != height for width, height in sizes)
    if oblong:
        yield (
            f"{oblong} of {len(sizes)} images are not square: training and prediction see the centre crop of the "
            "model's shape (with the augmentation xray, the whole image squashed into it)"
        )


def _training_warnings(training: ImageTable) -> Iterable[str]:
    counts = training.class_counts()
    yield from _small("group", "groups", training.group_counts(), SMALL_GROUP)
    yield from _small("class", "classes", counts, SMALL_CLASS)
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[most] >= IMBALANCE * counts[fewest]:
        yield f"class imbalance: {counts[most]} training images of {most}, {counts[fewest]} of {fewest}"


def _small(one: str, several: str, counts: Mapping[str, int], fewest: int) -> Iterable[str]:
    small = {name: count for name, count in counts.items() if count < fewest}
    if len(small) > 1:
        shown = listed([f"{name} {count}" for name, count in sorted(small.items(), key=lambda item: item[1])], _SHOWN)
        yield f"{len(small)} {several} have fewer than {fewest} training images: {shown}"
    for name, count in small.items() if len(small) == 1 else ():
        yield f"{one} {name} has {count} training image{'' if count == 1 else 's'}"


def _place_line(found: ClassByPlace | None) -> Iterable[str]:
    if found is None:
        return
    line = (
        f"class follows place in {100 * found.share:.0f} % of training images (the most frequent class alone: "
        f"{100 * found.largest_class:.0f} %)"
    )
    if found.share - found.largest_class <= TELLING:
        yield f"{line}: the place hardly tells the class"
        return
    yield (
        f"{line}: a model can answer by the place; next: add images of the rare pairs, and go by the worst group "
        "(ifam evaluate), not by the accuracy"
    )


def _count_lines(what: str, counts: Counts, limit: int = 12) -> Iterable[str]:
    for split, by_name in counts.items():
        if len(by_name) <= limit:
            listed = ", ".join(f"{name} {count}" for name, count in by_name.items())
        else:
            listed = f"{len(by_name)} with {min(by_name.values())} to {max(by_name.values())} images each"
        yield f"{what} ({split}): {listed}"


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # not on every system
        return None
