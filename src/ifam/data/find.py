"""Images by the names of files and folders, and by globs."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ifam.data.account import Account
from ifam.data.read import photographs_beside_masks
from ifam.data.suffixes import IMAGE_SUFFIXES
from ifam.data.tables import is_table_file, photographs_of
from ifam.data.tar import TAR_SUFFIX, ImageFile, images_in_tar
from ifam.data.walk import Walk
from ifam.errors import DataError
from ifam.outputs import is_drawn

TARS_AND_IMAGES = IMAGE_SUFFIXES | {TAR_SUFFIX}


class ImageSearch:
    """Files as named, images below folders, and what globs match; each once, in order, found as they are asked for.

    Of a CSV or Parquet file, the files in its column path. Of a folder that is a data set with masks or other
    annotations in pictures, its photographs alone; of other folders what `Walk` finds, whose ``account`` is complete
    when the last image was asked for. What lies in a folder of pictures that ifam drew is left out.
    """

    def __init__(self, patterns: Sequence[str], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> None:
        self._patterns = patterns
        self._walk = Walk(*(path for path in map(Path, patterns) if path.is_dir()), suffixes=suffixes)

    @property
    def account(self) -> Account:
        """What was left out, or reached through links, so far."""
        return self._walk.account

    def __iter__(self) -> Iterator[Path]:
        """The images.

        Raises:
            DataError: a pattern that finds nothing, or nothing but what ifam drew.
        """
        seen: set[Path] = set()  # what was matched, but not what lies below it, which may be more than fits in memory
        drawn: list[Path] = []
        for pattern in self._patterns:
            path = Path(pattern)
            matches = [path] if path.exists() else map(Path, sorted(glob.glob(pattern, recursive=True)))
            found = False
            for match in matches:
                if is_drawn(match) or is_drawn(match.parent):  # photographs/* names what was drawn there, too
                    drawn.append(match)
                    continue
                if not seen.isdisjoint((match, *match.parents)):
                    found = True
                    continue
                for image in self._images_of(match):
                    found = True
                    if not seen or seen.isdisjoint((image, *image.parents)):
                        yield image
                seen.add(match)
            if not found and not drawn:
                but = f" ({self.account.line()})" if self.account else ""
                raise DataError(
                    f"{pattern}: expected images, a folder of images or a glob that matches some, found none{but}"
                )
        if drawn and not seen:
            raise DataError(
                f"{drawn[0]}: expected photographs, got a folder of pictures that ifam drew; name the photographs"
            )

    def _images_of(self, path: Path) -> Iterable[Path]:
        if not path.is_dir():
            return photographs_of(path) if is_table_file(path) else [path]
        photographs = photographs_beside_masks(path)
        return self._walk.images(path) if photographs is None else photographs


def find_images(patterns: Sequence[str], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Iterator[Path]:
    """What an `ImageSearch` finds, without its account."""
    return iter(ImageSearch(patterns, suffixes))


def images_at(path: Path) -> list[ImageFile]:
    """The images of a tar file; of another file, itself."""
    return [*images_in_tar(path)] if path.suffix.lower() == TAR_SUFFIX else [path]
