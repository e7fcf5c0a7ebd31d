"""A miniature of the challenge, and models that look at the colour of known regions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_image
from PIL import Image
from torch import Tensor

from ifam.data.imagenet9 import CLASSES
from ifam.data.read import read_table
from ifam.data.transforms import test_transform
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.imagenet9 import adversarial_backgrounds, evaluate_imagenet9
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.output import Prediction
from ifam.preprocessing import Preprocessing

SIDE = 32
AS_IT_IS = Preprocessing(image_size=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))
LEVELS = np.linspace(20, 230, 9)  # brightness of each class
CENTRE = slice(8, 24)
Rule = Callable[[Tensor], Tensor]


def write_jpeg(path: Path, pixels: Any) -> None:
    """Stored without loss under the name of the challenge: the decoder goes by the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, format="PNG")


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Two foregrounds per class in the brightness of the class, and backgrounds of which some are very bright."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        for i in range(2):
            image = np.full((SIDE, SIDE, 3), 128)
            image[CENTRE, CENTRE] = LEVELS[number] + 6 * i
            write_jpeg(tmp_path / f"original/val/{name}/{i}.JPEG", image)
            mask = np.zeros((SIDE, SIDE), dtype=bool)
            mask[CENTRE, CENTRE] = True
            (tmp_path / f"fg_mask/val/{name}").mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / f"fg_mask/val/{name}/{i}.npy", mask)
        for i in range(3):
            write_jpeg(
                tmp_path / f"only_bg_t/val/{name}/{i}.JPEG",
                np.full((SIDE, SIDE, 3), LEVELS[number]) + random.integers(-20, 20, (SIDE, SIDE, 3)),
            )
        for variant, level in (("mixed_same", LEVELS[number]), ("mixed_rand", random.choice(LEVELS))):
            image = np.full((SIDE, SIDE, 3), level)
            image[CENTRE, CENTRE] = LEVELS[number]
            write_jpeg(tmp_path / f"{variant}/val/{name}/0.JPEG", image)
    return tmp_path


def nearest_level(brightness: Tensor) -> Tensor:
    """(B,) brightness in 0–1 to (B, 9): the nearest class scores best."""
    return -(brightness[:, None] - torch.tensor(LEVELS / 255).float()).abs()


def by_the_centre(images: Tensor) -> Tensor:
    return nearest_level(images[:, :, CENTRE, CENTRE].mean((1, 2, 3)))


def by_the_border(images: Tensor) -> Tensor:
    return nearest_level(images[:, :, :4].mean((1, 2, 3)))


def by_a_mixture(images: Tensor) -> Tensor:
    """Fooled by backgrounds far from its class, some foregrounds more than others."""
    centre, everywhere = images[:, :, CENTRE, CENTRE].mean((1, 2, 3)), images.mean((1, 2, 3))
    return nearest_level(0.9 * centre + 0.1 * everywhere)


@pytest.fixture
def make_classifier(make_vit: Any) -> Callable[..., PlainClassifier]:
    """Nine classes in another order than the challenge's, or a thousand of which every 100th is one of them."""

    def make(rule: Rule, num_classes: int = 9, preprocessing: Preprocessing = AS_IT_IS) -> PlainClassifier:
        names = list(reversed(CLASSES)) if num_classes == 9 else None
        model = PlainClassifier(make_vit(), num_classes, class_names=names, preprocessing=preprocessing)

        def forward(images: Tensor) -> Prediction:
            scores = rule(images)
            if num_classes == 9:
                return Prediction(logits=scores.flip(1))
            logits = torch.full((len(images), num_classes), -9.0)
            logits[:, 0:900:100] = scores
            return Prediction(logits=logits)

        model.forward = forward  # type: ignore[method-assign]
        return model

    return make


