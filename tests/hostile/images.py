"""Photographs that are damaged, disguised, enormous or none."""

import io
import os
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from costly import holes, many_scans, photograph, png_with, tiff_of_strips
from layouts import write_dicom
from PIL import Image

from hostile.case import DAMAGES, TRAIN, Case, Expected, Material, Write, fresh

SUFFIXES = (".png", ".jpg", ".gif", ".webp", ".tif", ".bmp", ".ppm", ".pgm", ".dcm")
PER_DAMAGE = 2


def image_cases() -> Iterator[Case]:
    for name in BASES:
        yield _case(f"{name}/whole", _written(name), "works")
        for fault in DAMAGES:
            for number in range(PER_DAMAGE):
                yield _case(f"{name}/{fault}/{number}", _damaged(name, fault))
        for suffix in (".jpg", ".dcm"):
            yield _case(f"{name}/called {suffix}", _written(name, suffix))
    for name in FOREIGN:
        yield _case(f"{name}/foreign", _written(name, ".jpg"), "refused")
        yield _case(f"{name}/foreign/damaged", _damaged(name, "flipped", ".png"))
    for name, (write, expected) in SPECIAL.items():
        yield _case(f"special/{name}", write, expected)
    for name, (write, expected) in PLACES.items():
        yield Case(name=f"images/place/{name}", write=write, expected=expected)
    for name, content in UPLOADS.items():
        yield Case(name=f"images/upload/{name}", write=_uploaded(content))


def _case(name: str, write: Callable[[Path, Random], Path], expected: Expected | None = None) -> Case:
    def prepare(place: Path, material: Material, random: Random) -> list[str]:
        path = write(place / "in", random)
        return ["ifam", "predict", str(material.model), str(path), "--out", "out/rows.jsonl", "--device", "cpu"]

    return Case(name=f"images/{name}", write=prepare, expected=expected)


def _pixels(shape: tuple[int, ...] = (40, 50, 3), dtype: Any = np.uint8) -> Any:
    """A gradient with some noise, so that every encoder has something to say."""
    noise = np.random.default_rng(0).integers(0, 30, shape)
    ramp = np.linspace(0, 200, shape[1]).reshape(1, -1, *(1 for _ in shape[2:]))
    return (noise + ramp).astype(dtype)


def _encoded(array: Any, format: str, mode: str | None = None, **options: Any) -> Callable[[], bytes]:
    def encode() -> bytes:
        image, file = Image.fromarray(array), io.BytesIO()
        (image.convert(mode) if mode else image).save(file, format, **options)
        return file.getvalue()

    return encode


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _frames(format: str, **options: Any) -> Callable[[], bytes]:
    more = [Image.fromarray(_pixels() + np.uint8(9 * number)) for number in range(1, 4)]
    return _encoded(_pixels(), format, save_all=True, append_images=more, **options)


def _dicom(values: Any, **tags: Any) -> Callable[[], bytes]:
    def encode() -> bytes:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            return write_dicom(Path(folder, "x.dcm"), values, **tags).read_bytes()

    return encode


