"""Files that cost far more to read than to write are refused before they do; honest neighbours are read.

What is refused is counted in bytes and coefficients here, not in seconds.
"""

import io
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from costly import holes, many_scans, photograph, png_with, tiff_of_strips
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from ifam.data import jpeg
from ifam.data.bounded import BoundedFile
from ifam.data.images import image_size, open_image
from ifam.data.jpeg import check_scans
from ifam.data.tar import images_in_tar
from ifam.errors import DataError
from ifam.files import MIB

GIB = 2**30
MEMORY = 100 * MIB


@pytest.mark.parametrize(("side", "scans"), [(9400, 1000), (2000, 12_000)])
def test_many_scans_are_refused(tmp_path: Path, refuses: Any, side: int, scans: int) -> None:
    (tmp_path / "x.jpg").write_bytes(many_scans(side, scans))
    with refuses(tmp_path / "x.jpg", "of few scans"):
        open_image(tmp_path / "x.jpg")
    assert image_size(tmp_path / "x.jpg") == (side, side)


def test_many_scans_of_few_pixels_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(many_scans(100, 300))
    assert open_image(tmp_path / "x.jpg").size == (100, 100)


def test_scans_inside_a_dicom_file(tmp_path: Path, write_dicom: Callable[..., Path], refuses: Any) -> None:
    path = write_dicom(tmp_path / "x.dcm", np.zeros((9400, 9400), np.uint8))
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([many_scans(9400, 1000)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path)
    with refuses(path, "of few scans"):
        open_image(path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 1}])
