"""What the background alone tells: of images whose object, or background, says the class."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_image
from torch import Tensor

from ifam.background import MOST_IMAGES, BackgroundObserver, drawn, evaluate_with_background
from ifam.cli import main
from ifam.data.read import read_table
from ifam.data.table import ImageTable, Sample
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.output import Output
from ifam.preprocessing import Preprocessing
from ifam.probe import linear_probe
from ifam.storage import save

AS_IT_IS = Preprocessing(image_size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
Shade = Callable[[int], int]


def write_squares(root: Path, backdrop: Callable[[int, int], float], count: int = 24) -> ImageTable:
    """A square in the middle, red for cats and green for dogs, before a blue that (class, number) decide."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        for number in range(count):
            pixels = random.integers(0, 60, (32, 32, 3))
            pixels[..., 2] += round(150 * backdrop(label, number))
            pixels[8:24, 8:24] = (0, 200, 0) if label else (200, 0, 0)
            write_image(root / f"test/{name}/{number}.png", pixels)
            mask = np.zeros((32, 32))
            mask[8:24, 8:24] = 255
            write_image(root / f"masks/{name}/{number}.png", mask)
    rows = [
        f"test/{name}/{number}.png,{name},test,masks/{name}/{number}.png"
        for name in ("cat", "dog")
        for number in range(count)
    ]
    (root / "table.csv").write_text("path,label,split,mask\n" + "\n".join(rows))
    return read_table(root / "table.csv")


def without_masks(table: ImageTable) -> ImageTable:
    return replace(table, samples=tuple(replace(sample, mask=None) for sample in table.samples))


@pytest.fixture
def model(make_model: Any) -> IFAM:
    """Selects the square in the middle, whatever it is."""
    model: IFAM = make_model(num_parts=1, num_classes=2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)
    forward = model.forward

    def select_middle(images: Tensor, mask: Tensor | None = None, **options: Any) -> Output:
        middle = torch.zeros(len(images), 4, 4, dtype=torch.bool)
        middle[:, 1:3, 1:3] = True
        return forward(images, mask=middle if mask is None else mask, **options)

    model.forward = select_middle  # type: ignore[method-assign]
    return model


def test_a_background_that_follows_the_class_is_found(model: IFAM, tmp_path: Path) -> None:
    _, found = evaluate_with_background(model, write_squares(tmp_path, lambda label, number: label), batch_size=7)
    assert found is not None
    assert found.probe is not None
    assert found.probe.is_strong
    assert (found.probe.chance, found.probe.num_images, found.split) == (0.5, 48, "test")


def test_a_background_that_says_nothing_is_not(model: IFAM, tmp_path: Path) -> None:
    """Though the object says it, and the tokens of stage 1 outside the mask have read the object."""
    table = without_masks(write_squares(tmp_path, lambda label, number: number % 2))
    _, found = evaluate_with_background(model, table)
    assert found is not None
    assert found.probe is not None
    assert not found.probe.is_above_chance
    read = model.discover(images_of(table)).tokens
    outside = torch.ones(4, 4, dtype=torch.bool)
    outside[1:3, 1:3] = False
    labels = torch.tensor([sample.label for sample in table.samples])
    told = linear_probe(read[:, outside].mean(1).detach(), labels, table.class_names)
    assert told is not None
    assert told.is_strong


def images_of(table: ImageTable) -> Tensor:
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(sample.path)) for sample in table.samples])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def test_an_annotated_object_is_no_background_where_the_mask_misses_it(make_model: Any, tmp_path: Path) -> None:
    model: IFAM = make_model(num_parts=1, num_classes=2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)
    forward = model.forward

    def select_a_corner(images: Tensor, **options: Any) -> Output:
        corner = torch.zeros(len(images), 4, 4, dtype=torch.bool)
        corner[:, 0, 0] = True
        return forward(images, mask=corner)

    model.forward = select_a_corner  # type: ignore[method-assign]
    table = write_squares(tmp_path, lambda label, number: number % 2)
    for given, strong in ((table, False), (without_masks(table), True)):
        found = evaluate_with_background(model, given)[1]
        assert found is not None
        assert found.probe is not None
        assert found.probe.is_strong == strong


