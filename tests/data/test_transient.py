"""A disk or a network that fails is not a damaged photograph."""

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from layouts import draw
from PIL import Image

from ifam.data.batch import Batch, Unreadable, require_readable
from ifam.data.dataset import ImageDataset
from ifam.data.files import Asked, FileDataset
from ifam.data.images import image_size, open_image
from ifam.data.masks import open_mask
from ifam.data.table import table_of_files
from ifam.data.tar import images_in_tar
from ifam.errors import DataError, UnavailableError
from ifam.preprocessing import Preprocessing

FAILING = Path("/proc/self/mem")
"""a regular file whose first bytes give EIO, as a disk that fails"""
needs_failing = pytest.mark.skipif(not FAILING.exists(), reason="needs Linux")


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    (tmp_path / "x.png").symlink_to(FAILING)
    return tmp_path / "x.png"


@needs_failing
def test_a_disk_that_fails(failing: Path) -> None:
    for read in (open_image, image_size, lambda path: open_mask(path, size=(2, 2))):
        with pytest.raises(UnavailableError, match=r"x\.png: .* now \(Input/output error\); .* try again"):
            read(failing)


@needs_failing
def test_a_decoder_that_does_not_say_why_it_failed(failing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise OSError("decoder error -2")

    monkeypatch.setattr(Image, "open", decode)
    with pytest.raises(UnavailableError, match="Input/output error"):
        open_image(failing)
    with pytest.raises(DataError, match="decoder error -2") as raised:
        open_image(draw(failing.with_name("whole.png")))
    assert not isinstance(raised.value, UnavailableError)


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENXIO, errno.ETIMEDOUT, errno.EACCES, errno.EMFILE]
)
def test_what_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = draw(tmp_path / "x.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnavailableError, match=os.strerror(number)):
        open_image(path)


@pytest.mark.parametrize("damage", [lambda content: content[:40], lambda content: b"", lambda content: b"text"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "bmp", "ppm"])
def test_damage_does_not_pass(tmp_path: Path, suffix: str, damage: object) -> None:
    path = draw(tmp_path / f"x.{suffix}", size=(40, 30))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError) as raised:
        open_image(path)
    assert not isinstance(raised.value, UnavailableError)


def test_names_that_cannot_be_do_not_pass(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("x.png")
    for path in (tmp_path / "x.png", tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(DataError) as raised:
            open_image(path)
        assert not isinstance(raised.value, UnavailableError)


def test_batches_say_which_may_pass(tmp_path: Path) -> None:
    damaged, gone = draw(tmp_path / "damaged.png"), tmp_path / "gone.png"
    damaged.write_bytes(b"text")
    preprocessing = Preprocessing(image_size=(8, 8))
    for index, (path, transient) in enumerate([(damaged, False), (gone, True)]):
        items = (
            FileDataset(preprocessing)[Asked(index, path)],
            ImageDataset(table_of_files([damaged, gone], ["a"]), lambda fields: fields)[index],
        )
        for item in items:
            assert isinstance(item, Unreadable)
            assert (item.index, item.transient) == (index, transient)
            assert pickle.loads(pickle.dumps(item)) == item


def test_training_stops_with_the_same_kind_of_error() -> None:
    empty = np.empty(0)
    for transient in (True, False):
        unreadable = (Unreadable("x.png: gone", 0, transient=transient),)
        batch = Batch(images=empty, labels=empty, groups=empty, indices=empty, unreadable=unreadable)  # type: ignore[arg-type]
        with pytest.raises(DataError) as raised:
            require_readable(batch, skip_unreadable=False)
        assert isinstance(raised.value, UnavailableError) == transient


def test_a_tar_file_that_is_gone_or_damaged(tmp_path: Path) -> None:
    (tmp_path / "damaged.tar").write_bytes(b"text" * 200)
    for name, transient in (("gone.tar", True), ("damaged.tar", False)):
        (only,) = images_in_tar(tmp_path / name)
        assert only.transient == transient
        with pytest.raises(DataError) as raised:
            open_image(only)
        assert isinstance(raised.value, UnavailableError) == transient
