"""Tiny ImageNet: 100,000 training and 10,000 validation photographs of 200 classes, 64 × 64.

Source: http://cs231n.stanford.edu/tiny-imagenet-200.zip.
Citation: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, CS 231N, Stanford, 2015.
Licence: that of ImageNet, non-commercial research; the photographs belong to their authors.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ifam.data.account import Fate
from ifam.data.folders import FoundImage, table_of
from ifam.data.imagenet import has_synsets, leave_out_others, synset_images
from ifam.data.rows import read_words
from ifam.data.suffixes import suffix_of
from ifam.data.table import ImageTable
from ifam.data.tree import incomplete, showing
from ifam.data.walk import Walk
from ifam.errors import DataError

LAYOUT = "Tiny ImageNet"
_IMAGES, _LABELS, _WORDS = "val/images", "val/val_annotations.txt", "words.txt"
_TREE = f"train/n01443537/images/….JPEG, {_IMAGES}/val_0.JPEG, {_LABELS}; perhaps {_WORDS}"


def is_tiny_imagenet(root: Path) -> bool:
    """Whether the validation images lie beside each other in a folder of their own, and a table has their classes."""
    return has_synsets(root / "train") and ((root / _LABELS).is_file() or (root / _IMAGES).is_dir())


def read_tiny_imagenet(root: Path) -> ImageTable:
    """Train and val, in the order of the WordNet numbers; the test images, which have no labels, are left out.

    Names come from ``words.txt``: the first word for the class, with the number where two classes share it.
    """
    walk = Walk(root)
    with showing(LAYOUT, _TREE):
        found = [*synset_images(walk, root, "train"), *_validation(walk, root)]
    leave_out_others(walk, root)
    table = table_of(root, found, layout=LAYOUT, account=walk.account)
    names = _names(root, table.class_names)
    return replace(table, class_names=tuple(names.get(synset, synset) for synset in table.class_names))


def _validation(walk: Walk, root: Path) -> Iterator[FoundImage]:
    if not (root / _LABELS).is_file():
        raise incomplete(root, LAYOUT, _TREE, f"no {_LABELS}")
    labels = {name: synset for name, synset, *_ in read_words(root / _LABELS, fields=3)}
    paths = {path.name: path for path in walk.images(root / _IMAGES)}
    absent = [name for name in labels if name not in paths]
    if absent:
        raise DataError(
            f"{root / _LABELS}: expected every image in {_IMAGES}, got none for {len(absent)} of {len(labels)}, the "
            f"first is {absent[0]}; add the images or take the lines out"
        )
    for name, path in paths.items():
        if name in labels:
            yield FoundImage(path=path, split="val", label=labels[name], group=labels[name])
        else:
            walk.count(Fate.LEFT_OUT, f"without a line in {_LABELS}", suffix_of(name))


def _names(root: Path, synsets: tuple[str, ...]) -> dict[str, str]:
    """Readable names of these classes, each of them once."""
    if not (root / _WORDS).is_file():
        return {}
    words = dict(read_words(root / _WORDS, fields=2))
    names = {synset: words[synset].split(",")[0] for synset in synsets if synset in words}
    counts = Counter(names.values())
    return {synset: name if counts[name] == 1 else f"{name} ({synset})" for synset, name in names.items()}