def test_copies_count_once_and_images_without_a_mask_not(model: IFAM, make_model: Any, tmp_path: Path) -> None:
    table = write_squares(tmp_path, lambda label, number: label)
    copies = replace(table, samples=tuple(replace(sample, path=table.samples[0].path) for sample in table.samples))
    empty: IFAM = make_model(num_parts=1, num_classes=2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)
    with torch.no_grad():
        empty.prototypes[0] = 1e4
    for asked, given in ((model, copies), (empty, table)):
        found = evaluate_with_background(asked, given)[1]
        assert found is not None
        assert found.probe is None
        assert "10 different images of two classes" in found.reason


def test_models_with_and_without_masks(make_vit: Any, tmp_path: Path) -> None:
    table = write_squares(tmp_path, lambda label, number: label)
    names: dict[str, Any] = {"class_names": ["cat", "dog"], "preprocessing": AS_IT_IS}
    late = evaluate_with_background(MaskedClassifier(make_vit(), 2, masking="late", **names), table)[1]
    assert late is not None
    assert late.probe is not None
    assert late.probe.is_strong
    plain = evaluate_with_background(PlainClassifier(make_vit(), 2, **names), table)[1]
    assert plain is not None
    assert plain.reason == "the model has no mask, which would say what background is"
    assert evaluate_with_background(PlainClassifier(make_vit(), 2, **names), table, check_background=False)[1] is None


def test_as_many_of_each_class_are_drawn() -> None:
    counts = {0: 900, 1: 300, 2: 9, 3: 40}
    samples = [Sample(path=Path(), name="", label=label) for label, count in counts.items() for _ in range(count)]
    rows = drawn(samples)
    labels = [samples[row].label for row in rows]
    assert {label: labels.count(label) for label in set(labels)} == {0: MOST_IMAGES // 3, 1: MOST_IMAGES // 3, 3: 40}
    assert rows == drawn(samples)
    assert drawn(samples[:900]) == set()
    many = [Sample(path=Path(), name="", label=label) for label in range(30) for _ in range(60)]
    assert len({many[row].label for row in drawn(many)}) == 10


def test_several_processes_see_their_own_and_come_to_the_same(model: IFAM, tmp_path: Path) -> None:
    table = write_squares(tmp_path, lambda label, number: label)
    observers = [BackgroundObserver(model, table.samples) for _ in range(3)]
    from ifam.evaluate import evaluate

    def every_third(batch: Any, output: Any, values: Any) -> None:
        observers[0](batch, output, values)
        observers[1 + int(batch.indices[0]) % 2](batch, output, values)

    evaluate(model, table, batch_size=1, observe=every_third)
    alone = observers[0].background("test")
    shared = observers[0].background("test", [observers[1].records, observers[2].records])
    assert shared == alone


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    table = write_squares(tmp_path / "data", lambda label, number: label)
    model = make_model(num_parts=1, num_classes=2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)
    with torch.no_grad():  # one prototype for what is in the middle, one for the rest
        tokens, middle = model.discover(images_of(table)).tokens, torch.zeros(4, 4, dtype=torch.bool)
        middle[1:3, 1:3] = True
        model.prototypes.copy_(torch.stack([tokens[:, where].mean((0, 1)) for where in (middle, ~middle)]))
    save(model, tmp_path / "run")
    return tmp_path


def test_evaluate_warns_and_can_be_told_not_to(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "run", "data/table.csv", "--device", "cpu", "--json", "x.json"]
    assert main(arguments) == 0
    assert "The background alone tells the class in " in capsys.readouterr().out
    found = json.loads(Path("x.json").read_text())
    assert found["background"]["probe"]["balanced_accuracy"] > 0.9
    assert found["verdict"][-1]["heading"] == "Background alone"
    assert main([*arguments, "--no-background-check"]) == 0
    assert "background alone" not in capsys.readouterr().out
    assert json.loads(Path("x.json").read_text())["background"] is None
