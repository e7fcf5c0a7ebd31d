"""One picture: an animal before a background, with what is known about it."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ifam.scenes.creatures import make_creature
from ifam.scenes.drawing import Point, erase, paint
from ifam.scenes.places import Place, make_place

SIZE = 112
Variant = Literal["original", "mixed_same", "mixed_rand", "only_bg", "only_fg"]
"""As in the Backgrounds Challenge (Xiao et al. 2021, arXiv 2006.09994): the animal on its own background; on another
one that is usual for its class; on another one of any family; the background without it; the animal on black."""
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True)
class Recipe:
    """What a scene is made of; equal recipes give equal bytes."""

    label: int
    place: int
    animal: tuple[int, ...]
    """seed of the animal"""
    background: tuple[int, ...]
    """seed of the place"""
    shows: Literal["both", "animal", "background"] = "both"
    size: int = SIZE


@dataclass(frozen=True)
class Scene:
    """An image (size, size, 3), what of it is animal (size, size), and its visible named points."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    points: dict[str, Point]


def draw(recipe: Recipe) -> Scene:
    """Draw a scene."""
    size = recipe.size
    creature = make_creature(np.random.default_rng((0, *recipe.animal)), recipe.label, size)
    if recipe.shows == "animal":
        place = Place(image=np.zeros((size, size, 3), np.float32), foreground=())
    else:
        place = make_place(np.random.default_rng((1, *recipe.background)), recipe.place, size)
    image = place.image.copy()
    cover = np.zeros((size, size), np.float32)
    if recipe.shows != "background":
        creature.draw(image, cover)
    for capsule, colour in place.foreground:
        paint(image, capsule, colour)
        erase(cover, capsule)
    camera = np.random.default_rng((2, *recipe.animal, *recipe.background))
    noise = camera.normal(0, camera.uniform(0.01, 0.04), image.shape)
    image = image * camera.uniform(0.8, 1.15) + (0 if recipe.shows == "animal" else noise)
    mask = cover >= 0.5
    return Scene(
        image=(image.clip(0, 1) * 255).round().astype(np.uint8),
        mask=mask,
        points={name: point for name, point in creature.points.items() if _visible(mask, point)},
    )


def _visible(mask: NDArray[np.bool_], point: Point) -> bool:
    """Whether animal is seen within a pixel and a half of the point."""
    x, y = point
    rows, columns = (slice(max(0, int(np.floor(c - 1.5))), max(0, int(np.ceil(c + 1.5)))) for c in (y, x))
    return bool(mask[rows, columns].any())
