"""Two kinds of animal, built of capsules. Size, pose, colour and pattern are drawn alike for both.

A *wader* has a crest, a long bill, a fan of a tail and two long legs; a *grazer* has ears, a muzzle, a hanging tail and
four short legs. Individuals vary: each of these parts has the form of the animal's own kind with probability `OWN_FORM`
and that of the other kind otherwise, so that no single part decides, and the kind is what most parts say.
"""

from dataclasses import dataclass, field

import numpy as np

from ifam.scenes.drawing import Array, Capsule, Point, Texture, Window, fractal_noise, paint

CLASSES = ("wader", "grazer")
TELLING = ("head gear", "bill", "tail", "legs")
OWN_FORM = 0.8
"""probability with which a telling part has the form of its animal's own kind"""
BEST_BY_ANIMAL = 0.896
"""accuracy that nobody can beat who sees the animals only"""
BEST_BY_ALL_ELSEWHERE = 0.41
"""accuracy, on animals in the other kind's place, of whoever makes the best of 95 % of them being in their own:
following the place pays unless all four parts say otherwise"""


@dataclass(frozen=True)
class Limb:
    """One capsule of an animal, in pixels."""

    part: str
    shape: Capsule
    shade: float = 1.0
    patterned: bool = False


@dataclass(frozen=True)
class Creature:
    """An animal in pixels: limbs from back to front, and the named points of those parts that it has."""

    label: int
    limbs: tuple[Limb, ...]
    points: dict[str, Point]
    colour: Array
    pattern: str
    period: float
    noise_seed: int = field(repr=False)

    def draw(self, image: Array, mask: Array) -> None:
        """Paint it, and its coverage onto ``mask``."""
        texture = self._texture(image.shape[0])
        for limb in self.limbs:
            paint(image, limb.shape, self.colour * np.float32(limb.shade), texture if limb.patterned else None, mask)

    def _texture(self, size: int) -> Texture | None:
        if self.pattern == "plain":
            return None
        if self.pattern == "striped":
            return lambda along, across, window: (0.78 + 0.3 * np.sign(np.sin(along * self.period))).astype(np.float32)
        noise = fractal_noise(np.random.default_rng(self.noise_seed), size, (size / 5, size / 5), octaves=1)

        def spots(along: Array, across: Array, window: Window) -> Array:
            return np.where(noise[window] > 0.5, np.float32(0.5), np.float32(1.05))

        return spots


def make_creature(rng: np.random.Generator, label: int, size: int) -> Creature:
    """An animal of class ``label`` somewhere around the centre of an image of ``size`` pixels."""
    unit = size * rng.uniform(0.35, 0.45)  # length of the body
    facing, tilt = rng.choice([-1, 1]), rng.uniform(-0.2, 0.2)
    cos, sin = np.cos(tilt), np.sin(tilt)
    centre = size * (0.5 + rng.uniform(-0.07, 0.07, 2)) - unit * np.array([0.2 * facing, -0.1])  # of the body

    def place(x: float, y: float) -> Point:
        """From units of the body, facing right, to pixels."""
        return (
            float(centre[0] + facing * unit * (cos * x - sin * y)),
            float(centre[1] + unit * (sin * x + cos * y)),
        )

    def capsule(start: Point, end: Point, start_radius: float, end_radius: float) -> Capsule:
        return Capsule(place(*start), place(*end), start_radius * unit, end_radius * unit)

    head = (0.6 + rng.uniform(-0.1, 0.1), -0.62 + rng.uniform(-0.15, 0.15))
    plump = rng.uniform(0.85, 1.15)
    body = capsule((-0.32, -0.02), (0.3, -0.1), 0.33 * plump, 0.36 * plump)
    neck = capsule((0.38, -0.2), head, 0.19, 0.13)
    skull = capsule(head, (head[0] + 0.1, head[1] + 0.02), 0.2, 0.17)
    eye = capsule((head[0] + 0.1, head[1] - 0.06), (head[0] + 0.1, head[1] - 0.06), 0.045, 0.045)
    forms = _wader_forms(rng, head), _grazer_forms(rng, head)
    telling = {part: forms[label if rng.random() < OWN_FORM else 1 - label][part] for part in TELLING}
    behind = [Limb(name, capsule(*shape), 0.75) for name in ("legs", "tail") for shape in telling[name]]
    front = [Limb(name, capsule(*shape), 0.8) for name in ("head gear", "bill") for shape in telling[name]]
    limbs = [
        *behind, Limb("body", body, patterned=True), Limb("neck", neck, patterned=True), Limb("head", skull), *front,
        Limb("head", eye, 0.1),
    ]  # fmt: skip
    tips = {name: place(*parts[0][1]) for name, parts in telling.items()}
    return Creature(
        label=label,
        limbs=tuple(limbs),
        points={"body": body.point(0.5), "head": skull.start} | tips,
        colour=_coat(rng),
        pattern=str(rng.choice(["plain", "striped", "spotted"])),
        period=float(rng.uniform(12, 20)),
        noise_seed=int(rng.integers(2**31)),
    )


Shape = tuple[Point, Point, float, float]


def _wader_forms(rng: np.random.Generator, head: Point) -> dict[str, list[Shape]]:
    x, y = head
    bill, leg = rng.uniform(0.3, 0.5), rng.uniform(0.75, 1.0)
    return {
        "bill": [((x + 0.15, y + 0.03), (x + 0.2 + bill, y + 0.12), 0.1, 0.02)],
        "head gear": [((x - 0.1, y - 0.1), (x - 0.45, y - 0.1 - 0.14 * k), 0.07, 0.03) for k in range(3)],
        "tail": [((-0.5, -0.05), (-0.85, 0.12 * k - 0.1), 0.08, 0.06) for k in range(3)],
        "legs": [((0.02 + 0.16 * k, 0.2), (0.02 + 0.22 * k, leg), 0.09, 0.07) for k in range(2)],
    }


def _grazer_forms(rng: np.random.Generator, head: Point) -> dict[str, list[Shape]]:
    x, y = head
    ear, leg = rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.75)
    return {
        "head gear": [
            ((x - 0.1 + 0.14 * k, y - 0.1), (x - 0.22 + 0.26 * k, y - 0.12 - ear), 0.1, 0.07) for k in range(2)
        ],
        "bill": [((x + 0.1, y + 0.04), (x + 0.3, y + 0.12), 0.14, 0.11)],  # a muzzle
        "tail": [((-0.58, -0.08), (-0.78, 0.2), 0.07, 0.06), ((-0.78, 0.2), (-0.72, 0.5), 0.06, 0.09)],
        "legs": [((-0.4 + 0.24 * k, 0.15), (-0.42 + 0.26 * k, leg), 0.12, 0.09) for k in range(4)],
    }


def _coat(rng: np.random.Generator) -> Array:
    """A colour of fur or feathers, from white over brown and grey to nearly black."""
    light = rng.uniform(0.3, 0.95)
    warmth = rng.uniform(0, 0.35)
    return np.array([light, light * (1 - 0.5 * warmth), light * (1 - warmth)], dtype=np.float32)
