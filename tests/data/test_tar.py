"""Images in tar files, whole and damaged; a tar that the standard library writes is the reference."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ifam.data.find import images_at
from ifam.data.images import open_image
from ifam.data.tar import TarImage, images_in_tar
from ifam.errors import DataError


def picture(value: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), value, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def write_tar(path: Path, files: list[tuple[str, bytes]], **options: Any) -> Path:
    with tarfile.open(path, options.pop("mode", "w"), **options) as out:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def value(image: TarImage) -> int:
    return int(np.asarray(open_image(image)).mean())


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_images_of_a_tar_file_in_its_order(tmp_path: Path, format: int) -> None:
    long = "deep/" * 18 + "ü.PNG"
    path = write_tar(
        tmp_path / "a.tar",
        [("2.png", picture(2)), ("2.cls", b"7"), ("./1.png", picture(1)), (long, picture(3))],
        format=format,
    )
    images = images_in_tar(path)
    assert [image.name for image in images] == ["2.png", "1.png", long]
    assert [value(image) for image in images] == [2, 1, 3]
    assert str(images[0]) == str(path / "2.png")
    assert images_at(path) == images
    assert images_at(tmp_path / "1.png") == [tmp_path / "1.png"]


def test_what_is_no_image_and_what_is_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as out:
        for name, content in [(".hidden.png", 1), ("a/._x.png", 1), ("x.png", 4), ("x.png", 5)]:
            member = tarfile.TarInfo(name)
            member.size = len(picture(content))
            out.addfile(member, io.BytesIO(picture(content)))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{ord(kind)}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            out.addfile(member)
    images = images_in_tar(path)
    assert [image.name for image in images] == ["x.png"]
    assert value(images[0]) == 5  # as unpacking would leave it


def test_names_lead_nowhere(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("../../evil.png", picture(1)), ("/etc/evil.png", picture(2))])
    images = images_in_tar(path)
    assert [value(image) for image in images] == [1, 2]
    assert [str(image) for image in images] == [f"{path}/../../evil.png", f"{path}//etc/evil.png"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]


def test_wherever_a_tar_file_is_cut_the_images_before_that_are_found(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", [(f"{number}.png", picture(number)) for number in range(3)])
    content, images = whole.read_bytes(), images_in_tar(whole)
    end = images[-1].offset + 512 * -(-images[-1].size // 512)
    assert not any(image.fault for image in images)
    for length in (*range(0, end, 256), end):
        whole.write_bytes(content[:length])
        found = images_in_tar(whole)
        assert found[-1].fault is not None
        assert str(whole) in found[-1].fault
        assert "\n" not in found[-1].fault
        assert str(found[-1]) == str(whole)
        complete = [image for image in images if image.offset + image.size <= length]
        assert [image.name for image in found if not image.fault][: len(complete)] == [i.name for i in complete]
        with pytest.raises(DataError, match="whole tar file"):
            open_image(found[-1])


def test_damage(tmp_path: Path) -> None:
    files = [("0.png", picture(0)), ("1.png", picture(1))]
    packed = write_tar(tmp_path / "packed.tar", files, mode="w:gz")
    damaged = write_tar(tmp_path / "damaged.tar", files)
    second = images_in_tar(damaged)[1].offset - 512
    content = bytearray(damaged.read_bytes())
    content[second : second + 8] = b"\xff" * 8
    damaged.write_bytes(content)
    assert [image.name for image in images_in_tar(damaged)] == ["0.png", ""]
    for path in (packed, tmp_path / "none.tar", tmp_path):
        (only,) = images_in_tar(path)
        assert only.fault is not None
        assert str(path) in only.fault


def test_an_image_that_the_file_no_longer_holds(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.png", picture(1))])
    (image,) = images_in_tar(path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tar/1\.png"):
        open_image(image)
