"""Pictures as part of the page: data URIs of JPEG and SVG."""

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ifam.explanations.figures import overlay_mask, overlay_parts
from ifam.explanations.part_gallery import PartExample, part_alone
from ifam.report.content import Mistake
from ifam.report.tables import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, QUALITY = 300, 82
"""about the pixels of a picture's shorter side; JPEG"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of the page."""

    uri: str
    alt: str
    caption: str = ""
    width: int
    height: int


def example(found: PartExample, part: int, num_parts: int) -> Picture:
    """One image of the gallery, with the part alone in colour."""
    return photograph(
        part_alone(PartExample(**vars(found) | {"image": enlarged(found.image)}), part, num_parts),
        alt=f"part {part}, coloured, in {found.name}: {whole(found.share)} of the image",
        caption=f"{found.name}, {whole(found.share)}",
    )


def mistake(found: Mistake, num_parts: int, *, seen: str) -> list[Picture]:
    """Photograph, parts, and what was selected."""
    image = enlarged(found.image)
    return [
        photograph(image, alt=f"photograph {found.name}", caption="photograph"),
        photograph(overlay_parts(image, found.parts, num_parts), alt=f"parts found in {found.name}", caption="parts"),
        photograph(
            overlay_mask(image, found.pixels),
            alt=f"{seen} in {found.name}: {whole(found.kept)} of the image",
            caption=f"{seen}: {whole(found.kept)}",
        ),
    ]


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """By a whole factor, so that what is drawn over a small photograph stays sharp."""
    factor = max(1, round(SIDE / min(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def photograph(pixels: NDArray[np.uint8], *, alt: str, caption: str = "") -> Picture:
    """A JPEG, made smaller where it is much larger than it will be shown."""
    image = Image.fromarray(pixels)
    image.thumbnail((2 * SIDE, 2 * SIDE) if min(image.size) > 2 * SIDE else image.size)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Picture(
        uri=_uri("image/jpeg", file.getvalue()), alt=alt, caption=caption, width=image.width, height=image.height
    )


def chart(figure: "Figure", *, alt: str, caption: str = "") -> Picture:
    """An SVG with its text as outlines: the same on every machine."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ifam", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    width, height = (round(96 * side) for side in figure.get_size_inches())
    return Picture(uri=_uri("image/svg+xml", file.getvalue()), alt=alt, caption=caption, width=width, height=height)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
