"""One way through folders for all who read them: what is an image, which links are followed, what is left out."""

import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ifam.data.account import Account, Fate
from ifam.data.masks_beside import is_image_folder, is_mask_folder, masks_among
from ifam.data.names import spelt
from ifam.data.suffixes import IMAGE_SUFFIXES, suffix_of
from ifam.data.system_files import is_system, system_kind
from ifam.data.tally import Tally
from ifam.errors import DataError
from ifam.outputs import is_drawn

WITHIN, LEAVING = "through links within the data", "through links that lead outside the data"
"""why images are counted as linked"""
MASKS = "masks beside photographs"
"""why they are left out"""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A folder to look through."""

    path: Path
    link: Path | None = None
    """the link that led here, or above it"""
    real: str | None = None
    """where it really is, if a link led here"""
    photographs: tuple[Path, ...] = ()
    """of a folder of masks: where the photographs may be"""


class Walk:
    """Looks through the folders below ``roots``, and counts what it does not take as an image.

    Links are followed wherever they lead, to files and to folders, but each folder is read once: a link to one that is
    read where it lies, that a link has led to before, or that holds a root, is left out. Files and folders of the
    system (`is_system`), files of other suffixes, and masks beside their photographs (`masks_among`) are left out.

    ``suffixes``: of the files that are taken for images, with the dot, in small letters.
    """

    def __init__(self, *roots: Path, suffixes: Container[str] = IMAGE_SUFFIXES) -> None:
        self._suffixes = suffixes
        self._roots = {root: os.path.realpath(root) for root in roots}
        self._reached: set[str] = set()  # real folders that links led to
        self._known: dict[Path, _Place] = {}  # folders of which more is known than their path
        self._folders: dict[Path, list[Path]] = {}
        self._tally = Tally()

    @property
    def account(self) -> Account:
        """What was counted so far."""
        return self._tally.account

    def count(self, fate: Fate, reason: str, kind: str, number: int = 1) -> None:
        """Add to the account."""
        self._tally.add(fate, reason, kind, number)

    def folders(self, folder: Path, beside: str = "beside the class folders") -> list[Path]:
        """The folders in a folder by name; the files beside them are left out, for that reason, and counted once."""
        if folder not in self._folders:
            files, places = self._look(self._known.get(folder, _Place(path=folder)))
            for file in files:
                self.count(Fate.LEFT_OUT, beside, suffix_of(file.name))
            self._known |= {place.path: place for place in places if place.link or place.photographs}
            self._folders[folder] = [place.path for place in places if not self._holds_masks(place)]
        return self._folders[folder]

    def images(self, folder: Path) -> Iterator[Path]:
        """The images at any depth below a folder, folder by folder in the order of names."""
        places = [self._known.get(folder, _Place(path=folder))]
        while places:
            place = places.pop()
            files, below = self._look(place)
            yield from self._images_in(place, files)
            places += reversed(below)

    def _holds_masks(self, place: _Place) -> bool:
        """Whether all pictures in a folder of masks are some, as in ``masks/finch`` beside ``finch``; then counted."""
        if not place.photographs:
            return False
        apart = Walk(*self._roots, suffixes=self._suffixes)
        apart._known[place.path] = place
        has_others = any(True for _ in apart.images(place.path))
        if has_others or not any(entry.reason == MASKS for entry in apart.account.entries):
            return False
        for entry in apart.account.entries:
            for kind, number in entry.counts.items():
                self.count(entry.fate, entry.reason, kind, number)
        return True

    def leave_out(self, folder: Path, reason: str) -> None:
        """Count every file below a folder as left out."""
        for _, _, files in os.walk(folder):
            self.count(Fate.LEFT_OUT, reason, self._name(folder), len(files))

    def _images_in(self, place: _Place, files: Iterable["os.DirEntry[str]"]) -> Iterator[Path]:
        images: list[os.DirEntry[str]] = []
        for file in files:
            if suffix_of(file.name) in self._suffixes:
                images.append(file)
            elif file.is_symlink() and not os.path.exists(file.path):
                self.count(Fate.LEFT_OUT, "links that lead nowhere", self._name(Path(file.path)))
            else:
                self.count(Fate.LEFT_OUT, "with other suffixes", suffix_of(file.name))
        photographs = [name for folder in place.photographs for name in _names_in(folder)]
        masks = masks_among([image.name for image in images], photographs)
        for image in images:
            if image.name in masks:
                self.count(Fate.LEFT_OUT, MASKS, masks[image.name])
                continue
            self._count_link(place, image)
            yield Path(image.path)

    def _count_link(self, place: _Place, image: "os.DirEntry[str]") -> None:
        if image.is_symlink():
            leaves = not self._holds(os.path.realpath(image.path))
            self.count(Fate.LINKED, LEAVING if leaves else WITHIN, self._name(place.link or place.path))
        elif place.real and place.link:
            self.count(Fate.LINKED, WITHIN if self._holds(place.real) else LEAVING, self._name(place.link))

    def _look(self, place: _Place) -> tuple[list["os.DirEntry[str]"], list[_Place]]:
        """The files in a folder and the folders to go on with, both by name."""
        try:
            with os.scandir(place.path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f"{place.path}: expected a folder that can be opened, got: {error.strerror}; allow it or move it away"
            ) from None
        files, folders = [], []
        for entry in entries:
            if is_system(entry.name):
                self._count_system(entry)
            elif not _is_folder(entry):
                files.append(entry)
            elif is_drawn(Path(entry.path)):
                self.leave_out(Path(entry.path), "drawn by ifam")
            else:
                folders.append(entry)
        image_folders = [entry.name for entry in folders if is_image_folder(entry.name)]
        places = [self._place(place, entry, image_folders) for entry in folders]
        return files, [found for found in places if found]

    def _place(self, above: _Place, entry: "os.DirEntry[str]", image_folders: Iterable[str]) -> _Place | None:
        """The folder of an entry; None, and counted, where a link leads to what is read elsewhere."""
        path, link, real = Path(entry.path), above.link, None
        if entry.is_symlink():
            link, real = path, os.path.realpath(path)
        elif above.real:
            real = os.path.join(above.real, entry.name)
        if real and (why := self._why_not(real, is_link=entry.is_symlink())):
            self.count(Fate.LEFT_OUT, why, self._name(path))
            return None
        if real:
            self._reached.add(real)
        photographs = tuple(folder / entry.name for folder in above.photographs)
        if is_mask_folder(entry.name):
            photographs = (above.path, *(above.path / name for name in image_folders))
        return _Place(path=path, link=link, real=real, photographs=photographs)

    def _count_system(self, entry: "os.DirEntry[str]") -> None:
        kind, number = system_kind(entry.name), 1
        if entry.is_dir(follow_symlinks=False):
            kind, number = entry.name, sum(len(files) for _, _, files in os.walk(entry.path))
        self.count(Fate.LEFT_OUT, "of the system", kind, number)

    def _why_not(self, real: str, *, is_link: bool) -> str:
        """Why a real folder that a link led to is not read there; empty if it is."""
        for root in self._roots.values() if is_link else ():
            if Path(root).is_relative_to(real):
                return "links to folders that hold the data"
            if Path(real).is_relative_to(root) and not any(map(is_system, Path(real).relative_to(root).parts)):
                return "links to folders that are read where they lie"
        return "links to folders that are read through another" if real in self._reached else ""

    def _holds(self, real: str) -> bool:
        return any(Path(real).is_relative_to(root) for root in self._roots.values())

    def _name(self, path: Path) -> str:
        """Below the root, as people are to read it."""
        root = next((root for root in self._roots if path.is_relative_to(root)), Path())
        return spelt(os.path.relpath(path, root))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # there need not be any
        return []