BASES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png": (".png", _encoded(_pixels(), "png")),
    "transparent png": (".png", _encoded(_pixels((40, 50, 4)), "png")),
    "palette png": (".png", _encoded(_pixels(), "png", "P")),
    "16-bit png": (".png", _encoded(_pixels((40, 50), np.uint16) * np.uint16(257), "png")),
    "two-tone png": (".png", _encoded(_pixels((40, 50)), "png", "1")),
    "animated png": (".png", _frames("png")),
    "jpeg": (".jpg", _encoded(_pixels(), "jpeg")),
    "progressive jpeg": (".jpg", _encoded(_pixels(), "jpeg", progressive=True)),
    "cmyk jpeg": (".jpg", _encoded(_pixels(), "jpeg", "CMYK")),
    "grey jpeg": (".jpg", _encoded(_pixels((40, 50)), "jpeg")),
    "turned jpeg": (".jpg", _encoded(_pixels(), "jpeg", exif=_exif(6))),
    "mpo": (".jpg", _frames("mpo")),
    "gif": (".gif", _frames("gif")),
    "webp": (".webp", _encoded(_pixels(), "webp")),
    "animated webp": (".webp", _frames("webp", lossless=True)),
    "lzw tiff": (".tif", _encoded(_pixels(), "tiff", compression="tiff_lzw")),
    "jpeg tiff": (".tif", _encoded(_pixels(), "tiff", compression="jpeg")),
    "fax tiff": (".tif", _encoded(_pixels((40, 50)), "tiff", "1", compression="group4")),
    "cmyk tiff": (".tif", _encoded(_pixels(), "tiff", "CMYK")),
    "16-bit tiff": (".tif", _encoded(_pixels((40, 50), np.uint16), "tiff")),
    "tiff of pages": (".tif", _frames("tiff")),
    "bmp": (".bmp", _encoded(_pixels(), "bmp")),
    "ppm": (".ppm", _encoded(_pixels(), "ppm")),
    "16-bit pgm": (".pgm", _encoded(_pixels((40, 50), np.uint16) * np.uint16(257), "ppm")),
    "dicom": (".dcm", _dicom(_pixels((40, 50)))),
    "16-bit dicom": (".dcm", _dicom(_pixels((40, 50), np.uint16), RescaleSlope="2", RescaleIntercept="-9")),
    "dicom of frames": (".dcm", _dicom(_pixels((3, 40, 50)), NumberOfFrames=3)),
}
"""files that are in order, with their suffixes"""
FOREIGN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "eps": (".eps", _encoded(_pixels(), "eps")),
    "tga": (".tga", _encoded(_pixels(), "tga")),
    "ico": (".ico", _encoded(_pixels(), "ico")),
    "jp2": (".jp2", _encoded(_pixels(), "jpeg2000")),
    "pcx": (".pcx", _encoded(_pixels(), "pcx")),
    "dds": (".dds", _encoded(_pixels(), "dds")),
    "sgi": (".sgi", _encoded(_pixels(), "sgi")),
    "pdf": (".pdf", _encoded(_pixels(), "pdf")),
    "svg": (".svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
}
"""formats that were not asked for: a decoder fewer, and no PostScript, is a hole fewer"""


@cache
def _bytes(name: str) -> bytes:
    return (BASES | FOREIGN)[name][1]()


def _written(name: str, suffix: str | None = None) -> Callable[[Path, Random], Path]:
    return lambda folder, random: fresh(folder / f"x{suffix or BASES[name][0]}", _bytes(name))


def _damaged(name: str, fault: str, suffix: str | None = None) -> Callable[[Path, Random], Path]:
    return lambda folder, random: fresh(folder / f"x{suffix or BASES[name][0]}", DAMAGES[fault](_bytes(name), random))


