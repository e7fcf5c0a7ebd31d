"""Two families of place, cluttered with things that resemble an animal: a boulder with a knob, a stump with roots."""

from dataclasses import dataclass

import numpy as np

from ifam.scenes.drawing import Array, Capsule, Window, blur, fractal_noise, paint

PLACES = ("meadow", "shore")


@dataclass(frozen=True)
class Place:
    """A background, and what of it stands in front of an animal."""

    image: Array
    foreground: tuple[tuple[Capsule, Array], ...]


def make_place(rng: np.random.Generator, place: int, size: int) -> Place:
    """A background of family ``place``, drawn without knowing the animal."""
    image, horizon = (_meadow if place == 0 else _shore)(rng, size)
    for _ in range(rng.integers(2, 5)):
        _distractor(rng, image, horizon)
    image = blur(image, float(rng.uniform(0.2, 1.2)))
    return Place(image=image, foreground=tuple((_blades if place == 0 else _foam)(rng, size)))


def _ground(rng: np.random.Generator, size: int, top: Array, bottom: Array, cells: tuple[float, float]) -> Array:
    """A gradient from ``top`` to ``bottom`` under noise."""
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    noise = fractal_noise(rng, size, cells)[..., None]
    tint = rng.normal(0, 0.03, 3).astype(np.float32)
    image: Array = (top + share * (bottom - top) + tint) * (1 + 0.14 * noise)
    return image.astype(np.float32)


def _colour(rng: np.random.Generator, *mean: float) -> Array:
    return (np.array(mean) * rng.uniform(0.75, 1.25) * rng.normal(1, 0.07, 3)).clip(0.02, 1).astype(np.float32)


def _meadow(rng: np.random.Generator, size: int) -> tuple[Array, float]:
    """Woods above, grass below."""
    image = _ground(rng, size, _colour(rng, 0.2, 0.3, 0.16), _colour(rng, 0.4, 0.46, 0.22), (6, 6))
    horizon = size * rng.uniform(0.3, 0.6)
    for _ in range(rng.integers(3, 9)):
        x, radius = rng.uniform(0, size), rng.uniform(1, 4)
        trunk = Capsule((x, -5), (x + rng.normal(0, 5), horizon + rng.uniform(0, 8)), radius, radius * 1.2)
        paint(image, trunk, _colour(rng, 0.26, 0.2, 0.15))
    for _ in range(70):
        x, y = rng.uniform(0, size), rng.uniform(horizon, size + 5)
        paint(image, _blade(rng, x, y), _colour(rng, 0.36, 0.45, 0.18))
    return image, horizon


def _shore(rng: np.random.Generator, size: int) -> tuple[Array, float]:
    """Sky above, water and wet sand below."""
    image = _ground(rng, size, _colour(rng, 0.66, 0.72, 0.8), _colour(rng, 0.72, 0.76, 0.8), (2, 1))
    horizon = size * rng.uniform(0.2, 0.5)
    water = _ground(rng, size, _colour(rng, 0.28, 0.4, 0.5), _colour(rng, 0.42, 0.5, 0.52), (14, 2))
    image[int(horizon) :] = water[int(horizon) :]
    for _ in range(40):
        y = rng.uniform(horizon, size)
        x, length = rng.uniform(-10, size), rng.uniform(4, 26) * (0.3 + (y - horizon) / size)
        wave = Capsule((x, y), (x + length, y + rng.normal(0, 0.6)), 0.7, 0.4)
        paint(image, wave, _colour(rng, 0.75, 0.8, 0.84))
    return image, horizon


def _distractor(rng: np.random.Generator, image: Array, horizon: float) -> None:
    """A body with a smaller one on it and, at times, sticks below: an animal's outline without its parts."""
    size = image.shape[0]
    unit = size * rng.uniform(0.1, 0.2)
    x, y = rng.uniform(0, size), rng.uniform(horizon, size)
    lean, side = rng.normal(0, 0.3), rng.choice([-1, 1])
    grey = rng.uniform(0.25, 0.7)
    colour = _colour(rng, grey, grey * rng.uniform(0.85, 1), grey * rng.uniform(0.7, 1))
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


def _blades(rng: np.random.Generator, size: int) -> list[tuple[Capsule, Array]]:
    ground = size * rng.uniform(0.65, 0.85)
    return [
        (_blade(rng, rng.uniform(0, size), ground + rng.uniform(-1, 8)), _colour(rng, 0.36, 0.45, 0.18))
        for _ in range(rng.integers(10, 45))
    ]


def _foam(rng: np.random.Generator, size: int) -> list[tuple[Capsule, Array]]:
    surface, found = size * rng.uniform(0.6, 0.8), []
    for _ in range(rng.integers(4, 14)):
        x, y, length = rng.uniform(-10, size), surface + rng.uniform(-6, 3), rng.uniform(6, 26)
        found.append((Capsule((x, y), (x + length, y), 1.1, 0.7), _colour(rng, 0.6, 0.68, 0.72)))
    return found
