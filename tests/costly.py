"""Files that are cheap to write and dear to read, and honest neighbours of them."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG whose scans of one coefficient say nothing of any block."""
    blocks = ((side + 7) // 8) ** 2
    bits = ("0" + "1" * 14) * -(-blocks // 32767)  # each: no coefficients in 32767 blocks
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    out = b"\xff\xd8\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\1" * 64
    out += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\x01\x11\x00"
    for table in (b"\x00\x01" + bytes(15) + b"\x00", b"\x10\x01" + bytes(15) + b"\xe0"):
        out += b"\xff\xc4" + struct.pack(">H", 2 + len(table)) + table
    out += b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x00\x00" + bytes((blocks + 7) // 8)
    for number in range(scans):
        band = number % 63 + 1
        out += b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00" + bytes([band, band, 0]) + empty
    return out + b"\xff\xd9"


def photograph(size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "JPEG", **options)
    return content.getvalue()


def holes(path: Path, *pieces: bytes | int) -> Path:
    """A file of these bytes, with so many zeros that take no room on the disk."""
    with path.open("wb") as file:
        for piece in pieces:
            if isinstance(piece, bytes):
                file.write(piece)
            else:
                file.seek(piece, os.SEEK_CUR)
        file.truncate(file.tell())
    return path


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 40)).save(content, "PNG")
    whole = content.getvalue()
    more = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return whole[:33] + more + whole[33:]


def tiff_of_strips(count: int) -> bytes:
    """A header that says that its image lies in so many strips."""
    entries = [(256, 3, 1, 40), (257, 3, 1, 40), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, count, 8), (277, 3, 1, 1), (278, 4, 1, 40), (279, 4, count, 8)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + ifd + bytes(4)