def brute_force(root: Path, rule: Rule) -> dict[str, list[bool]]:
    """Every foreground on every background, one composite at a time in plain loops."""
    robust: dict[str, list[bool]] = {}
    for number, name in enumerate(CLASSES):
        for path in sorted((root / f"fg_mask/val/{name}").iterdir()):
            mask = np.load(path)
            image = np.asarray(Image.open(root / f"original/val/{name}/{path.stem}.JPEG"))
            verdicts = []
            for background in sorted((root / "only_bg_t/val").rglob("*.JPEG")):
                pixels = np.array(Image.open(background))
                pixels[mask] = image[mask]
                scores = rule(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
                verdicts.append(int(scores.argmax()) == number)
            robust.setdefault(name, []).append(all(verdicts))
    return robust


@pytest.mark.parametrize("num_classes", [9, 1000])
@pytest.mark.parametrize("rule", [by_the_centre, by_the_border, by_a_mixture])
def test_the_challenge_agrees_with_brute_force(
    rule: Rule, num_classes: int, make_classifier: Any, challenge: Path
) -> None:
    expected = brute_force(challenge, rule)
    share = np.mean([hit for hits in expected.values() for hit in hits])
    assert {by_the_centre: share == 1, by_the_border: share == 0, by_a_mixture: 0.2 < share < 0.8}[rule]
    class_map = {100 * group: group for group in range(9)} if num_classes == 1000 else None
    progress: list[tuple[int, int]] = []
    for batch_size in (1, 4, 50):
        result = adversarial_backgrounds(
            make_classifier(rule, num_classes), challenge, class_map, batch_size=batch_size,
            progress=lambda *counts: progress.append(counts),
        )  # fmt: skip
        assert result.accuracy == pytest.approx(share)
        assert {name: (group.accuracy, group.count) for name, group in result.classes.items()} == {
            name: (np.mean(hits), 2) for name, hits in expected.items()
        }
        assert (result.num_foregrounds, result.num_backgrounds) == (18, 27)
        assert result.num_robust == 18 * result.accuracy
    assert progress == 3 * [(done, 18) for done in range(1, 19)]
    assert json.loads(json.dumps(result.to_dict()))["accuracy"] == result.accuracy


def test_a_class_without_a_group_is_a_mistake(make_classifier: Any, challenge: Path) -> None:
    class_map = {100 * group: group for group in range(9) if group != 3}
    result = adversarial_backgrounds(make_classifier(by_the_centre, 1000), challenge, class_map)
    assert [name for name, group in result.classes.items() if group.accuracy == 0] == [CLASSES[3]]


def test_a_part_of_the_foregrounds_is_spread_over_the_classes(make_classifier: Any, challenge: Path) -> None:
    result = adversarial_backgrounds(make_classifier(by_the_centre), challenge, max_foregrounds=9)
    assert {group.count for group in result.classes.values()} == {1}
    result = adversarial_backgrounds(make_classifier(by_the_centre), challenge, max_foregrounds=3)
    assert [group.count for group in result.classes.values()] == [1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert result.classes[CLASSES[1]].accuracy is None
    assert adversarial_backgrounds(make_classifier(by_the_centre), challenge, max_foregrounds=99).num_foregrounds == 18


def test_composites_are_prepared_as_photographs_are(make_classifier: Any, challenge: Path) -> None:
    """Pasted at the size of the files, then resized as the model wants, alone or in a batch."""
    preprocessing = Preprocessing(image_size=(24, 24))
    seen: list[Tensor] = []

    def remember(images: Tensor) -> Tensor:
        seen.append(images.clone())
        scores = torch.zeros(len(images), 9)
        scores[:, 0] = 1
        return scores

    model = make_classifier(remember, preprocessing=preprocessing)
    adversarial_backgrounds(model, challenge, batch_size=27, max_foregrounds=1)
    mask = np.load(challenge / f"fg_mask/val/{CLASSES[0]}/0.npy")
    image = np.asarray(Image.open(challenge / f"original/val/{CLASSES[0]}/0.JPEG"))
    for number, background in enumerate(sorted((challenge / "only_bg_t/val").rglob("*.JPEG"))):
        path = challenge / "alone" / CLASSES[number // 3] / f"{number:02}.png"
        write_image(path, np.where(mask[..., None], image, np.asarray(Image.open(background))))
    composites = torch.cat(seen)
    seen.clear()
    model.class_names = list(CLASSES)
    evaluate(model, read_table(challenge / "alone"), batch_size=1)
    assert torch.equal(composites, torch.cat(seen))


def test_interventions_reach_the_model(make_model: Any, challenge: Path, refuses_line: Any) -> None:
    model: IFAM = make_model(num_classes=9, class_names=list(CLASSES), preprocessing=AS_IT_IS)
    removed = adversarial_backgrounds(model, challenge, remove_parts=[0, 1, 2])
    # Nothing is left to see: one answer for everything, right for one class.
    assert sorted(group.accuracy or 0 for group in removed.classes.values()) == [0] * 8 + [1]
    with refuses_line("0 to 2"):
        adversarial_backgrounds(model, challenge, remove_parts=[3])


def test_a_challenge_that_cannot_be(make_classifier: Any, make_vit: Any, challenge: Path, refuses_line: Any) -> None:
    model = make_classifier(by_the_centre)
    with refuses_line("max_foregrounds", "at least 1", "0"):
        adversarial_backgrounds(model, challenge, max_foregrounds=0)
    with refuses_line("00_dog", "in_to_in9.json"):
        adversarial_backgrounds(PlainClassifier(make_vit(), 9, preprocessing=AS_IT_IS), challenge)
    with refuses_line("1000 ImageNet classes", "9 classes"):
        adversarial_backgrounds(model, challenge, {10: 1})
    first, *_ = sorted((challenge / "only_bg_t/val/00_dog").iterdir())
    write_jpeg(first, np.zeros((16, SIDE, 3)))
    with refuses_line(first, "32 × 32", "16 × 32", error=DataError):
        adversarial_backgrounds(model, challenge)
    mask = challenge / "fg_mask/val/00_dog/0.npy"
    np.save(mask, np.zeros((16, SIDE), dtype=bool))
    with refuses_line(mask, "32 × 32", "16 × 32", error=DataError):
        adversarial_backgrounds(model, challenge)
    (challenge / "original/val/00_dog/0.JPEG").unlink()
    with refuses_line("original/val/00_dog/0.JPEG", "expected an image", error=DataError):
        adversarial_backgrounds(model, challenge)


@pytest.mark.parametrize("rule", [by_the_centre, by_the_border])
def test_every_variant_is_scored(rule: Rule, make_classifier: Any, challenge: Path) -> None:
    model = make_classifier(rule)
    result = evaluate_imagenet9(model, challenge)
    assert list(result.evaluations) == ["original", "mixed_same", "mixed_rand", "only_bg_t"]
    for name, evaluation in result.evaluations.items():
        assert evaluation == evaluate(model, read_table(challenge / name))
    same, rand = (result.evaluations[name].accuracy for name in ("mixed_same", "mixed_rand"))
    assert same == 1
    assert rand == 1 if rule is by_the_centre else rand < 0.5
    assert result.bg_gap == same - rand
    values = json.loads(json.dumps(result.to_dict()))
    assert (values["bg_gap"], values["variants"]["mixed_rand"]["accuracy"]) == (result.bg_gap, rand)


def test_images_of_imagenet9_are_seen_whole(make_classifier: Any, challenge: Path) -> None:
    """They come cut, unlike the photographs that a model of ImageNet cuts the centre out of."""
    cut = make_classifier(by_the_border, preprocessing=replace(AS_IT_IS, crop_ratio=0.5))
    whole = make_classifier(by_the_border)
    assert evaluate_imagenet9(cut, challenge) == evaluate_imagenet9(whole, challenge)
    assert adversarial_backgrounds(cut, challenge) == adversarial_backgrounds(whole, challenge)
    image = Image.open(challenge / f"mixed_rand/val/{CLASSES[0]}/0.JPEG")
    assert not torch.equal(test_transform(cut.preprocessing)(image), test_transform(AS_IT_IS)(image))


def test_a_model_of_imagenet_needs_the_class_map(make_classifier: Any, challenge: Path, tmp_path: Path) -> None:
    nine, thousand = make_classifier(by_the_centre), make_classifier(by_the_centre, 1000)
    path = tmp_path / "in_to_in9.json"
    path.write_text(json.dumps({str(i): i // 100 if i % 100 == 0 and i < 900 else -1 for i in range(1000)}))
    expected = {name: each.accuracy for name, each in evaluate_imagenet9(nine, challenge).evaluations.items()}
    for class_map in (path, str(path), {100 * group: group for group in range(9)}):
        found = evaluate_imagenet9(thousand, challenge, class_map).evaluations
        assert {name: each.accuracy for name, each in found.items()} == expected
    with pytest.raises(DataError, match="classes that the model knows"):
        evaluate_imagenet9(thousand, challenge)


def test_variants_by_name(make_classifier: Any, challenge: Path, refuses_line: Any) -> None:
    model = make_classifier(by_the_centre)
    result = evaluate_imagenet9(model, challenge, variants=["mixed_rand", "original"], batch_size=4)
    assert list(result.evaluations) == ["mixed_rand", "original"]
    assert result.bg_gap is None
    with refuses_line("mixed_random", "mixed_rand"):
        evaluate_imagenet9(model, challenge, variants=["mixed_random"])
    with refuses_line("no_fg/val/00_dog", "original, mixed_same", error=DataError):
        evaluate_imagenet9(model, challenge, variants=["no_fg"])
    with refuses_line("none", error=DataError):
        evaluate_imagenet9(model, challenge / "original")
    with pytest.raises(UsageError, match="a model with parts"):
        evaluate_imagenet9(model, challenge, remove_parts=[0])
