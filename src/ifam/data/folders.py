"""Class folders, with or without train, val and test folders above them."""

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ifam.data.dicom import DICOM_SUFFIX
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", DICOM_SUFFIX}
)
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """An image and what its folders say about it."""

    path: Path
    split: str | None
    label: str
    group: str


def read_folders(root: Path) -> ImageTable:
    """A class per folder, sorted by name; images may lie at any depth below it.

    Where a class has subfolders, as in MetaShift, the first folder below the class is the group, named
    ``class/subfolder``, and images beside the subfolders form the group ``class``.
    """
    return table_of(root, [image for folder, split in _split_folders(root) for image in images_of(folder, split)])


def table_of(root: Path, found: Sequence[FoundImage], *, layout: str = "folders") -> ImageTable:
    """The table of the images found below ``root``, with groups where one of them differs from its class."""
    if not found:
        raise DataError(f"{root}: expected class folders with images, got none; put images into them")
    class_names = sorted({image.label for image in found})
    has_groups = any(image.group != image.label for image in found)
    group_names = sorted({image.group for image in found}) if has_groups else []
    labels = {name: index for index, name in enumerate(class_names)}
    groups = {name: index for index, name in enumerate(group_names)}
    samples = tuple(
        Sample(
            path=image.path,
            name=image.path.relative_to(root).as_posix(),
            label=labels[image.label],
            split=image.split,
            group=groups.get(image.group),
        )
        for image in found
    )
    return ImageTable(
        root=root, layout=layout, class_names=tuple(class_names), group_names=tuple(group_names), samples=samples
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split_folders(root: Path) -> list[tuple[Path, str | None]]:
    folders = subfolders(root)
    splits = [_SPLIT_FOLDERS[folder.name] for folder in folders if folder.name in _SPLIT_FOLDERS]
    names = ", ".join(folder.name for folder in folders)
    if len(set(splits)) < len(splits):
        raise DataError(f"{root}: expected one folder for each split, got {names}; merge those that mean the same")
    if splits and len(splits) == len(folders):
        return list(zip(folders, splits, strict=True))
    if len(splits) > 1:
        raise DataError(f"{root}: expected only train, val and test beside each other, got {names}; move the others")
    return [(root, None)]  # one such name alone may be a class: a train among vehicles


def images_of(folder: Path, split: str | None) -> Iterator[FoundImage]:
    """The images of the class folders in a folder, class by class."""
    for class_folder in subfolders(folder):
        paths = list(images_below(class_folder))
        if not paths:
            raise DataError(f"{class_folder}: expected images in every class folder, got none; fill or remove it")
        for path in paths:
            below = path.relative_to(class_folder).parts
            group = class_folder.name if len(below) == 1 else f"{class_folder.name}/{below[0]}"
            yield FoundImage(path=path, split=split, label=class_folder.name, group=group)


def images_below(folder: Path, suffixes: Container[str] = IMAGE_SUFFIXES) -> Iterator[Path]:
    """The images at any depth below a folder, folder by folder in the order of names, without hidden ones.

    ``suffixes``: of the files that are taken for images, with the dot, in small letters.
    """
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(directory, name)