def test_the_scans_of_honest_files(options: dict[str, Any]) -> None:
    """Of the largest image, progressive and with its colours whole; the scans of its thumbnail are not its own."""
    content = photograph(exif=b"Exif\0\0" + many_scans(16, 50), **options)
    check_scans(content, 89_000_000, "x.jpg")
    scans = list(jpeg._scans(content))
    assert len(scans) == (10 if options.get("progressive") else 0)
    check_scans(content[: len(content) // 2], 89_000_000, "x.jpg")
    check_scans(b"\xff\xd8" + b"\xff\xda", 89_000_000, "x.jpg")


def test_twenty_scans_of_a_camera_are_within_the_limit() -> None:
    content = many_scans(4900, 0)[:-2]  # 24 million pixels
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x3f\x00"  # of all coefficients but the first
    check_scans(content + 20 * scan, 4900 * 4900, "x.jpg")
    with pytest.raises(DataError):
        check_scans(content + 60 * scan, 4900 * 4900, "x.jpg")


def test_sequential_files_of_several_scans() -> None:
    """Each component in a scan of its own, as some encoders write; only the first scan of all ends the count."""
    frame = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 8, 8, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\0\x3f\0" + b"data\xff\0data\xff\xd0data"
    assert list(jpeg._scans(frame + scan * 3 + b"\xff\xd9" + scan)) == [(1, 64)] * 3
    whole = b"\xff\xda" + struct.pack(">HB", 12, 3) + b"\1\0\2\0\3\0\0\x3f\0" + b"data"
    assert list(jpeg._scans(frame + whole + scan * 3)) == []


def dicom(path: Path, write_dicom: Callable[..., Path], extra: bytes, size: int, at: int = 0x7FE0) -> Path:
    """With an element before the pixels (or another group) that is of so many zeros."""
    content = write_dicom(path, np.arange(2000, dtype=np.uint8).reshape(40, 50)).read_bytes()
    place = content.index(struct.pack("<H", at))
    return holes(path, content[:place] + extra + struct.pack("<I", size), size, content[place:])


def test_holes_are_not_read(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    jpg = photograph()
    whole = write_dicom(tmp_path / "whole.dcm", np.zeros((40, 50), np.uint8)).read_bytes()
    pixels = whole.rindex(b"\xe0\x7f\x10\x00")
    paths = [
        holes(tmp_path / "empty.jpg", 3 * GIB),
        holes(tmp_path / "begun.jpg", jpg[:20], 3 * GIB),
        holes(tmp_path / "begun.png", png_with()[:33], 3 * GIB),
        holes(
            tmp_path / "text.png", png_with()[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt", 2 * GIB, png_with()[33:]
        ),
        holes(tmp_path / "strips.tif", tiff_of_strips(2**29), 3 * GIB),
        holes(tmp_path / "begun.dcm", bytes(128) + b"DICM", 3 * GIB),
        holes(tmp_path / "no preamble.dcm", 3 * GIB),
        holes(
            tmp_path / "pixels.dcm", whole[:pixels] + b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", 3 * GIB), 3 * GIB
        ),
        dicom(tmp_path / "table.dcm", write_dicom, b"\x28\x00\x10\x30SQ\0\0", 3 * GIB),
    ]
    for path in paths:
        tracemalloc.start()
        with pytest.raises(DataError) as raised:
            open_image(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY, path
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_element_that_nobody_asked_for_is_passed_over(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    tracemalloc.start()
    path = dicom(tmp_path / "x.dcm", write_dicom, b"\x09\x00\x01\x10OB\0\0", 3 * GIB, at=0x0028)
    assert open_image(path).size == image_size(path) == (50, 40)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: png_with(*[(b"tEXt", b"a\0b")] * 400_000), id="chunks"),
        pytest.param(lambda: photograph()[:2] + b"\xff" * 2_000_000 + photograph()[2:], id="padding"),
        pytest.param(lambda: photograph()[:2] + b"\xff\xfe\0\2" * 400_000 + photograph()[2:], id="comments"),
        pytest.param(lambda: b"GIF89a\x28\0\x28\0\x80\0\0" + bytes(6) + b"!\xfe\x01a\0" * 400_000, id="blocks"),
    ],
)
def test_many_small_pieces_are_refused(tmp_path: Path, refuses: Any, content: Callable[[], bytes]) -> None:
    (tmp_path / "x").write_bytes(content())
    with refuses(tmp_path / "x", "at most 64 MiB"):
        open_image(tmp_path / "x")


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_of_many_pages_the_first_is_read(tmp_path: Path, suffix: str) -> None:
    pages = [Image.new("RGB", (20, 20), (number % 256, 0, 0)) for number in range(50, 350)]
    pages[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=pages[1:], lossless=True)
    assert open_image(tmp_path / f"x.{suffix}").getpixel((3, 3)) == (50, 0, 0)


def test_a_file_of_pages_may_be_larger_than_what_is_read_of_it(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (9, 8, 7)).save(tmp_path / "x.tif")
    with (tmp_path / "x.tif").open("r+b") as file:
        file.truncate(2 * GIB)
    assert open_image(tmp_path / "x.tif").getpixel((3, 3)) == (9, 8, 7)


def test_a_bounded_file_reads_as_any_other() -> None:
    content = np.random.default_rng(0).bytes(300_000)
    for name in ("read", "negative", "none"):
        file = BoundedFile(io.BytesIO(content), name, len(content) + 256)
        assert file.read(*{"read": (), "negative": (-1,), "none": (None,)}[name]) == content
        assert file.read(5) == b""
    file = BoundedFile(io.BytesIO(content), "x", MIB)
    file.seek(100)
    assert file.read(10) == content[100:110]
    assert file.read(10**9) == content[110:]
    assert file.tell() == len(content)


def test_a_bounded_file_counts_bytes_and_calls() -> None:
    file = BoundedFile(io.BytesIO(bytes(10 * MIB)), "x", MIB)
    with pytest.raises(DataError, match="x: expected at most 1 MiB"):
        file.read(2 * MIB)
    assert file.tell() == 0
    for _ in range(MIB // 256):
        file.read(1)
    with pytest.raises(DataError):
        file.read(1)
    file.allow(MIB)
    assert len(file.read(MIB - 256)) == MIB - 256


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_of_tar_files(tmp_path: Path, kind: bytes) -> None:
    path = holes(tmp_path / "x.tar", member("././@Header", 2 * GIB, kind), 2 * GIB, bytes(1024))
    tracemalloc.start()
    (only,) = images_in_tar(path)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()
    with pytest.raises(DataError, match=r"x\.tar: expected at most 1 MiB"):
        open_image(only)


def test_members_of_tar_files(tmp_path: Path) -> None:
    picture = png_with()
    first = member("a.png", len(picture)) + picture + bytes(-len(picture) % 512)
    path = holes(tmp_path / "x.tar", first + member("b.png", 3 * GIB), 3 * GIB, bytes(1024))
    whole, hole = images_in_tar(path)
    assert open_image(whole).size == (40, 40)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x\.tar/b\.png: expected an image of at most 256 MiB, got 3,072 MiB"):
        open_image(hole)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


def test_many_honest_members_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    picture = png_with()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for number in range(3000):
            info = tarfile.TarInfo(f"ü{number}.png")
            info.size = len(picture)
            out.addfile(info, io.BytesIO(picture))
    images = images_in_tar(path)
    assert len(images) == 3000
    assert not any(image.fault for image in images)
