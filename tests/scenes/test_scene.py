import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ifam.scenes.creatures import (
    BEST_BY_ALL_ELSEWHERE,
    BEST_BY_ANIMAL,
    CLASSES,
    OWN_FORM,
    TELLING,
    Creature,
    make_creature,
)
from ifam.scenes.drawing import Capsule, fractal_noise, paint
from ifam.scenes.places import PLACES, make_place
from ifam.scenes.scene import SIZE, Recipe, draw

RECIPES = [
    Recipe(label, place, (3, number), (4, number)) for number in range(6) for label, place in product((0, 1), (0, 1))
]


def reference_mask(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to the animal and to what stands before it, by brute force over a fine sampling of the axes."""
    creature = make_creature(np.random.default_rng((0, *recipe.animal)), recipe.label, SIZE)
    place = make_place(np.random.default_rng((1, *recipe.background)), recipe.place, SIZE)
    centres = np.stack(np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5), -1)

    def nearest(capsules: list[Capsule]) -> np.ndarray:
        found = np.full((SIZE, SIZE), np.inf)
        for capsule in capsules:
            for share in np.linspace(0, 1, 60):
                point = np.array(capsule.start) * (1 - share) + np.array(capsule.end) * share
                radius = capsule.start_radius * (1 - share) + capsule.end_radius * share
                found = np.minimum(found, np.linalg.norm(centres - point, axis=-1) - radius)
        return found

    return nearest([limb.shape for limb in creature.limbs]), nearest([capsule for capsule, _ in place.foreground])


@pytest.mark.parametrize("recipe", RECIPES[:8], ids=str)
def test_the_mask_is_the_animal_less_what_stands_before_it(recipe: Recipe) -> None:
    animal, front = reference_mask(recipe)
    mask = draw(recipe).mask
    assert mask[(animal < -1) & (front > 1)].all()
    assert not mask[(animal > 1) | (front < -1)].any()
    assert 0.03 < mask.mean() < 0.5


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_points_lie_on_parts_that_are_seen(recipe: Recipe) -> None:
    creature = make_creature(np.random.default_rng((0, *recipe.animal)), recipe.label, SIZE)
    parts = {limb.part for limb in creature.limbs}
    scene = draw(recipe)
    assert {"body", "head"} <= set(creature.points)
    assert set(scene.points) <= set(creature.points) <= parts
    rows, columns = np.nonzero(scene.mask)
    for name, point in creature.points.items():
        x, y = point
        shapes = [limb.shape for limb in creature.limbs if limb.part == name]
        distance = min(float(shape.distance(np.array([x]), np.array([y]))[0][0]) for shape in shapes)
        assert distance < 1e-4, f"{name} is not on its part"
        seen = bool((np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 0.7).any())
        far = not (np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 3.5).any()
        assert (name in scene.points) or not seen
        assert (name not in scene.points) or not far


def test_a_point_outside_the_image_is_not_listed() -> None:
    recipes = [Recipe(0, 0, (9, number), (9, number)) for number in range(200)]
    outside = 0
    for recipe in recipes:
        creature = make_creature(np.random.default_rng((0, *recipe.animal)), 0, SIZE)
        gone = {name for name, point in creature.points.items() if not all(-2 < c < SIZE + 2 for c in point)}
        if gone:
            outside += 1
            assert not gone & set(draw(recipe).points)
    assert outside > 0


def test_classes_differ_in_parts_alone() -> None:
    """Size, pose and coat are drawn alike: with one seed the two animals share body, head, colour and pattern."""
    for number in range(50):
        wader, grazer = (make_creature(np.random.default_rng(number), label, SIZE) for label in (0, 1))
        common = [
            [limb.shape for limb in animal.limbs if limb.part in ("body", "neck", "head")] for animal in (wader, grazer)
        ]
        assert common[0] == common[1]
    assert len(CLASSES) == len(PLACES) == 2


def parts_of_a_wader(creature: Creature) -> set[str]:
    """Told by the number of limbs: 3 feathers in crest and fan, 2 long legs; a bill is longer than a muzzle."""
    limbs = {part: [limb.shape for limb in creature.limbs if limb.part == part] for part in TELLING}
    (bill,) = limbs["bill"]
    found = {part for part, count in (("head gear", 3), ("tail", 3), ("legs", 2)) if len(limbs[part]) == count}
    return found | ({"bill"} if bill.start_radius > 2 * bill.end_radius else set())


def test_no_single_part_decides() -> None:
    animals = [(n % 2, make_creature(np.random.default_rng(n), n % 2, SIZE)) for n in range(2000)]
    own = np.array(
        [[(part in parts_of_a_wader(animal)) == (label == 0) for part in TELLING] for label, animal in animals]
    )
    assert own.mean(0) == pytest.approx([OWN_FORM] * len(TELLING), abs=0.03)
    assert abs(np.corrcoef(own.T) - np.eye(len(TELLING))).max() < 0.08, "each part is drawn for itself"


def test_what_can_be_known_at_best() -> None:
    """Exactly, over all animals: by the animal alone, and by what pays in training, where the place is known too."""
    place = np.log(0.95 / 0.05)  # log-odds of the class
    part = np.log(OWN_FORM / (1 - OWN_FORM))
    alone = elsewhere = 0.0
    for own in product((0, 1), repeat=len(TELLING)):
        chance = np.prod([OWN_FORM if one else 1 - OWN_FORM for one in own])
        evidence = part * (2 * sum(own) - len(own))
        alone += chance * (0.5 if abs(evidence) < 1e-9 else float(evidence > 0))
        elsewhere += chance * float(evidence - place > 0)  # an animal of the other place
    assert alone == pytest.approx(BEST_BY_ANIMAL, abs=0.005)
    assert elsewhere == pytest.approx(BEST_BY_ALL_ELSEWHERE, abs=0.005)


def test_places_differ_in_what_stands_there_and_not_in_colour() -> None:
    images = [[make_place(np.random.default_rng((p, n)), p, SIZE).image for n in range(100)] for p in (0, 1)]
    colours = np.array([[image.mean((0, 1)) for image in place] for place in images])
    difference = colours[0].mean(0) - colours[1].mean(0)
    scores = (colours - colours.mean((0, 1))) @ difference
    assert ((scores[0] > 0).mean() + (scores[1] < 0).mean()) / 2 < 0.6
    upright = np.array(
        [
            [np.abs(np.diff(i[:50], axis=1)).mean() - np.abs(np.diff(i[:50], axis=0)).mean() for i in place]
            for place in images
        ]
    )
    middle = np.median(upright)
    assert (upright[0] > middle).mean() > 0.7, "trees stand, waves lie"


@pytest.mark.parametrize("recipe", RECIPES[:4], ids=str)
def test_what_a_scene_shows(recipe: Recipe) -> None:
    both, animal, background = (draw(replace(recipe, shows=shows)) for shows in ("both", "animal", "background"))
    assert not background.mask.any()
    assert background.points == {}
    assert (animal.image[~animal.mask] == 0).mean() > 0.9, "black around the animal"
    assert (both.mask <= animal.mask).all(), "on black nothing stands before it"
    difference = np.abs(both.image.astype(int) - background.image).max(-1)
    distance, _ = reference_mask(recipe)
    assert (difference[distance > 1] == 0).all(), "the background does not know the animal"
    assert np.median(difference[both.mask]) > 15


def test_the_same_animal_elsewhere() -> None:
    here = draw(replace(RECIPES[0], shows="animal"))
    there = draw(replace(RECIPES[0], shows="animal", place=1, background=(8, 8)))
    assert (here.mask == there.mask).all()
    assert here.points == there.points
    assert (draw(RECIPES[0]).image != draw(replace(RECIPES[0], place=1, background=(8, 8))).image).mean() > 0.5


def test_two_processes_draw_the_same_bytes() -> None:
    code = (
        "import hashlib; from ifam.scenes.scene import Recipe, draw; "
        "print(hashlib.sha256(b''.join(draw(Recipe(i % 2, i // 2 % 2, (5, i), (6, i))).image.tobytes() "
        "for i in range(6))).hexdigest())"
    )
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in "ab")
    assert first == second
    assert len(first) > 60


def test_a_capsule_is_filled_and_nothing_else() -> None:
    capsule = Capsule((8, 16), (24, 16), 4, 4)
    image, mask = np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.float32)
    paint(image, capsule, np.ones(3, np.float32), mask=mask)
    assert mask.sum() == pytest.approx(16 * 8 + np.pi * 16, rel=0.01), "the area of a stadium"
    assert (image[mask == 0] == 0).all()
    assert (image[mask == 1] > 0.4).all()
    assert image[13, 16, 0] > image[18, 16, 0], "light comes from above"
    paint(image, Capsule((-50, -50), (-40, -40), 3, 3), np.ones(3, np.float32), mask=mask)  # outside: no error


def test_a_point_of_a_capsule() -> None:
    capsule = Capsule((0, 0), (10, 0), 2, 4)
    assert capsule.point(0.5) == (5, 0)
    assert capsule.point(1, 1) == (10, -4)


def test_noise_is_centred() -> None:
    noise = np.concatenate([fractal_noise(np.random.default_rng(seed), 64, (8, 8)).ravel() for seed in range(20)])
    assert abs(noise.mean()) < 0.1
    assert 0.5 < noise.std() < 1.5
