"""The pictures of the page, large enough to look at, as data URIs: nothing that is shown is written to a disk."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ifam.app.question import Question
from ifam.explanations.figures import overlay_mask, overlay_parts, part_style

SIDE = 448
"""least height and width of a picture in pixels; small views are enlarged"""
LABEL_SHARE = 0.058
"""height of a part's number, of the picture"""
HATCH_ANGLES = {"": (), "////": (135,), "\\\\\\\\": (45,), "xxxx": (45, 135)}

Pixels = NDArray[np.uint8]


def photograph_picture(question: Question) -> Pixels:
    """The photograph as the model sees it."""
    return enlarged(question.whole.image)


def parts_picture(question: Question) -> Pixels:
    """The parts in their colours, each with its number: the colours alone need not be told apart."""
    answer = question.answer
    picture = overlay_parts(enlarged(answer.image), answer.parts, question.num_parts)
    return _numbered(picture, question)


def seen_picture(question: Question) -> Pixels:
    """What stage 2 saw."""
    return overlay_mask(enlarged(question.answer.image), question.answer.pixels)


def enlarged(image: Pixels) -> Pixels:
    """The image with no side below `SIDE`."""
    height, width = image.shape[:2]
    factor = SIDE / min(height, width)
    if factor <= 1:
        return image
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def data_uri(picture: Pixels) -> str:
    """The picture as a PNG inside a URI; little compressed, as it does not go far."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def swatch(part: int) -> str:
    """Colour and stripes of a part, as the value of CSS's ``background``."""
    color, hatch = part_style(part)
    stripes = [
        f"repeating-linear-gradient({angle}deg, transparent 0 3px, white 3px 4.5px)" for angle in HATCH_ANGLES[hatch]
    ]
    return ", ".join([*stripes, color])


def _numbered(picture: Pixels, question: Question) -> Pixels:
    """Every part's number near its centre, where no other is: white on a dark plate where it is switched off."""
    image = Image.fromarray(picture)
    draw, parts = ImageDraw.Draw(image), question.whole.parts
    size = LABEL_SHARE * min(image.size)
    font: Any = ImageFont.load_default(size=size)
    half = np.array([0.6 * size * max(1, len(str(question.num_parts - 1)) / 1.4), 0.7 * size])  # of a plate: x, y
    taken: list[NDArray[np.float64]] = []
    for part in range(question.num_parts):
        cells = np.argwhere(parts == part)
        if not len(cells):
            continue
        nearest = np.square(cells - cells.mean(0)).sum(1).argsort(kind="stable")
        places = ((cells[nearest] + 0.5) / parts.shape)[:, ::-1] * image.size
        places = places.clip(half + 1, image.size - half - 2)
        taken.append(next((at for at in places if not _covers(at, taken, half)), places[0]))
        _plate(draw, taken[-1], half, str(part), font, is_off=part in question.off)
    return np.asarray(image)


def _covers(place: NDArray[np.float64], taken: list[NDArray[np.float64]], half: NDArray[np.float64]) -> bool:
    """Whether a plate there would lie over another."""
    return any(bool((np.abs(place - other) < 2 * half).all()) for other in taken)


def _plate(
    draw: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    half: NDArray[np.float64],
    text: str,
    font: Any,
    *,
    is_off: bool,
) -> None:
    plate, ink = ("#333333", "white") if is_off else ("white", "black")
    draw.rounded_rectangle((*(centre - half), *(centre + half)), radius=half[1] / 2, fill=plate, outline=ink)
    draw.text(tuple(centre), text, ink, font, anchor="mm")
