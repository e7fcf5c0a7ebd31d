"""The images of a sharded prediction, listed once and then fixed: a Parquet file with a row group for each shard."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ifam.data.find import images_at
from ifam.data.tar import TAR_SUFFIX, ImageFile
from ifam.files import replacing

COLUMN = "file"
"""bytes: a name need not be UTF-8"""


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

    def shard(self, number: int) -> list[ImageFile]:
        """The images of one shard, in order."""
        files = self._file.read_row_group(number)[COLUMN].to_pylist()
        return [image for file in files for image in images_at(Path(os.fsdecode(file)))]


def write_image_list(path: Path, files: Iterable[Path], shard_size: int) -> None:
    """Write the list as its files are found: so many images a shard, and each tar file a shard of its own."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(COLUMN, pa.binary())])
    with replacing(path) as temporary, ParquetWriter(temporary, schema) as out:
        for shard in _shards(files, shard_size):
            table = pa.table({COLUMN: [os.fsencode(file) for file in shard]}, schema=schema)
            out.write_table(table, row_group_size=len(shard))


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
