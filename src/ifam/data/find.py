"""Images by the names of files and folders, and by globs."""

import glob
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from ifam.data.folders import IMAGE_SUFFIXES, images_below
from ifam.data.read import photographs_beside_masks
from ifam.data.tables import is_table_file, photographs_of
from ifam.data.tar import TAR_SUFFIX, ImageFile, images_in_tar
from ifam.errors import DataError

TARS_AND_IMAGES = IMAGE_SUFFIXES | {TAR_SUFFIX}


def find_images(patterns: Sequence[str], suffixes: Container[str] = IMAGE_SUFFIXES) -> Iterator[Path]:
    """Files as named, images below folders, and what globs match; each once, in order, found as they are asked for.

    Of a CSV or Parquet file, the files in its column path. Of a folder that is a data set with masks or other
    annotations in pictures, its photographs alone.
    ``suffixes``: of what is taken from folders.

    Raises:
        DataError: a pattern that finds nothing.
    """
    seen: set[Path] = set()  # what was matched, but not what lies below it, which may be more than fits in memory
    for pattern in patterns:
        path = Path(pattern)
        matches = [path] if path.exists() else map(Path, sorted(glob.glob(pattern, recursive=True)))
        found = False
        for match in matches:
            for image in _images_of(match, suffixes):
                found = True
                if not seen or seen.isdisjoint((image, *image.parents)):
                    yield image
            seen.add(match)
        if not found:
            raise DataError(f"{pattern}: expected images, a folder of images or a glob that matches some, found none")


def _images_of(path: Path, suffixes: Container[str]) -> Iterable[Path]:
    if not path.is_dir():
        return photographs_of(path) if is_table_file(path) else [path]
    photographs = photographs_beside_masks(path)
    return images_below(path, suffixes) if photographs is None else photographs


def images_at(path: Path) -> list[ImageFile]:
    """The images of a tar file; of another file, itself."""
    return [*images_in_tar(path)] if path.suffix.lower() == TAR_SUFFIX else [path]
