"""Images that a run knows: found again by their contents, whatever they are called now."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ifam.data.copies import Content, contents_of
from ifam.data.names import nfc
from ifam.data.table import ImageTable, Sample


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A data set, as a run that made splits of its data knows it."""

    table: ImageTable
    """with the splits of the run where it has seen any of the images, see `ImageTable.with_known_splits`"""
    found: Mapping[str, str]
    """name here -> the split that the run made, of every image that it knows"""
    gone: int
    """images of the run that are not here"""
    namesakes: int = 0
    """images that are called as one of the run and are others"""
    compared: str = "contents"
    """of the images; names, where the run remembers no more"""

    def lines(self, run: object, given: ImageTable) -> list[str]:
        """For people; ``given``: the data before."""
        lines = []
        if self.table is not given:
            counts = ", ".join(f"{len(self.table.select(split))} {split}" for split in self.table.splits)
            new = sum(sample.split is None and sample.name not in self.found for sample in given.samples)
            changes = {"new since the training, so among test": new, "gone": self.gone}
            changed = "".join(f"; {what}: {count}" for what, count in changes.items() if count)
            lines.append(f"splits of {run}, by the {self.compared} of the images: {counts}{changed}")
        if self.namesakes:
            what = "1 image is" if self.namesakes == 1 else f"{self.namesakes} images are"
            lines.append(f"{what} called as images that {run} knows, with other contents, and taken for others")
        trained = [name for name in self._unseen() if self.found[name] == "train"]
        if trained:
            lines.append(
                f"warning: {run} was trained on {len(trained)} of the images that the data gives as val or test, "
                f"the first is {trained[0]}"
            )
        return lines

    def _unseen(self) -> list[str]:
        return [sample.name for sample in self.table.samples if sample.split != "train" and sample.name in self.found]


def recognise(table: ImageTable, splits: Mapping[str, str], contents: Mapping[str, Content]) -> Recognised:
    """The data with the splits that a run made, whose images it remembers by name, split and content.

    Images are compared by size, and read where an image of the run has the same. Of runs before contents were
    remembered, names are all that is compared.
    """
    if not contents:
        names = {nfc(sample.name) for sample in table.samples}
        found = {name: split for name, split in splits.items() if nfc(name) in names}
        known = _split(table, found)
        return Recognised(table=known, found=found, gone=len(splits) - len(found), compared="names")
    known_splits: dict[Content, str] = {}
    for name, content in contents.items():
        if known_splits.get(content) != "train":  # the strictest, where copies lie in two splits
            known_splits[content] = splits.get(name, "train")
    sizes = {size for size, _ in contents.values()}
    here = contents_of(sample for sample in table.samples if _size(sample) in sizes)
    found = {name: known_splits[content] for name, content in here.items() if content in known_splits}
    seen = set(here.values())
    return Recognised(
        table=_split(table, found),
        found=found,
        gone=sum(content not in seen for content in contents.values()),
        namesakes=sum(sample.name in contents and sample.name not in found for sample in table.samples),
    )


def _split(table: ImageTable, found: Mapping[str, str]) -> ImageTable:
    """With the splits of the run; data with none of its training and validation images is a test set, as it is."""
    return table.with_known_splits(found) if {*found.values()} - {"test"} else table


def _size(sample: Sample) -> int:
    try:
        return os.stat(sample.path).st_size
    except OSError:
        return -1