def png_of_size(width: int, height: int, color: int = 2, depth: int = 8, rest: bytes = b"") -> bytes:
    """A header that promises an image, and whatever follows."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + rest


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@cache
def _whole_png(width: int, height: int, color: int = 2, depth: int = 8) -> bytes:
    """All pixels zero, which compress a thousandfold."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    packer = zlib.compressobj(1)
    row = bytes(1 + -(-width * channels * depth // 8))
    packed = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    return png_of_size(width, height, color, depth, _chunk(b"IDAT", packed) + _chunk(b"IEND", b""))


def _file(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path, Random], Path]:
    return lambda folder, random: fresh(folder / name, content() if callable(content) else content)


def _bmp_of_size(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _gif_of_size(width: int, height: int) -> bytes:
    box = struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + b"," + box + b"\x02\x02\x4c\x01\0;"


def _tiff(tags: dict[int, tuple[int, int]], next_ifd: int = 0) -> bytes:
    """Tag -> (type, value); strips, where any, begin at the file's first byte."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_ifd)


def _tiff_of_size(width: int, height: int, next_ifd: int = 0) -> bytes:
    tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 0), 277: (3, 1)}
    return _tiff(tags | {278: (4, height), 279: (4, 50)}, next_ifd)


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(_bytes("jpeg"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _dicom_tag(**tags: Any) -> Callable[[], bytes]:
    return _dicom(_pixels((40, 50)), **tags)


def _nested_dicom() -> bytes:
    """Sequences in sequences, of undefined length."""
    from pydicom.uid import ExplicitVRLittleEndian

    assert ExplicitVRLittleEndian
    item = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return _bytes("dicom")[:-40] + item * 5000


def _deflated_dicom() -> bytes:
    """Half a gibibyte of zeros in half a mebibyte."""
    head = _bytes("dicom")
    old = b"1.2.840.10008.1.2.1\0"
    start = head.index(old)
    meta = head[: start - 8]
    uid = struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + b"1.2.840.10008.1.2.1.99"
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 2**31)
    packed = packer.compress(element) + b"".join(packer.compress(bytes(2**24)) for _ in range(128)) + packer.flush()
    return meta + uid + packed


def _animated_gif(count: int) -> bytes:
    frames = [Image.new("P", (20, 20), number % 200) for number in range(count)]
    file = io.BytesIO()
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], duration=1, optimize=False)
    return file.getvalue()


def _text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(300 * 2**20), 9)
    return png_of_size(4, 4, rest=_chunk(b"zTXt", text) + _bytes("png")[33:])


def _profile_bomb() -> bytes:
    profile = b"icc\0\0" + zlib.compress(bytes(300 * 2**20), 9)
    return png_of_size(50, 40, rest=_chunk(b"iCCP", profile) + _bytes("png")[33:])


_SIDE = 9450  # Pillow's limit is 89 million pixels


def _holes(path: Path, begin: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return holes(path, begin, 3 * 2**30)


def _member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf()


SPECIAL: dict[str, tuple[Callable[[Path, Random], Path], Expected | None]] = {
    "empty": (_file("x.jpg", b""), "refused"),
    "one byte": (_file("x.jpg", b"\xff"), "refused"),
    "text": (_file("x.jpg", b"no image"), "refused"),
    "only a header": (_file("x.png", lambda: png_of_size(4, 4)), "refused"),
    "without width": (_file("x.png", lambda: png_of_size(0, 4)), "refused"),
    "1 x 1": (_file("x.png", lambda: _whole_png(1, 1)), "works"),
    "1 x 2": (_file("x.png", lambda: _whole_png(1, 2)), "works"),
    "30,000 x 1": (_file("x.png", lambda: _whole_png(30_000, 1)), None),
    "1 x 30,000": (_file("x.png", lambda: _whole_png(1, 30_000)), None),
    "2 x 2,000,000": (_file("x.png", lambda: _whole_png(2, 2_000_000)), None),
    "30,000 x 30,000 declared": (_file("x.png", lambda: png_of_size(30_000, 30_000)), "refused"),
    "30,000 x 30,000 bits": (_file("x.png", lambda: _whole_png(30_000, 30_000, 0, 1)), "refused"),
    "between the limits": (_file("x.png", lambda: _whole_png(12_000, 12_000, 0, 1)), "refused"),
    "largest in bits": (_file("x.png", lambda: _whole_png(_SIDE, _SIDE - 20, 0, 1)), None),
    "largest in grey": (_file("x.png", lambda: _whole_png(_SIDE, _SIDE - 20, 0)), None),
    "largest in colour": (_file("x.png", lambda: _whole_png(_SIDE, _SIDE - 20)), None),
    "largest, transparent": (_file("x.png", lambda: _whole_png(_SIDE, _SIDE - 20, 6)), None),
    "largest in 16 bits": (_file("x.png", lambda: _whole_png(_SIDE, _SIDE - 20, 0, 16)), None),
    "largest of one row": (_file("x.png", lambda: _whole_png(89_000_000, 1, 0)), None),
    "2^31 x 2^31": (_file("x.png", lambda: png_of_size(2**31 - 1, 2**31 - 1)), "refused"),
    "bmp of 30,000": (_file("x.bmp", lambda: _bmp_of_size(30_000, 30_000)), "refused"),
    "bmp of -2^31": (_file("x.bmp", lambda: _bmp_of_size(100, -(2**31))), "refused"),
    "gif of 65,535": (_file("x.gif", lambda: _gif_of_size(65_535, 65_535)), "refused"),
    "gif of 9,000": (_file("x.gif", lambda: _gif_of_size(9_000, 9_000)), None),
    "ppm of 30,000": (_file("x.ppm", b"P6 30000 30000 255\n"), "refused"),
    "ppm of 9,000": (_file("x.ppm", b"P6 9000 9000 255\n"), "refused"),
    "ppm of many digits": (_file("x.ppm", b"P6 " + b"9" * 100_000 + b" 1 255\n"), "refused"),
    "plain ppm of 9,000": (_file("x.ppm", b"P3 9000 9000 255\n1 2 3"), "refused"),
    "ppm without an end": (_file("x.ppm", b"P6 # " + b"x" * 3_000_000), "refused"),
    "jpeg of 65,500": (_file("x.jpg", lambda: _jpeg_of_size(65_500, 65_500)), "refused"),
    "jpeg of 9,000": (_file("x.jpg", lambda: _jpeg_of_size(9_000, 9_000)), None),
    "tiff of 30,000": (_file("x.tif", lambda: _tiff_of_size(30_000, 30_000)), "refused"),
    "tiff of 9,000": (_file("x.tif", lambda: _tiff_of_size(9_000, 9_000)), None),
    "tiff of 2^32": (_file("x.tif", lambda: _tiff_of_size(2**32 - 1, 2**32 - 1)), "refused"),
    "tiff in a circle": (_file("x.tif", lambda: _tiff_of_size(5, 5, next_ifd=8)), None),
    "tiff of floats": (_file("x.tif", lambda: _encoded(_pixels((9, 9), np.float32), "tiff")()), "refused"),
    "tiff of 32 bits": (_file("x.tif", lambda: _encoded(_pixels((9, 9), np.int32) * 10**6, "tiff")()), "refused"),
    "text bomb": (_file("x.png", _text_bomb), None),
    "profile bomb": (_file("x.png", _profile_bomb), None),
    "jpeg of a thousand scans": (_file("x.jpg", lambda: many_scans(9_400, 1_000)), "refused"),
    "jpeg of many scans, small": (_file("x.jpg", lambda: many_scans(1_000, 60_000)), "refused"),
    "jpeg of as many scans as may be": (_file("x.jpg", lambda: many_scans(9_400, 100)), "works"),
    "jpeg with padding": (_file("x.jpg", lambda: photograph()[:2] + b"\xff" * 9_000_000 + photograph()[2:]), "refused"),
    "jpeg of comments": (
        _file("x.jpg", lambda: photograph()[:2] + b"\xff\xfe\0\2" * 3_000_000 + photograph()[2:]), "refused",
    ),
    "png of chunks": (_file("x.png", lambda: png_with(*[(b"tEXt", b"a\0b")] * 900_000)), "refused"),
    "gif of comments": (
        _file("x.gif", b"GIF89a\x28\0\x28\0\x80\0\0" + bytes(6) + b"!\xfe\x01a\0" * 3_000_000), "refused",
    ),
    "tiff of many strips": (_file("x.tif", lambda: tiff_of_strips(9_000_000) + bytes(40_000_000)), None),
    "holes": (lambda folder, random: _holes(folder / "x.jpg"), "refused"),
    "holes in a png": (lambda folder, random: _holes(folder / "x.png", png_with()[:33] + b"\x7f\0\0\0tEXt"), "refused"),
    "holes in a dicom": (lambda folder, random: _holes(folder / "x.dcm", bytes(128) + b"DICM"), "refused"),
    "holes in a tar": (lambda folder, random: _holes(folder / "x.tar", _member("x.png", 3 * 2**30)), "refused"),
    "tar of a long header": (
        lambda folder, random: _holes(folder / "x.tar", _member("x", 2**31, tarfile.XHDTYPE)), "refused",
    ),
    "gif of 3,000 frames": (_file("x.gif", lambda: _animated_gif(3_000)), "works"),
    "dicom without an end": (_file("x.dcm", _nested_dicom), None),
    "dicom bomb": (_file("x.dcm", _deflated_dicom), "refused"),
    "dicom of 30,000": (_file("x.dcm", _dicom_tag(Rows=30_000, Columns=30_000)), "refused"),
    "dicom of no rows": (_file("x.dcm", _dicom_tag(Rows=0)), "refused"),
    "dicom of a million frames": (_file("x.dcm", _dicom_tag(NumberOfFrames=10**6)), None),
    "dicom of 2^31 frames": (_file("x.dcm", _dicom_tag(NumberOfFrames=2**31)), None),
    "dicom of real frames": (_file("x.dcm", _dicom(np.zeros((600, 1000, 1000), np.uint8), NumberOfFrames=600)), None),
    "dicom of no bits": (_file("x.dcm", _dicom_tag(BitsStored=0)), None),
    "dicom of 32 bits": (_file("x.dcm", _dicom(_pixels((9, 9), np.uint32))), "refused"),
    "dicom of 65,535 bits": (_file("x.dcm", _dicom_tag(BitsAllocated=65_535)), "refused"),
    "dicom of a strange slope": (_file("x.dcm", _dicom_tag(RescaleSlope="0", RescaleIntercept="0")), None),
    "dicom without grey": (_file("x.dcm", _dicom_tag(PhotometricInterpretation="PALETTE COLOR")), "refused"),
    "dicom of an odd window": (_file("x.dcm", _dicom_tag(WindowCenter="1e300", WindowWidth="1e-300")), None),
    "dicom of no window": (_file("x.dcm", _dicom_tag(WindowCenter="5", WindowWidth="0")), None),
    "largest dicom": (_file("x.dcm", _dicom(np.zeros((9_000, 9_000), np.uint16), RescaleSlope="2")), None),
} | {
    f"orientation {value}": (_file("x.jpg", _encoded(_pixels(), "jpeg", exif=_exif(value))), "works")
    for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 65_535)
} | {
    f"exif garbage {number}": (
        _file("x.jpg", _encoded(_pixels(), "jpeg", exif=b"Exif\0\0" + Random(number).randbytes(90))),
        None,
    )
    for number in range(12)
} | {
    f"named {name!a}": (lambda folder, random, name=name: fresh(folder / name, _bytes("png")), expected)
    for name, expected in {
        "\udcff\udcfe.png": "works", "a\nb.png": "works", "\x1b[31m.png": "works", "é" * 120 + ".png": "works",
        "\u202egnp.exe.png": "works", "x.png.": "works", "x": "works", "[x].png": "works", "*.png": "works",
        " .png": "works",
        "'\"`$(x).png": "works", "<b>.png": "works",
    }.items()
}  # fmt: skip


def _predict(path: str, *more: str) -> Callable[[Material], list[str]]:
    return lambda material: ["ifam", "predict", str(material.model), path, "--out", "out/rows.jsonl", *more]


def _place(make: Callable[[Path], object], arguments: Callable[[Material], list[str]]) -> Write:
    """Something that is no file, or a file beside others, made in ``in``."""

    def write(place: Path, material: Material, random: Random) -> list[str]:
        (place / "in").mkdir()
        make(place / "in")
        return arguments(material)

    return write


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the length of such a name is limited
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def _class_folders(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    """Three images of each of two classes, and in one of the folders what ``spoil`` puts there."""

    def make(folder: Path) -> None:
        for label in ("finch", "gull"):
            for number in range(4):
                fresh(folder / label / f"{number}.png", _bytes("png") + label.encode() + bytes([number]))
        spoil(folder / "gull/x.jpg")

    return make


def _scenes(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    """A metadata.csv of four images with masks, one mask spoilt."""

    def make(folder: Path) -> None:
        rows = ["img_id,img_filename,y,split,place"]
        for number in range(8):
            fresh(folder / f"images/{number}.png", _bytes("png"))
            fresh(folder / f"masks/images/{number}.png", _encoded(_pixels((40, 50)), "png", "1")())
            rows.append(f"{number},images/{number}.png,{number % 2},{2 if number < 4 else 0},{number // 2 % 2}")
        fresh(folder / "metadata.csv", "\n".join(rows))
        (folder / "masks/images/1.png").unlink()
        spoil(folder / "masks/images/1.png")

    return make


SPOILT: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "socket": _socket,
    "folder": lambda path: path.mkdir(),
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: path.symlink_to("/dev/null"),
    "noise without end": lambda path: path.symlink_to("/dev/urandom"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "link to nowhere": lambda path: path.symlink_to("gone.png"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to passwords": lambda path: path.symlink_to("/etc/passwd"),
    "link to a process": lambda path: path.symlink_to("/proc/self/mem"),
    "empty": lambda path: path.touch(),
    "half": lambda path: fresh(path, _bytes("png")[:900]),
    "bomb": lambda path: fresh(path, png_of_size(30_000, 30_000)),
    "other size": lambda path: fresh(path, _whole_png(7, 7)),
    "floats": lambda path: fresh(path, _encoded(_pixels((40, 50), np.float32), "tiff")()),
    "dicom": lambda path: fresh(path, _bytes("dicom")),
}
_COMMANDS: dict[str, Callable[[Material], list[str]]] = {
    "doctor": lambda material: ["ifam", "doctor", "in"],
    "evaluate": lambda material: ["ifam", "evaluate", str(material.model), "in", "--json", "out/x.json"],
    "train": lambda material: ["ifam", "train", "in", "--out", "out/run", "--backbone", "test_vit", *_FAST],
    "train on": lambda material: ["ifam", "train", "in", "--out", "out/run", "--backbone", "test_vit", *_FAST,
                                  "--skip-unreadable"],
}  # fmt: skip
_FAST = ("--set", "model.pretrained=false", "--image-size", "48", *TRAIN)


def _at(name: str, spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: spoil(folder / name)


PLACES: dict[str, tuple[Write, Expected | None]] = {}
PLACES |= {
    f"{what}/predict": (_place(_at("x.jpg", spoil), _predict("in/x.jpg")), None) for what, spoil in SPOILT.items()
}
PLACES |= {f"{what}/dicom": (_place(_at("x.dcm", spoil), _predict("in/x.dcm")), None) for what, spoil in SPOILT.items()}
PLACES |= {
    f"{what}/{name}": (_place(_class_folders(spoil), command), None)
    for what, spoil in SPOILT.items()
    for name, command in _COMMANDS.items()
}
PLACES |= {
    f"{what}/mask, {name}": (_place(_scenes(spoil), command), None)
    for what, spoil in SPOILT.items()
    for name, command in _COMMANDS.items()
    if name != "train on"
}
UPLOADS: dict[str, Callable[[Random], bytes]] = {
    f"{name}/{number}": lambda random, name=name: DAMAGES[random.choice(list(DAMAGES))](_bytes(name), random)
    for name in ("png", "jpeg", "gif", "webp", "lzw tiff", "dicom")
    for number in range(5)
}


def _uploaded(content: Callable[[Random], bytes]) -> Write:
    def write(place: Path, material: Material, random: Random) -> list[str]:
        path = fresh(place / "in/photo.jpg", content(random))
        return ["upload", str(material.model), str(path)]

    return write
