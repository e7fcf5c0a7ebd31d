"""CUB-200-2011: 11,788 photographs of 200 bird species with parts, boxes and masks.

Source: https://www.vision.caltech.edu/datasets/cub_200_2011/ (masks: a second archive there, ``segmentations``).
Citation: C. Wah, S. Branson, P. Welinder, P. Perona and S. Belongie, The Caltech-UCSD Birds-200-2011 Dataset,
California Institute of Technology, CNS-TR-2011-001, 2011.
Licence: none given; for research and teaching, the photographs belong to their authors.
"""

import os
from pathlib import Path
from typing import TypeVar

from ifam.data.rows import box, files_of, finite, inside, read_words
from ifam.data.table import ImageTable, Sample
from ifam.data.tree import incomplete, missing_from
from ifam.errors import DataError

LAYOUT = "CUB-200-2011"
_IMAGES, _LABELS, _SPLIT = "images.txt", "image_class_labels.txt", "train_test_split.txt"
_PARTS, _LOCATIONS = "parts/parts.txt", "parts/part_locs.txt"
_NEEDED = (_IMAGES, _LABELS, "classes.txt", _SPLIT, "bounding_boxes.txt", _PARTS, _LOCATIONS, "images")
_TREE = f"{', '.join(_NEEDED)}/<class>/<name>.jpg, perhaps segmentations/<class>/<name>.png inside or beside"

Points = dict[str, tuple[float, float]]
_Value = TypeVar("_Value")


def is_cub(root: Path) -> bool:
    """Whether a folder has one of the files that go through its images; others have a ``classes.txt`` too."""
    return any((root / name).is_file() for name in (_IMAGES, _LABELS, _SPLIT, _LOCATIONS))


def is_complete_cub(root: Path) -> bool:
    """Whether everything that `read_cub` needs is there."""
    return not missing_from(root, _NEEDED)


def read_cub(root: Path) -> ImageTable:
    """Classes are named and ordered as in ``classes.txt`` (001.Black_footed_Albatross), parts as in ``parts.txt``.

    The published split is train and test only. Locations and boxes are taken as they are written, in pixels.
    """
    missing = missing_from(root, _NEEDED)
    if missing:
        raise incomplete(root, LAYOUT, _TREE, f"no {', '.join(missing)}")
    names = dict(read_words(root / _IMAGES, fields=2))
    classes = dict(read_words(root / "classes.txt", fields=2))
    parts = dict(read_words(root / _PARTS, fields=2))
    order = {number: index for index, number in enumerate(classes)}
    files = files_of(root / _IMAGES, {row: f"images/{name}" for row, name in enumerate(names.values(), 1)}, "image")
    labels, training = _of_images(root / _LABELS, 2, names), _of_images(root / _SPLIT, 2, names)
    boxes = _of_images(root / "bounding_boxes.txt", 5, names)
    points = _points(root / _LOCATIONS, parts)
    samples = tuple(
        Sample(
            path=path,
            name=f"images/{name}",
            label=_known(order, labels[image][0], f"{root / _LABELS}, image {image}", "class of classes.txt"),
            split=_known({"1": "train", "0": "test"}, training[image][0], f"{root / _SPLIT}, image {image}", "0 or 1"),
            mask=_mask(root, name),
            keypoints=points.get(image, {}),
            box=box(boxes[image], f"{root / 'bounding_boxes.txt'}, image {image}"),
        )
        for (image, name), path in zip(names.items(), files.values(), strict=True)
    )
    return ImageTable(
        root=root,
        layout=LAYOUT,
        class_names=tuple(classes.values()),
        keypoint_names=tuple(parts.values()),
        samples=samples,
    )


def _of_images(path: Path, fields: int, names: dict[str, str]) -> dict[str, list[str]]:
    """The line of every image, by its number and without it."""
    lines = {image: values for image, *values in read_words(path, fields=fields)}
    without = [image for image in names if image not in lines]
    if without:
        raise DataError(
            f"{path}: expected a line for every image, got none for {len(without)} of {len(names)}, the first is image "
            f"{without[0]}; take the file of the same archive as {_IMAGES}"
        )
    return lines


def _points(path: Path, parts: dict[str, str]) -> dict[str, Points]:
    """The visible parts of every image that has any."""
    points: dict[str, Points] = {}
    for number, (image, part, x, y, visible) in enumerate(read_words(path, fields=5), start=1):
        if visible != "0":
            where = f"{path}, line {number}"
            name = _known(parts, part, where, "part")
            points.setdefault(image, {})[name] = (finite(x, f"{where}, x"), finite(y, f"{where}, y"))
    return points


def _mask(root: Path, name: str) -> Path | None:
    name = f"segmentations/{os.path.splitext(name)[0]}.png"
    for folder in (root, root.parent):
        if os.path.isfile(folder / name):
            return inside(folder, name, str(root / _IMAGES))
    return None


def _known(values: dict[str, _Value], key: str, where: str, what: str) -> _Value:
    if key not in values:
        raise DataError(f"{where}: expected {what}, got {key!r}")
    return values[key]
