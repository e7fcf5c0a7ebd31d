"""One call for every layout of images on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ifam.data import cub, imagenet, imagenet9, metashift, siim, waterbirds
from ifam.data.folders import read_folders, subfolders
from ifam.data.metadata import METADATA, read_metadata
from ifam.data.table import ImageTable
from ifam.data.tables import read_table_file
from ifam.errors import DataError


@dataclass(frozen=True, kw_only=True)
class _Layout:
    description: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], ImageTable]


# the first that matches reads
_LAYOUTS = (
    _Layout(
        description="a .csv or .parquet file with the columns path and label",
        matches=lambda path: path.is_file() and path.suffix.lower() in (".csv", ".parquet"),
        read=read_table_file,
    ),
    _Layout(description=waterbirds.LAYOUT, matches=waterbirds.is_waterbird200, read=waterbirds.waterbird200),
    _Layout(
        description=f"a folder with {METADATA}",
        matches=lambda path: (path / METADATA).is_file(),
        read=read_metadata,
    ),
    _Layout(description=cub.LAYOUT, matches=cub.is_cub, read=cub.read_cub),
    _Layout(description=siim.LAYOUT, matches=siim.is_siim, read=siim.read_siim),
    _Layout(description=imagenet9.LAYOUT, matches=imagenet9.is_imagenet9, read=imagenet9.read_imagenet9),
    _Layout(description=imagenet.LAYOUT, matches=imagenet.is_imagenet, read=imagenet.read_imagenet),
    _Layout(description=metashift.LAYOUT, matches=metashift.is_metashift, read=metashift.read_metashift),
    _Layout(
        description="a folder of class folders, with or without train, val and test above them",
        matches=lambda path: path.is_dir() and bool(subfolders(path)),
        read=read_folders,
    ),
)


def read_table(path: str | PathLike[str]) -> ImageTable:
    """The data set at ``path``, in whatever accepted layout it is."""
    path = Path(path)
    accepted = ", ".join(layout.description for layout in _LAYOUTS)
    if not path.exists():
        raise DataError(f"{path}: expected {accepted}; got a path that does not exist")
    for layout in _LAYOUTS:
        if layout.matches(path):
            return layout.read(path)
    raise DataError(
        f"{path}: expected {accepted}; got {'an empty or flat folder' if path.is_dir() else 'another file'}"
    )
