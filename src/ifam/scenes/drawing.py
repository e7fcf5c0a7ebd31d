"""Paint with one brush: the capsule, a line between two circles of their own radii, shaded as a solid body.

Coordinates are pixels, x to the right and y down, with (0, 0) in the upper left corner of the image. Images are float32
(height, width, 3) from 0 to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]
"""float32 where speed matters"""
Point = tuple[float, float]
Window = tuple[slice, slice]
LIGHT = (-0.5, -0.8)


@dataclass(frozen=True)
class Capsule:
    """All points nearer to the axis from ``start`` to ``end`` than the radius there, which changes linearly."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def point(self, along: float, across: float = 0.0) -> Point:
        """The point at share ``along`` of the axis, ``across`` radii to the side on which y falls for an axis to +x."""
        (x0, y0), (x1, y1) = self.start, self.end
        dx, dy = x1 - x0, y1 - y0
        length = max(np.hypot(dx, dy), 1e-9)
        radius = (self.start_radius + along * (self.end_radius - self.start_radius)) * across / length
        return float(x0 + along * dx + radius * dy), float(y0 + along * dy - radius * dx)

    def distance(self, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """Distance to the surface (negative inside), share along the axis, and the offset from it in radii (x, y)."""
        (x0, y0), (x1, y1) = self.start, self.end
        dx, dy = x1 - x0, y1 - y0
        along = ((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9)
        along = np.clip(along, 0, 1)
        off_x, off_y = x - x0 - along * dx, y - y0 - along * dy
        radius = self.start_radius + along * (self.end_radius - self.start_radius)
        distance = np.sqrt(off_x * off_x + off_y * off_y) - radius
        scale = 1 / np.maximum(radius, 1e-3)
        return distance, along, off_x * scale, off_y * scale

    def window(self, shape: tuple[int, ...]) -> Window:
        """The part of an image of that shape that it can touch."""
        radius = max(self.start_radius, self.end_radius) + 1
        (x0, y0), (x1, y1) = self.start, self.end
        rows = slice(max(0, int(min(y0, y1) - radius)), max(0, min(shape[0], int(max(y0, y1) + radius) + 2)))
        columns = slice(max(0, int(min(x0, x1) - radius)), max(0, min(shape[1], int(max(x0, x1) + radius) + 2)))
        return rows, columns


Texture = Callable[[Array, Array, Window], Array]
"""(share along the axis, offset across it in radii, window) to a factor of the colour"""


def paint(
    image: Array, capsule: Capsule, colour: Array, texture: Texture | None = None, mask: Array | None = None
) -> None:
    """Draw onto ``image``, and its coverage from 0 to 1 onto ``mask``."""
    rows, columns = window = capsule.window(image.shape)
    y, x = np.ogrid[rows, columns]
    x, y = (x + 0.5).astype(np.float32), (y + 0.5).astype(np.float32)
    distance, along, side_x, side_y = capsule.distance(x, y)
    if distance.size == 0:
        return
    cover = np.clip(0.5 - distance, 0, 1)
    tone = 0.85 + 0.3 * (side_x * LIGHT[0] + side_y * LIGHT[1])
    if texture is not None:
        tone = tone * texture(along, side_y, window)
    image[window] += cover[..., None] * (tone[..., None] * colour - image[window])
    if mask is not None:
        mask[window] = np.maximum(mask[window], cover)


def erase(mask: Array, capsule: Capsule) -> None:
    """Take what a capsule in front hides from a mask."""
    rows, columns = window = capsule.window(mask.shape)
    y, x = np.ogrid[rows, columns]
    distance, *_ = capsule.distance((x + 0.5).astype(np.float32), (y + 0.5).astype(np.float32))
    mask[window] *= 1 - np.clip(0.5 - distance, 0, 1)


def fractal_noise(rng: np.random.Generator, size: int, cells: Point, octaves: int = 4) -> Array:
    """Smooth noise (size, size) around 0 of deviation about 1; ``cells``: of the coarsest octave, down and across."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        rows, columns = (min(size, max(2, round(count * 2**octave))) for count in cells)
        grid = rng.standard_normal((rows, columns), dtype=np.float32) * 0.65**octave
        total += np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return total


def blur(image: Array, radius: float) -> Array:
    """Gaussian blur."""
    from PIL import ImageFilter

    eight_bit = Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(eight_bit.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
