"""Two families of place, told apart by what stands in them, trees or waves, and not by colour.

Light, sky, ground, reeds in front and the clutter that resembles an animal (a boulder with a knob, a stump with roots)
are drawn alike for both, so that a few pixels beside an animal say little about the place, and the whole image says it.
"""

from dataclasses import dataclass

import numpy as np

from ifam.scenes.drawing import Array, Capsule, Window, blur, fractal_noise, paint

PLACES = ("woods", "shore")


@dataclass(frozen=True)
class Place:
    """A background, and what of it stands in front of an animal."""

    image: Array
    foreground: tuple[tuple[Capsule, Array], ...]


def make_place(rng: np.random.Generator, place: int, size: int) -> Place:
    """A background of family ``place``, drawn without knowing the animal."""
    horizon = size * rng.uniform(0.25, 0.5)
    image = _gradient(rng, size)
    image[int(horizon) :] = _gradient(rng, size)[int(horizon) :]
    (_trees if place == 0 else _waves)(rng, image, horizon)
    for _ in range(rng.integers(2, 5)):
        _distractor(rng, image, horizon)
    image = blur(image, float(rng.uniform(1.0, 2.2)))
    return Place(image=image, foreground=tuple(_reeds(rng, size)))


def _gradient(rng: np.random.Generator, size: int) -> Array:
    """From one colour above to another below, under noise."""
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    noise = fractal_noise(rng, size, (6, 4))[..., None]
    top, bottom = _colour(rng), _colour(rng)
    image: Array = (top + share * (bottom - top)) * (1 + 0.14 * noise)
    return image.astype(np.float32)


def _colour(rng: np.random.Generator) -> Array:
    """A muted colour between green, grey and blue, of any lightness."""
    green_to_blue = rng.uniform()
    hue = (1 - green_to_blue) * np.array([0.85, 1.05, 0.5]) + green_to_blue * np.array([0.75, 1.0, 1.2])
    strength = rng.uniform(0.2, 1)
    return (rng.uniform(0.25, 0.75) * (1 + strength * (hue - 1))).astype(np.float32)


def _trees(rng: np.random.Generator, image: Array, horizon: float) -> None:
    """Trunks that leave the image above."""
    size = image.shape[0]
    for _ in range(rng.integers(4, 9)):
        x, radius = _sideways(rng, size), rng.uniform(1, 3.5)
        foot = horizon + rng.uniform(-3, 0.25 * size)
        paint(image, Capsule((x, -5), (x + rng.normal(0, 5), foot), radius, radius * 1.2), _colour(rng))


def _waves(rng: np.random.Generator, image: Array, horizon: float) -> None:
    """Long level crests below the horizon."""
    size = image.shape[0]
    for _ in range(rng.integers(12, 24)):
        x, y, half = _sideways(rng, size), rng.uniform(horizon, size), rng.uniform(6, 22)
        paint(image, Capsule((x - half, y), (x + half, y + rng.normal(0, 0.6)), 1.2, 0.6), _colour(rng))


def _sideways(rng: np.random.Generator, size: int) -> float:
    """A column, rather at the sides than in the middle: animals are photographed in clearings."""
    return float(size * rng.beta(0.5, 0.5))


def _distractor(rng: np.random.Generator, image: Array, horizon: float) -> None:
    """A body with a smaller one on it and, at times, sticks below: an animal's outline without its parts."""
    size = image.shape[0]
    unit = size * rng.uniform(0.1, 0.2)
    x, y = rng.uniform(0, size), rng.uniform(horizon, size)
    lean, side = rng.normal(0, 0.3), rng.choice([-1, 1])
    grey = rng.uniform(0.25, 0.7)
    colour = np.array([1, rng.uniform(0.85, 1), rng.uniform(0.7, 1)], np.float32) * np.float32(grey)
    rough = fractal_noise(rng, size, (size / 6, size / 6), octaves=2)

    def texture(along: Array, across: Array, window: Window) -> Array:
        return (0.9 + 0.22 * rough[window]).astype(np.float32)

    if rng.random() < 0.5:
        for k in range(rng.integers(2, 5)):
            foot = x + unit * (k - 1.5) * 0.5
            paint(image, Capsule((foot, y), (foot + rng.normal(0, 2), y + unit), unit * 0.1, unit * 0.07), colour * 0.7)
    paint(image, Capsule((x - unit * 0.5, y), (x + unit * 0.5, y + lean), unit * 0.5, unit * 0.45), colour, texture)
    knob = (x + side * unit * rng.uniform(0.3, 0.7), y - unit * rng.uniform(0.4, 0.8))
    paint(image, Capsule(knob, knob, unit * 0.3, unit * 0.3), colour, texture)


def _blade(rng: np.random.Generator, x: float, y: float) -> Capsule:
    height = rng.uniform(4, 13)
    return Capsule((x, y), (x + rng.normal(0, 0.3) * height, y - height), 0.9, 0.2)


def _reeds(rng: np.random.Generator, size: int) -> list[tuple[Capsule, Array]]:
    ground = size * rng.uniform(0.65, 0.85)
    return [
        (_blade(rng, rng.uniform(0, size), ground + rng.uniform(-1, 8)), _colour(rng))
        for _ in range(rng.integers(10, 45))
    ]
