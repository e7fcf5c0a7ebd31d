"""Masks that lie among the photographs that they belong to, told by their names."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence

_MASK = r"masks?|segs?|segm|segmentations?|segmasks?|gt|ground[ _-]?truths?|labels?|labelids?|annotations?|trimaps?"
_IMAGE = r"images?|imgs?|photos?|photographs?|pictures?|pics?|originals?|orig|raw|rgb|jpegimages"
# 0001_mask, 0001-seg, 0001 gt, 0001_mask_1, 0001Mask; mask_0001
_AFTER = re.compile(rf"(?P<of>.+?)(?:[ _.-]+(?P<word>{_MASK})|(?P<joined>masks?))(?:[ _.-]*\(?\d+\)?)?")
_BEFORE = re.compile(rf"(?P<word>{_MASK})[ _.-]+(?P<of>.+)")
_OF_IMAGE = (re.compile(rf"(?P<of>.+?)[ _.-]+(?:{_IMAGE})"), re.compile(rf"(?:{_IMAGE})[ _.-]*(?P<of>.+)"))
_MASK_FOLDER, _IMAGE_FOLDER = re.compile(_MASK, re.IGNORECASE), re.compile(_IMAGE, re.IGNORECASE)


def is_mask_folder(name: str) -> bool:
    """Whether a folder is called as one of masks: ``masks``, ``segmentation``, ``ground_truth``."""
    return _MASK_FOLDER.fullmatch(name) is not None


def is_image_folder(name: str) -> bool:
    """Whether a folder is called as one of images, which says nothing about them: ``images``, ``photos``."""
    return _IMAGE_FOLDER.fullmatch(name) is not None


def masks_among(names: Sequence[str], photographs: Sequence[str] = ()) -> dict[str, str]:
    """Those of the files of one folder that are masks, each with what says so, ``_mask`` or ``masks/``.

    A file is a mask only where its photograph is there: of ``0001_mask.png`` it is ``0001.jpg`` or ``0001_image.png``
    in the same folder. ``photographs``: for a folder of masks, the files of that of their images.
    """
    elsewhere = _called(photographs)
    masks = {name: "masks/" for name in names if _stem(name) in elsewhere}
    named = {name: found for name in names if (found := [*_named_after(_stem(name))])}
    everywhere = elsewhere | _called(names) if named else set()  # which takes memory where there are millions
    masks |= {name: found[0][1] for name, found in named.items() if any(of in everywhere for of, _ in found)}
    return masks


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].lower()


def _named_after(stem: str) -> Iterator[tuple[str, str]]:
    """The photograph that a picture may be a mask of, and what says so."""
    if match := _AFTER.fullmatch(stem):
        yield match["of"], f"_{match['word'] or match['joined']}"
    if match := _BEFORE.fullmatch(stem):
        yield match["of"], f"{match['word']}_"


def _called(names: Iterable[str]) -> set[str]:
    """What masks of these files may be named after: their stems, with and without a word for image."""
    found = set(map(_stem, names))
    matches = (pattern.fullmatch(stem) for stem in found for pattern in _OF_IMAGE)
    return found | {match["of"] for match in matches if match}
