import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from ifam.data.decode import FORMATS
from ifam.data.images import BITS, has_16_bits, image_size, open_image, too_dark
from ifam.data.masks import has_foreground, open_mask


def save(path, array, mode=None, **options):
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(("mode", "name"), [("RGB", "x.tif"), ("CMYK", "x.tif"), ("CMYK", "x.jpg"), ("YCbCr", "x.jpg")])
def test_colour_survives_every_mode(tmp_path, mode, name):
    path = tmp_path / name
    Image.new("RGB", (4, 3), (200, 100, 40)).convert(mode).save(path)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (4, 3))
    assert np.abs(np.asarray(image)[0, 0].astype(int) - (200, 100, 40)).max() <= 2


def test_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putdata([0, 1])
    image.save(tmp_path / "x.png")
    assert np.asarray(open_image(tmp_path / "x.png")).tolist() == [[[0, 0, 0], [10, 200, 30]]]


def test_transparent_pixels_become_white_whatever_they_hide(tmp_path):
    path = save(tmp_path / "x.png", np.uint8([[[9, 9, 9, 0], [9, 9, 9, 255]]]))
    assert np.asarray(open_image(path)).tolist() == [[[255] * 3, [9] * 3]]


def test_transparent_palette_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([7, 7, 7, 10, 200, 30])
    image.putdata([0, 1])
    image.save(tmp_path / "x.png", transparency=b"\x00\xff")
    assert np.asarray(open_image(tmp_path / "x.png")).tolist() == [[[255] * 3, [10, 200, 30]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    path = save(tmp_path / f"x.{suffix}", np.uint16([[0, 257, 128 * 257, 65535]]))
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_grey_and_bits(tmp_path):
    path = save(tmp_path / "x.png", np.uint8([[0, 77]]))
    assert np.asarray(open_image(path)).tolist() == [[[0] * 3, [77] * 3]]
    path = save(tmp_path / "y.png", np.array([[False, True]]))
    assert np.asarray(open_image(path)).tolist() == [[[0] * 3, [255] * 3]]


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = save(tmp_path / "x.png", np.uint8([[[255, 0, 0], [0, 0, 255]]]), exif=exif)
    image = open_image(path)
    assert np.asarray(image).tolist() == [[[255, 0, 0]], [[0, 0, 255]]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("flag", range(1, 10))
def test_the_size_is_that_of_the_upright_image(tmp_path, suffix, flag):
    exif = Image.Exif()
    exif[0x0112] = flag
    path = save(tmp_path / f"x.{suffix}", np.zeros((3, 5, 3), np.uint8), exif=exif)
    assert image_size(path) == open_image(path).size == ((3, 5) if flag in (5, 6, 7, 8) else (5, 3))


def test_first_frame_of_an_animation(tmp_path):
    red, blue = (Image.new("RGB", (3, 3), color) for color in ("red", "blue"))
    red.save(tmp_path / "x.gif", save_all=True, append_images=[blue])
    assert open_image(tmp_path / "x.gif").getpixel((1, 1)) == (255, 0, 0)


def png_of_size(width, height):
    """A header that promises an image, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    ihdr = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + ihdr + struct.pack(">I", 10) + b"IDAT"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image", "unknown format"),
        (b"", "unknown format"),
        (png_of_size(12_000, 12_000), "at most"),
        (png_of_size(100_000, 100_000), "at most"),
        (png_of_size(4, 4), "cannot be read"),
    ],
    ids=["text", "empty", "large", "huge", "no pixels"],
)
def test_unreadable(tmp_path, refuses, content, said):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with refuses(path, said):
        open_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated(tmp_path, refuses, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"x.{suffix}", noise)
    path.write_bytes(path.read_bytes()[:2000])
    with refuses(path, "cannot be read"):
        open_image(path)


def test_missing(tmp_path, refuses):
    with refuses(tmp_path / "x.png", "No such file"):
        open_image(tmp_path / "x.png")


def test_floats_and_32_bits_are_refused(tmp_path, refuses):
    for array in (np.float32([[0.5]]), np.int32([[70_000]])):
        with refuses("x.tif", "8 or 16 bits"):
            open_image(save(tmp_path / "x.tif", array))


@pytest.mark.parametrize(
    "array",
    [
        np.array([[False, True]]),
        np.uint8([[0, 1]]),
        np.uint8([[20, 255]]),
        np.uint16([[0, 9]]),
        np.uint8([[[0] * 3, [255] * 3]]),
    ],
    ids=["bits", "ones", "noise", "16 bits", "colour"],
)
def test_masks_of_every_kind(tmp_path, array):
    assert open_mask(save(tmp_path / "m.png", array), size=(2, 1)).tolist() == [[False, True]]


def test_size_from_the_header_alone(tmp_path, refuses):
    (tmp_path / "x.png").write_bytes(png_of_size(4, 3))
    assert image_size(tmp_path / "x.png") == (4, 3)
    (tmp_path / "x.png").write_bytes(b"no image")
    with refuses(tmp_path / "x.png", "unknown format"):
        image_size(tmp_path / "x.png")


def test_whether_a_mask_has_foreground(tmp_path):
    assert has_foreground(save(tmp_path / "m.png", np.uint8([[0, 1]])))
    assert not has_foreground(save(tmp_path / "m.png", np.uint8([[0, 0]])))


def test_empty_mask(tmp_path):
    assert not open_mask(save(tmp_path / "m.png", np.zeros((3, 2), np.uint8)), size=(2, 3)).any()


def test_palette_mask_counts_every_index_but_zero(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([250, 250, 250, 10, 10, 10, 90, 90, 90])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "m.png")
    assert open_mask(tmp_path / "m.png", size=(3, 1)).tolist() == [[False, True, True]]


def test_mask_of_another_size(tmp_path, refuses):
    with refuses("m.png", "9 × 7", "3 × 2"):
        open_mask(save(tmp_path / "m.png", np.zeros((2, 3), np.uint8)), size=(9, 7))


@pytest.mark.parametrize("name", ["x.png", "x.dcm"])
def test_what_is_no_file_is_not_waited_for(tmp_path, refuses, name):
    os.mkfifo(tmp_path / name)
    for read in (open_image, image_size):
        with refuses(tmp_path / name, "a folder, a pipe or a device"):
            read(tmp_path / name)


@pytest.mark.parametrize("format", ["eps", "tga", "ico"])
def test_formats_that_nobody_asked_for_are_not_decoded_whatever_their_name(tmp_path, refuses, format):
    Image.new("RGB", (16, 16)).save(tmp_path / "x", format)
    path = (tmp_path / "x").rename(tmp_path / "x.jpg")
    with refuses(path, "unknown format"):
        open_image(path)


def test_strips_are_refused_before_they_are_enlarged(tmp_path, refuses):
    assert open_image(save(tmp_path / "x.png", np.zeros((1, 100, 3), np.uint8))).size == (100, 1)
    with refuses("x.png", "1 : 100", "101 × 1 pixels"):
        open_image(save(tmp_path / "x.png", np.zeros((1, 101, 3), np.uint8)))


def test_every_value_of_16_bits_goes_to_the_nearest_of_8(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    found = np.asarray(open_image(save(tmp_path / "x.png", values)))[..., 0]
    assert (found == np.rint(values / 257)).all()


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    value, alpha = np.meshgrid(np.arange(256), np.arange(256))
    image = Image.fromarray(np.stack([value, value, value, alpha], -1).astype(np.uint8))
    image.save(tmp_path / "x.png")
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert (np.asarray(open_image(tmp_path / "x.png")) == np.asarray(expected)).all()


def test_decoders_do_not_talk(tmp_path):
    """Warnings are errors here: this one would be."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0"  # an EXIF block that ends too early
    path = save(tmp_path / "x.jpg", np.zeros((8, 8, 3), np.uint8), exif=exif)
    assert open_image(path).size == (8, 8)


def deep_png(path, array):
    """A PNG file of 16 bits per channel (h, w, channels), which Pillow reads and does not write."""
    height, width, channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_bits_that_an_image_of_16_uses(tmp_path, channels, bits):
    values = np.linspace(0, 2**bits - 1, 24).astype(np.uint16).reshape(4, 6, 1).repeat(channels, -1)
    if channels in (2, 4):
        values[..., -1] = 65535
    path = deep_png(tmp_path / "x.png", values)
    assert has_16_bits(path)
    assert open_image(path).info[BITS] == bits
    (tmp_path / "x.jpg").write_bytes(path.read_bytes())
    assert has_16_bits(tmp_path / "x.jpg")


def test_16_bits_of_tiff_and_8_bits(tmp_path):
    path = save(tmp_path / "x.tif", np.uint16([[0, 4095]]))
    assert has_16_bits(path)
    assert open_image(path).info[BITS] == 12
    for name, array in (("y.png", np.uint8([[0, 9]])), ("y.tif", np.uint8([[[0, 9, 9]]])), ("y.jpg", np.uint8([[1]]))):
        path = save(tmp_path / name, array)
        assert not has_16_bits(path)
        assert BITS not in open_image(path).info


def test_images_are_not_stretched_each_on_its_own(tmp_path):
    """A darker image of a set stays darker."""
    bright, dark = (save(tmp_path / f"{top}.png", np.uint16([[0, top]])) for top in (4095, 2047))
    assert [np.asarray(open_image(path)).max() for path in (bright, dark)] == [16, 8]


def test_a_set_of_dark_16_bit_images_is_warned_of():
    (line,) = too_dark([12, None, 11, 12])
    assert line == (
        "all 3 images of 16 bits use at most 12 of them, which leaves 16 of 256 grey levels: very dark; "
        "multiply every value by 16, the same for all images"
    )
    for bits in ([], [None], [12, 15], [16]):
        assert not list(too_dark(bits))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF"])
def test_names_of_jpeg(tmp_path, suffix):
    save(tmp_path / "x.jpg", np.full((8, 8, 3), 77, np.uint8)).rename(tmp_path / f"x.{suffix}")
    assert np.asarray(open_image(tmp_path / f"x.{suffix}")).mean() == 77


def test_avif_where_pillow_has_it(tmp_path, refuses):
    assert ("AVIF" in FORMATS) == features.check("avif")
    if features.check("avif"):
        path = save(tmp_path / "x.avif", np.full((16, 24, 3), 200, np.uint8))
        assert image_size(path) == open_image(path).size == (24, 16)
        assert abs(np.asarray(open_image(path)).mean() - 200) < 3
        path.write_bytes(path.read_bytes()[:150])
        with refuses(path):
            open_image(path)
