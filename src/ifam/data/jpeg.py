"""What a JPEG file costs to decode, from its markers: many scans cost far more than their bytes."""

import re
from collections.abc import Iterator

from ifam.errors import DataError

MOST_COEFFICIENTS = 50_000_000_000
"""that all scans of an image may go through, two seconds of work; a progressive one of 89 million pixels needs 45"""
PER_SCAN = 4
"""coefficients' worth of work for each block that a scan has nothing to say of"""
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # within a scan, 0xff is followed by 0 or a restart
_ALONE = (0x01, 0xD8)  # markers that no length follows
_END, _START_OF_SCAN = 0xD9, 0xDA
_SEQUENTIAL = (0xC0, 0xC1)


def check_scans(content: bytes, pixels: int, name: object) -> None:
    """Refuse a JPEG file whose scans cost much more than one picture does; ``name`` begins the error.

    A scan goes through every block of the image, whether or not it says anything of it: 300 kB may take 10 s, which
    neither the library's limit of pixels sees nor one of bytes would.
    """
    cost = 0
    for components, coefficients in _scans(content):
        cost += pixels * components * (coefficients + PER_SCAN)
        if cost > MOST_COEFFICIENTS:
            raise DataError(
                f"{name}: expected a JPEG file of few scans (a progressive one has about ten), got one that goes "
                f"through its {pixels:,} pixels many times more; save it again"
            )


def _scans(content: bytes) -> Iterator[tuple[int, int]]:
    """(components, coefficients of a block) of each scan; nothing of the usual file, which has one for all."""
    position, sequential_components = 0, 0
    while (found := _MARKER.search(content, position)) and (marker := found[1][0]) != _END:
        start = found.end()
        if marker in _ALONE:
            position = start
            continue
        position = start + int.from_bytes(content[start : start + 2], "big")
        segment = content[start + 2 : position]
        if marker in _SEQUENTIAL and len(segment) > 5:
            sequential_components = segment[5]
        if marker == _START_OF_SCAN and len(segment) > 3:
            if segment[0] == sequential_components:
                return
            first, last = segment[-3:-1]
            yield segment[0], max(1, last - first + 1)
