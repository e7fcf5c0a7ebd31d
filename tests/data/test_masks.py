"""Masks in every coding that people have, each file by itself, against the foreground that was drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ifam.data.masks import Coding, Mask, mask_warnings, open_mask, read_mask
from ifam.data.read import read_table
from ifam.doctor import diagnose_data

ROWS, COLUMNS = np.mgrid[:24, :30]
RADIUS = np.hypot(ROWS - 12, COLUMNS - 15)
OBJECT: NDArray[np.bool_] = RADIUS < 8
OUTLINE: NDArray[np.bool_] = (RADIUS >= 8) & (RADIUS < 9)
LEFT = OBJECT & (COLUMNS < 15)


def levels(inside: int, outside: int, outline: int | None = None, dtype: Any = np.uint8) -> NDArray[Any]:
    values = np.where(OBJECT, inside, outside)
    return np.where(OUTLINE, outside if outline is None else outline, values).astype(dtype)


def palette(values: NDArray[Any]) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


def colours(inside: tuple[int, int, int], void: tuple[int, int, int] = (0, 0, 0)) -> NDArray[np.uint8]:
    picture = np.zeros((*OBJECT.shape, 3), np.uint8)
    picture[OBJECT], picture[LEFT], picture[OUTLINE] = inside, (0, 128, 0), void
    return picture


def see_through(rgb: int | None, alpha: NDArray[Any], grey: bool = False) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (*OBJECT.shape, 1 if grey else 3))
    colour = noise if rgb is None else np.full_like(noise, rgb)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.uint8)


CODINGS: dict[str, tuple[Any, Coding]] = {
    "0 and 255": (levels(255, 0), Coding.TWO),
    "0 and 1": (levels(1, 0), Coding.TWO),
    "0 and 128": (levels(128, 0), Coding.TWO),
    "one class of many": (levels(17, 0), Coding.TWO),
    "bits": (OBJECT, Coding.TWO),
    "16 bits": (levels(65535, 0, dtype=np.uint16), Coding.TWO),
    "not quite black": (levels(250, 10), Coding.TWO),
    "rgb": (levels(255, 0)[..., None].repeat(3, -1), Coding.TWO),
    "opaque": (see_through(None, levels(255, 255))[..., 3:].repeat(3, -1) * levels(1, 0)[..., None], Coding.TWO),
    "soft": (np.clip(255 * (9 - RADIUS) / 2, 0, 255).astype(np.uint8), Coding.SHADES),
    "trimap": (levels(1, 2, 3), Coding.TRIMAP),
    "trimap without a border": (levels(1, 2), Coding.TRIMAP),
    "trimap in a palette": (palette(levels(1, 2, 3)), Coding.TRIMAP),
    "class numbers": (np.where(LEFT, 5, levels(12, 0)).astype(np.uint8), Coding.NUMBERS),
    "class numbers of 16 bits": (np.where(LEFT, 5, levels(12, 0)).astype(np.uint16), Coding.NUMBERS),
    "many class numbers": (np.where(OBJECT, 1 + COLUMNS, 0).astype(np.uint8), Coding.NUMBERS),
    "class and void": (levels(15, 0, 255), Coding.NUMBERS),
    "class 1 and void": (levels(1, 0, 255), Coding.NUMBERS),
    "palette": (palette(levels(1, 0)), Coding.PALETTE),
    "palette of classes": (palette(np.where(LEFT, 200, levels(3, 0)).astype(np.uint8)), Coding.PALETTE),
    "palette of 0 and 255": (palette(levels(255, 0)), Coding.PALETTE),
    "palette of class and void": (palette(levels(15, 0, 255)), Coding.NUMBERS),
    "colours": (colours((128, 0, 0)), Coding.COLOURS),
    "colours and void": (colours((128, 0, 0), (224, 224, 192)), Coding.COLOURS),
    "white with alpha": (see_through(255, levels(255, 0)), Coding.ALPHA),
    "black with alpha": (see_through(0, levels(255, 0)), Coding.ALPHA),
    "cut out": (see_through(None, levels(255, 0)), Coding.ALPHA),
    "grey with alpha": (see_through(None, levels(255, 0), grey=True), Coding.ALPHA),
}


def save(path: Path, picture: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path)
    return path


@pytest.mark.parametrize("name", CODINGS)
def test_codings(tmp_path: Path, name: str) -> None:
    picture, coding = CODINGS[name]
    mask = read_mask(save(tmp_path / "m.png", picture), size=(30, 24))
    assert mask.coding == coding
    assert (mask.foreground == OBJECT).all()
    assert mask.foreground.dtype == np.bool_
    assert not mask.at_edge


@pytest.mark.parametrize(
    ("picture", "expected", "coding"),
    [
        (levels(0, 0), False, Coding.ONE),
        (levels(1, 1), True, Coding.ONE),
        (levels(255, 255), True, Coding.ONE),
        (palette(levels(0, 0)), False, Coding.PALETTE),
        (see_through(255, levels(0, 0)), False, Coding.ALPHA),
        (see_through(255, levels(255, 255)), True, Coding.ONE),
        (colours((0, 0, 0))[:1], False, Coding.ONE),
    ],
)
def test_all_or_nothing(tmp_path: Path, picture: Any, expected: bool, coding: Coding) -> None:
    mask = read_mask(save(tmp_path / "m.png", picture))
    assert (mask.foreground == expected).all()
    assert mask.coding == coding
    assert not mask.at_edge


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_files_hold_no_numbers(tmp_path: Path, suffix: str) -> None:
    mask = read_mask(save(tmp_path / f"m.{suffix}", levels(255, 0)))
    assert mask.coding == Coding.SHADES
    assert (mask.foreground == OBJECT).mean() > 0.99


def test_shades_of_grey_are_halved_as_before(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = read_mask(save(tmp_path / "m.png", ramp))
    assert mask.coding == Coding.SHADES
    assert (mask.foreground == (ramp > 127)).all()
    floats = save(tmp_path / "m.tif", ramp.astype(np.float32) / 255)
    assert (open_mask(floats, size=(16, 16)) == (ramp > 127)).all()


def test_an_object_black_on_white_is_not_turned_over_but_said(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / "m.png", levels(0, 255)))
    assert (mask.foreground == ~OBJECT).all()
    assert mask.at_edge
    (warning,) = mask_warnings([(Coding.TWO, True)] * 3 + [(Coding.TWO, False)])
    assert warning.startswith("in 3 of 4 masks")
    assert "inverted" in warning
    assert not list(mask_warnings([(Coding.TWO, True), (Coding.TWO, False)]))


def test_doctor_says_how_masks_are_read(tmp_path: Path) -> None:
    for number, name in enumerate(("trimap", "class and void", "0 and 255", "0 and 1")):
        save(tmp_path / f"images/{number}.png", np.full((24, 30, 3), 10 * number, np.uint8))
        save(tmp_path / f"masks/{number}.png", CODINGS[name][0])
    rows = [f"images/{n}.png,{'ab'[n % 2]},{('train', 'test')[n // 2]},masks/{n}.png" for n in range(4)]
    (tmp_path / "t.csv").write_text("path,label,split,mask\n" + "\n".join(rows))
    diagnosis = diagnose_data(read_table(tmp_path / "t.csv"))
    assert diagnosis.mask_codings == {Coding.TRIMAP: 1, Coding.NUMBERS: 1, Coding.TWO: 2}
    said = [line for line in diagnosis.lines() if "trimap: 1 is foreground" in line]
    assert len(said) == 2  # as a fact and as a doubt
    assert not any("inverted" in line for line in diagnosis.warnings)


def test_a_mask_is_only_at_the_edge_beside_background() -> None:
    assert Mask(foreground=~OBJECT, coding=Coding.TWO).at_edge
    assert not Mask(foreground=np.ones((3, 3), np.bool_), coding=Coding.ONE).at_edge
