"""One call for every layout of images on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ifam.data import cub, imagenet, imagenet9, metashift, siim, tiny_imagenet, waterbirds
from ifam.data.folders import read_folders, subfolders
from ifam.data.metadata import METADATA, lacks_metadata, read_metadata
from ifam.data.table import ImageTable
from ifam.data.tables import is_table_file, read_table_file
from ifam.errors import DataError

_ACCEPTED = (
    "a .csv or .parquet file with the columns path and label; or a folder: one with metadata.csv, one of class folders "
    "(train, val and test may lie above them), or one of CUB-200-2011, Waterbirds, MetaShift, SIIM-ACR, ImageNet-1K, "
    "Tiny ImageNet or ImageNet-9 as it is published"
)


_LONGEST_HEADER = 2**16


@dataclass(frozen=True, kw_only=True)
class _Layout:
    matches: Callable[[Path], bool]
    read: Callable[[Path], ImageTable]
    has_masks: bool = False
    """there may be pictures in the folder that are annotations, not photographs"""


def _goes_by_metadata(root: Path) -> bool:
    """Whether ``metadata.csv`` lists the images as Waterbirds' does, or there is nothing else to go by.

    Tables of that name lie beside class folders too.
    """
    path = root / METADATA
    if not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.readline(_LONGEST_HEADER).lower()
    is_annotated = (root / "images").is_dir() and (root / "masks").is_dir()
    return b"img_filename" in header or b"img_id" in header or is_annotated or len(subfolders(root)) < 2


# the first that matches reads
_LAYOUTS = (
    _Layout(matches=is_table_file, read=read_table_file),
    _Layout(
        matches=lambda path: _goes_by_metadata(path) and waterbirds.is_waterbird200(path),
        read=waterbirds.waterbird200,
        has_masks=True,
    ),
    _Layout(matches=_goes_by_metadata, read=read_metadata, has_masks=True),
    _Layout(matches=cub.is_cub, read=cub.read_cub, has_masks=True),
    _Layout(matches=siim.is_siim, read=siim.read_siim, has_masks=True),
    _Layout(matches=imagenet9.is_imagenet9, read=imagenet9.read_imagenet9),
    _Layout(matches=tiny_imagenet.is_tiny_imagenet, read=tiny_imagenet.read_tiny_imagenet),
    _Layout(matches=imagenet.is_imagenet, read=imagenet.read_imagenet),
    _Layout(matches=metashift.is_metashift, read=metashift.read_metashift),
    _Layout(matches=lacks_metadata, read=read_metadata),  # which says so
    _Layout(matches=lambda path: path.is_dir() and bool(subfolders(path)), read=read_folders),
)
_BY_FOLDERS = (read_folders, metashift.read_metashift)


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
    is_read = layout is not None and layout.read not in _BY_FOLDERS and not lacks_metadata(folder)
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
