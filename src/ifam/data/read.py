"""One call for every layout of images on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ifam.data import cub, imagenet, imagenet9, metashift, siim, waterbirds
from ifam.data.folders import read_folders, subfolders
from ifam.data.metadata import METADATA, lacks_metadata, read_metadata
from ifam.data.table import ImageTable
from ifam.data.tables import is_table_file, read_table_file
from ifam.errors import DataError

_ACCEPTED = (
    "a .csv or .parquet file with the columns path and label; or a folder: one with metadata.csv, one of class folders "
    "(train, val and test may lie above them), or one of CUB-200-2011, Waterbirds, MetaShift, SIIM-ACR, ImageNet-1K or "
    "ImageNet-9 as it is published"
)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    matches: Callable[[Path], bool]
    read: Callable[[Path], ImageTable]
    has_masks: bool = False
    """there may be pictures in the folder that are annotations, not photographs"""


# the first that matches reads
_LAYOUTS = (
    _Layout(matches=is_table_file, read=read_table_file),
    _Layout(matches=waterbirds.is_waterbird200, read=waterbirds.waterbird200, has_masks=True),
    _Layout(matches=lambda path: (path / METADATA).is_file(), read=read_metadata, has_masks=True),
    _Layout(matches=cub.is_cub, read=cub.read_cub, has_masks=True),
    _Layout(matches=siim.is_siim, read=siim.read_siim, has_masks=True),
    _Layout(matches=imagenet9.is_imagenet9, read=imagenet9.read_imagenet9),
    _Layout(matches=imagenet.is_imagenet, read=imagenet.read_imagenet),
    _Layout(matches=metashift.is_metashift, read=metashift.read_metashift),
    _Layout(matches=lacks_metadata, read=read_metadata),  # which says so
    _Layout(matches=lambda path: path.is_dir() and bool(subfolders(path)), read=read_folders),
)


def read_table(path: str | PathLike[str]) -> ImageTable:
    """The data set at ``path``, in whatever accepted layout it is."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: expected a data set, got a path that does not exist; check its spelling")
    layout = _layout_of(path)
    if layout is not None:
        return layout.read(path)
    came = "an empty or flat folder" if path.is_dir() else "another file"
    raise DataError(f"{path}: expected {_ACCEPTED}; got {came}")


def tables_left_out(folder: Path) -> list[Path]:
    """CSV and Parquet files in a folder that is read by its subfolders or its images, and not by them."""
    layout = _layout_of(folder)
    is_read = layout is not None and layout.read is not read_folders and not lacks_metadata(folder)
    if is_read or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_table_file(path))


def _layout_of(path: Path) -> _Layout | None:
    return next((layout for layout in _LAYOUTS if layout.matches(path)), None)


def photographs_beside_masks(folder: Path) -> list[Path] | None:
    """The photographs of a data set in whose folder other pictures may lie; None of any other folder."""
    try:
        layout = next((layout for layout in _LAYOUTS if layout.has_masks and layout.matches(folder)), None)
        return None if layout is None else [sample.path for sample in layout.read(folder).samples]
    except DataError:  # a folder of images all the same
        return None
