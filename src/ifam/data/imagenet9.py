"""ImageNet-9, the Backgrounds Challenge: nine groups of ImageNet classes before backgrounds that were exchanged.

Source: https://github.com/MadryLab/backgrounds_challenge (``backgrounds_challenge_data.tar.gz``, ``in_to_in9.json``).
Citation: K. Xiao, L. Engstrom, A. Ilyas and A. Madry, Noise or Signal: The Role of Image Backgrounds in Object
Recognition, ICLR 2021.
Licence: none given for the images, which come from ImageNet.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from ifam.data.folders import images_of, subfolders, table_of
from ifam.data.table import ImageTable
from ifam.data.tree import showing
from ifam.data.walk import Walk
from ifam.errors import DataError, UsageError

LAYOUT = "ImageNet-9"
VARIANTS = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg", "no_fg", "only_bg_b", "only_bg_t")
CLASSES = (
    "00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument",
    "07_primate", "08_fish",
)  # fmt: skip
_NUM_IMAGENET = 1000
_TREE = f"<variant>/val/{CLASSES[0]}/….JPEG to <variant>/val/{CLASSES[-1]}/….JPEG"


def is_imagenet9(root: Path) -> bool:
    """Whether a folder is a variant, or holds variants."""
    return _is_variant(root) or bool(imagenet9_variants(root))


def imagenet9_variants(root: str | Path) -> dict[str, Path]:
    """The variants in a folder by name, each to be read on its own."""
    folders = {name: Path(root) / name for name in VARIANTS}
    return {name: folder for name, folder in folders.items() if _is_variant(folder)}


def read_imagenet9(root: Path) -> ImageTable:
    """One variant, its nine classes named as their folders (00_dog), in the order of ``in_to_in9.json``.

    ``val`` alone is the challenge's test set and so the split ``test``; beside ``train``, in the authors' training
    data, it is ``val``.
    """
    if not _is_variant(root):
        names = ", ".join(imagenet9_variants(root))
        raise DataError(f"{root}: expected one variant of {LAYOUT} ({_TREE}), got {names}; name one of them")
    splits = {"train": "train", "val": "val"} if _has_classes(root / "train") else {"val": "test"}
    walk = Walk(root)
    with showing(LAYOUT, _TREE):
        found = [
            image
            for folder, split in splits.items()
            if (root / folder).is_dir()
            for image in images_of(walk, root / folder, split)
        ]
        return table_of(root, found, layout=LAYOUT, account=walk.account)


def read_in9_mapping(path: str | Path) -> dict[int, int]:
    """``in_to_in9.json``: which of the nine classes an ImageNet class (0–999) belongs to; most belong to none."""
    try:
        mapping = {int(key): int(value) for key, value in json.loads(Path(path).read_text(encoding="utf-8")).items()}
    except OSError as error:
        raise DataError(f"{path}: expected in_to_in9.json, got: {error.strerror}; name the file") from None
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        mapping = {}
    if set(mapping) != set(range(_NUM_IMAGENET)) or not set(mapping.values()) <= set(range(-1, len(CLASSES))):
        raise DataError(
            f'{path}: expected {{"0": -1, …, "999": -1}} with a value from -1 to 8 for each of 1,000 classes, '
            f"got {len(mapping)} entries that are not that; take the file of the challenge"
        )
    return {index: group for index, group in mapping.items() if group >= 0}


def class_lookup(class_map: Mapping[int, int], num_classes: int) -> list[int]:
    """The group of each of the 1000 ImageNet classes, −1 for those that ``class_map`` leaves out.

    Raises:
        UsageError: a model of ``num_classes`` other than ImageNet's 1000, or a map from or to other classes.
    """
    if num_classes != _NUM_IMAGENET:
        raise UsageError(
            f"class map: expected a model of the {_NUM_IMAGENET} ImageNet classes, in their usual order, got one of "
            f"{num_classes} classes; evaluate it without a class map"
        )
    known = all(0 <= index < _NUM_IMAGENET and 0 <= group < len(CLASSES) for index, group in class_map.items())
    if not known or not class_map:
        raise UsageError(
            "class map: expected classes from 0 to 999 and groups from 0 to 8, got others or none; "
            "pass what read_in9_mapping returns"
        )
    return [class_map.get(index, -1) for index in range(_NUM_IMAGENET)]


def align_imagenet9(table: ImageTable) -> ImageTable:
    """The table labelled in the order of the nine classes; it may have a part of them."""
    other = [name for name in table.class_names if name not in CLASSES]
    if other:
        raise DataError(
            f"{table.root}: expected the classes that the class map leads to ({', '.join(CLASSES)}), "
            f"got also {other[0]}; leave the class map out, or name a variant of ImageNet-9"
        )
    return table.align(CLASSES)


def _is_variant(root: Path) -> bool:
    return _has_classes(root / "val") or _has_classes(root / "train")


def _has_classes(folder: Path) -> bool:
    classes = subfolders(folder) if folder.is_dir() else []
    return bool(classes) and all(path.name in CLASSES for path in classes)
