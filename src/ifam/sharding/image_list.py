"""The images of a sharded prediction, listed once and then fixed: a Parquet file with a row group for each shard."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ifam.data.find import images_at
from ifam.data.tar import TAR_SUFFIX, ImageFile, TarImage
from ifam.errors import DataError, UnavailableError
from ifam.files import replacing

FILE, SIZE, MODIFIED = "file", "size", "modified"
"""columns: the name as bytes, since it need not be UTF-8; bytes, and seconds since 1970, when it was listed"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from another that took its place, without reading it."""

    size: int
    modified: int
    """in whole seconds, which every file system keeps"""

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """That of the file as it is now; an `OSError` where there is none."""
        found = path.stat()
        return cls(found.st_size, int(found.st_mtime))

    def __str__(self) -> str:
        return f"{self.size:,} bytes of {datetime.fromtimestamp(self.modified):%Y-%m-%d %H:%M:%S}"


class ImageList:
    """Reads the list shard by shard; of 10⁸ images no more than one shard's is in memory.

    The images of a tar file are found when its shard is read.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        self._file: Any = ParquetFile(path)

    def __len__(self) -> int:
        """Shards."""
        return int(self._file.num_row_groups)

    def shard(self, number: int, *, skip_missing: bool = False) -> list[ImageFile]:
        """The images of one shard, in order.

        Raises:
            UnavailableError: a tar file cannot be read now, unless ``skip_missing``.
        """
        images = [image for path, _ in self._listed(number) for image in images_at(path)]
        for image in images:
            if isinstance(image, TarImage) and image.transient and not skip_missing:
                raise UnavailableError(str(image.fault))
        return images

    def require_unchanged(self, number: int, *, skip_missing: bool = False) -> None:
        """Refuse a shard whose files are not those that were listed.

        Raises:
            UnavailableError: files that are not there now, unless ``skip_missing``.
            DataError: files that are others now.
        """
        gone: dict[Path, str] = {}
        for path, before in self._listed(number):
            try:
                now = Stamp.of(path)
            except OSError as error:
                gone[path] = error.strerror or str(error)
                continue
            if before is not None and now != before:
                raise DataError(
                    f"{path}: expected the file that was listed when this prediction began ({before}), got another "
                    f"({now}); put that one back, or predict into another folder"
                )
        if gone and not skip_missing:
            first, reason = next(iter(gone.items()))
            raise UnavailableError(
                f"{first}: expected every file of shard {number}, got {len(gone)} that cannot be read now ({reason})"
            )

    def count_gone(self, number: int) -> int:
        """How many files of a shard are not there now."""
        return sum(not path.exists() for path, _ in self._listed(number))

    def _listed(self, number: int) -> list[tuple[Path, Stamp | None]]:
        """The files of a shard; without a stamp those that could not be read even then."""
        columns = (column.to_pylist() for column in self._file.read_row_group(number, [FILE, SIZE, MODIFIED]).columns)
        return [
            (Path(os.fsdecode(file)), None if size is None else Stamp(size, modified))
            for file, size, modified in zip(*columns, strict=True)
        ]


def write_image_list(path: Path, files: Iterable[Path], shard_size: int) -> None:
    """Write the list as its files are found: so many images a shard, and each tar file a shard of its own."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(FILE, pa.binary()), (SIZE, pa.int64()), (MODIFIED, pa.int64())])
    with replacing(path) as temporary, ParquetWriter(temporary, schema) as out:
        for shard in _shards(files, shard_size):
            stamps = [_stamp(file) for file in shard]
            columns = {
                FILE: [os.fsencode(file) for file in shard],
                SIZE: [stamp and stamp.size for stamp in stamps],
                MODIFIED: [stamp and stamp.modified for stamp in stamps],
            }
            table = pa.table(columns, schema=schema)
            out.write_table(table, row_group_size=len(shard))


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None


def _shards(files: Iterable[Path], size: int) -> Iterator[list[Path]]:
    shard: list[Path] = []
    for file in files:
        is_tar = file.suffix.lower() == TAR_SUFFIX
        if shard and (is_tar or len(shard) == size):
            yield shard
            shard = []
        if is_tar:
            yield [file]
        else:
            shard.append(file)
    if shard:
        yield shard
