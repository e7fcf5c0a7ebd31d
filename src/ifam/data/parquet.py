"""Parquet files, row by row, of which only the wanted columns are read."""

from collections.abc import Sequence
from pathlib import Path

from ifam.data.columns import find_columns
from ifam.data.delimited import Row
from ifam.errors import DataError, first_line

_BATCH, _LONGEST = 256, 2**16  # rows that are unpacked at once, and bytes of each
_LARGEST_FOOTER = 2**22
"""bytes that describe the columns, some thousands of them; pyarrow takes twenty times as much memory to unpack them"""


def read_parquet(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """Every row as column name -> text, of the wanted columns that are there; null and NaN are empty text.

    Memory grows with the size of the file, whatever it unpacks to.
    """
    import pyarrow.parquet

    rows: list[Row] = []
    try:
        if _LARGEST_FOOTER < _footer(path) <= path.stat().st_size:
            raise DataError(f"{path}: expected some thousands of columns at most, got more; keep those that are needed")
        file = pyarrow.parquet.ParquetFile(path)
        header = file.schema_arrow.names
        names = {
            header[at]: name for name, at in find_columns(path, header, required=required, optional=optional).items()
        }
        if file.metadata.num_rows > path.stat().st_size:  # no two rows of an honest table are alike
            raise DataError(f"{path}: expected fewer rows than bytes, got {file.metadata.num_rows:,}; use a CSV file")
        for batch in file.iter_batches(_BATCH, columns=list(names)):
            if batch.nbytes > _BATCH * _LONGEST:
                raise DataError(f"{path}: expected values of at most {_LONGEST:,} bytes, got longer ones; shorten them")
            rows += [{names[column]: _text(value) for column, value in row.items()} for row in batch.to_pylist()]
    except DataError:
        raise
    except Exception as error:  # damaged bytes make pyarrow raise many kinds
        raise DataError(f"{path}: expected a Parquet file, got one that cannot be read ({first_line(error)})") from None
    if not rows:
        raise DataError(f"{path}: expected at least one row, got none; fill the table")
    return rows


def _text(value: object) -> str:
    missing = value is None or value != value  # NaN, which pandas writes for what is missing among numbers
    return "" if missing else str(value).strip()


def _footer(path: Path) -> int:
    """Bytes of what describes the columns, as the end of the file says."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        return int.from_bytes(file.read(8)[:4], "little")
