"""Which folders are the splits of a data set, told by their names as people give them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ifam.errors import DataError

_TRAIN, _VAL, _TEST = (
    "train|training|trn|trainval",
    "val|valid|validation|validate|dev|development",
    "test|testing|tst|holdout",
)
_SPLIT = {
    word: split
    for split, words in (("train", _TRAIN), ("val", _VAL), ("test", _TEST), ("", "eval|evaluation"))
    for word in words.split("|")
}
"""the empty split is one of val and test, and nobody knows which"""
_FILLING = frozenset(
    {"set", "sets", "image", "images", "img", "imgs", "data", "dataset", "split", "splits", "photo", "photos",
     "picture", "pictures", "file", "files", "folder"}
)  # fmt: skip
_WITHOUT_LABELS = frozenset({"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLIT, key=len, reverse=True))})({'|'.join(_FILLING)})")


@dataclass(frozen=True, kw_only=True)
class _Name:
    """What the words of a folder's name say."""

    split: str | None
    rest: tuple[str, ...]
    """other words that mean something: ("seg",) of seg_train"""


def splits_of(names: Sequence[str], where: object) -> dict[str, str]:
    """The split of every folder that is one, and none at all where the folders are classes.

    Names may be in any case, with numbers, words such as set and images, or one word that they share: 01_train,
    TestSet, seg_train beside seg_test. A single such name among others is a class: a train among vehicles.
    ``where`` opens the error.

    Raises:
        DataError: splits beside other folders, two folders for one split, or names that may be either.
    """
    said = {name: found for name in names if (found := _read(name)).split is not None}
    splits = _family(said)
    if len(names) == 1 and said and not said[names[0]].rest:
        splits = {names[0]: said[names[0]].split or ""}
    if not splits and len(said) == len(names) and len({found.split for found in said.values()}) > 1:
        raise DataError(
            f"{where}: expected class folders, or train, val and test, got {', '.join(names)}, which may be either; "
            "rename them"
        )
    if not splits:
        return {}
    came = ", ".join(names)
    if "" in splits.values():
        unclear = next(name for name, split in splits.items() if not split)
        raise DataError(f"{where}: expected folders for train, val and test, got {came}; call {unclear} val or test")
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{where}: expected one folder for each split, got {came}; merge those that mean the same")
    if any(name not in splits and not _holds_no_labels(name) for name in names):
        raise DataError(
            f"{where}: expected only train, val and test beside each other, got {came}; move the others, or rename "
            "these if they are classes"
        )
    return splits


def split_of(name: str) -> str | None:
    """What a folder's name alone says: train, val or test, with nothing else in it that means something."""
    found = _read(name)
    return None if found.rest else found.split or None


def says_nothing(name: str) -> bool:
    """Whether a folder's name is only words such as images or data."""
    words = _words(name)
    return bool(words) and _FILLING.issuperset(words)


def _holds_no_labels(name: str) -> bool:
    """Whether a folder is called as one of photographs to be predicted."""
    return not _WITHOUT_LABELS.isdisjoint(_words(name))


def _family(said: dict[str, _Name]) -> dict[str, str]:
    """Those that share their other words and name more than one split, or one split in two plain ways."""
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name, found in said.items():
        by_rest.setdefault(found.rest, {})[name] = found.split or ""
    families = [
        family for rest, family in by_rest.items() if len(set(family.values())) > 1 or (not rest and len(family) > 1)
    ]
    return {name: split for family in families for name, split in family.items()}


def _read(name: str) -> _Name:
    words = _words(name)
    splits = {_SPLIT[word] for word in words if word in _SPLIT}
    if splits == {"train", "val"}:  # both together, as Pascal VOC's trainval
        splits = {"train"}
    rest = tuple(word for word in words if word not in _SPLIT and word not in _FILLING)
    return _Name(split=splits.pop() if len(splits) == 1 else None, rest=rest)


def _words(name: str) -> list[str]:
    name = re.sub(r"(?i)h(?:old|eld)[ _-]?out", "holdout", name)
    words = [word.lower() for word in _WORD.findall(name)]
    parted = (_JOINED.fullmatch(word) for word in words)
    return [part for word, match in zip(words, parted, strict=True) for part in (match.groups() if match else (word,))]
