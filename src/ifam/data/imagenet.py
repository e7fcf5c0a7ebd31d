"""ImageNet-1K: 1.28 million training and 50,000 validation photographs of 1,000 classes.

Source: https://image-net.org/download.php (ILSVRC 2012), or the Kaggle competition
imagenet-object-localization-challenge, whose ``LOC_`` files are read here.
Citation: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015.
Licence: the terms of image-net.org, non-commercial research; the photographs belong to their authors.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ifam.data.delimited import read_csv
from ifam.data.folders import FoundImage, images_of, subfolders, table_of
from ifam.data.rows import read_words
from ifam.data.table import ImageTable
from ifam.data.tree import incomplete, showing
from ifam.data.walk import Walk
from ifam.errors import DataError

LAYOUT = "ImageNet-1K"
_SYNSET = re.compile(r"n\d{8}")
_SYNSETS, _INDEX, _SOLUTION = "LOC_synset_mapping.txt", "imagenet_class_index.json", "LOC_val_solution.csv"
_TREE = (
    f"train/n01440764/….JPEG, val/n01440764/….JPEG or val/ILSVRC2012_val_….JPEG with {_SOLUTION}; "
    f"perhaps {_SYNSETS} or {_INDEX}"
)


def is_imagenet(root: Path) -> bool:
    """Whether ``train`` or ``val`` has class folders named by WordNet numbers, or ``val`` the published flat files."""
    return any(has_synsets(root / split) for split in ("train", "val")) or bool(_flat(root))


def read_imagenet(root: Path) -> ImageTable:
    """Classes in the usual order, that of the WordNet numbers, which is 0–999 where all are there.

    Names come from ``LOC_synset_mapping.txt`` or ``imagenet_class_index.json``: the first word for the class, with the
    number where two classes share it (crane). A class that neither file names keeps its number.
    """
    walk = Walk(root)
    with showing(LAYOUT, _TREE):
        splits = [split for split in ("train", "val") if has_synsets(root / split)]
        found = [image for split in splits for image in synset_images(walk, root, split)]
    leave_out_others(walk, root)
    table = table_of(root, [*found, *_labelled(root)], layout=LAYOUT, account=walk.account)
    names = _names(root)
    return replace(table, class_names=tuple(names.get(synset, synset) for synset in table.class_names))


def has_synsets(folder: Path) -> bool:
    """Whether a folder holds class folders named by WordNet numbers."""
    return folder.is_dir() and any(_SYNSET.fullmatch(path.name) for path in subfolders(folder))


def synset_images(walk: Walk, root: Path, split: str) -> Iterator[FoundImage]:
    """The images of the class folders of a split, which are all named by WordNet numbers."""
    other = [path.name for path in subfolders(root / split) if not _SYNSET.fullmatch(path.name)]
    if other:
        raise DataError(f"{root}: expected class folders such as n01440764, got {split}/{other[0]}; move it")
    return images_of(walk, root / split, split)


def leave_out_others(walk: Walk, root: Path) -> None:
    """Count what lies in folders beside train and val, such as test images, which have no labels."""
    for folder in subfolders(root):
        if folder.name not in ("train", "val"):
            walk.leave_out(folder, "in folders beside train and val")


def _flat(root: Path) -> list[Path]:
    return sorted((root / "val").glob("ILSVRC2012_val_*.JPEG"))


def _labelled(root: Path) -> Iterator[FoundImage]:
    """The validation images that lie side by side, with their classes from the table."""
    paths = _flat(root)
    if not paths:
        return
    if not (root / _SOLUTION).is_file():
        raise incomplete(root, LAYOUT, _TREE, f"{len(paths)} images beside each other in val and no {_SOLUTION}")
    rows = read_csv(root / _SOLUTION, required=("ImageId", "PredictionString"))
    synsets = {row["ImageId"]: row["PredictionString"].partition(" ")[0] for row in rows}
    for path in paths:
        synset = synsets.get(path.stem, "")
        if not _SYNSET.fullmatch(synset):
            raise DataError(f"{root / _SOLUTION}: expected a class such as n01440764 for {path.stem}, got {synset!r}")
        yield FoundImage(path=path, split="val", label=synset, group=synset)


def _names(root: Path) -> dict[str, str]:
    """Readable names by WordNet number, each of them once."""
    names: dict[str, str] = {}
    if (root / _SYNSETS).is_file():
        names = {synset: words.split(",")[0] for synset, words in read_words(root / _SYNSETS, fields=2)}
    elif (root / _INDEX).is_file():
        names = class_index(root / _INDEX)
    counts = Counter(names.values())
    return {synset: name if counts[name] == 1 else f"{name} ({synset})" for synset, name in names.items()}


def class_index(path: Path) -> dict[str, str]:
    """``imagenet_class_index.json``, ``{"0": ["n01440764", "tench"], …}``, as WordNet number -> name."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).values())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        raise DataError(f'{path}: expected {{"0": ["n01440764", "tench"], …}}, got something else') from None
