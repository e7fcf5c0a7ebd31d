"""Every data set of the paper in its published layout: understood, trained on, evaluated, intervened on."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    CRANE,
    CRANE_BIRD,
    FISH,
    NINE,
    SPECIES,
    draw,
    write_cub,
    write_imagenet,
    write_imagenet9,
    write_metashift,
    write_siim,
    write_waterbirds,
)

from ifam.cli import main

TINY = ["--epochs", "1", "--backbone", "test_vit", "--set", "model.pretrained=false", "--image-size", "48",
        "--batch-size", "8", "--device", "cpu", "--workers", "0"]  # fmt: skip
ON_CPU = ["--device", "cpu"]
EVERYWHERE = tuple((place, split) for split in (0, 1, 2) for place in (0, 1))

Counts = Mapping[str, int]


def cub(root: Path) -> Path:
    return write_cub(root / "CUB_200_2011", [f"{species}/{i}.jpg" for species in SPECIES for i in range(4)])


def waterbirds(root: Path) -> Path:
    return write_waterbirds(root / "waterbird_complete95_forest2water2", EVERYWHERE)


def waterbird200(root: Path) -> Path:
    return write_waterbirds(root / "waterbird200", EVERYWHERE, numbered=True)


def siim_acr(root: Path) -> Path:
    """Four images of each disease × tube: two of them for training, one each for validation and test."""
    numbers = range(1, 17)
    codes = [f"1.{n}, {'0 2' if n % 2 else '-1'}" for n in numbers]
    write_siim(root, "\n".join(["ImageId, EncodedPixels", *codes]), count=len(numbers))
    (root / "tubes.csv").write_text("\n".join(["image_id,tube", *(f"1.{n},{n // 2 % 2}" for n in numbers)]))
    for split, (first, last) in {"train": (1, 8), "val": (9, 12), "test": (13, 16)}.items():
        (root / f"{split}.csv").write_text("\n".join(["image_id", *(f"1.{n}" for n in range(first, last + 1))]))
    return root


def imagenet(root: Path) -> Path:
    write_imagenet(root, per_class=4)
    (root / "LOC_synset_mapping.txt").write_text(
        f"{FISH} tench, Tinca tinca\n{CRANE_BIRD} crane\n{CRANE} crane\n",
    )
    return root


def imagenet9(root: Path) -> Path:
    """The training data of the authors."""
    write_imagenet9(root)
    for name in NINE:
        for i in range(3):
            draw(root / "original/train" / name / f"{i}.JPEG", color=(10 * i, 9 * NINE.index(name), 200))
    return root / "original"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a miniature holds, split by split; the test numbers are those of the evaluation."""

    write: Callable[[Path], Path]
    recipe: str
    layout: str
    images: int
    classes: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    annotations: str = "0 masks, 0 images with keypoints, 0 boxes"
    split: str = "test"
    evaluated: int
    evaluated_groups: Counts = field(default_factory=dict)
    validated: int
    """images that interventions are chosen on; with a split ``test`` only"""


TWO_EACH = "001.Black_footed_Albatross 2, 002.Crow 2, 003.Western_Meadowlark 2, 004.Pacific_Loon 2"
BY_TYPE = "landbird/land 1, landbird/water 1, waterbird/land 3, waterbird/water 3"
BY_NUMBER = "0/0 1, 0/1 1, 1/0 3, 1/1 3"
BY_TUBE = "no pneumothorax/no tube {0}, no pneumothorax/tube {0}, pneumothorax/no tube {0}, pneumothorax/tube {0}"
SPLITS = ("train", "val", "test")
DATA = {
    "cub": Published(
        write=cub,
        recipe="cub",
        layout="CUB-200-2011",
        images=16,
        classes={"train": TWO_EACH, "test": TWO_EACH},
        annotations="16 masks, 16 images with keypoints, 16 boxes",
        evaluated=8,
        validated=4,
    ),
    "waterbirds": Published(
        write=waterbirds,
        recipe="waterbirds",
        layout="metadata.csv",
        images=24,
        classes=dict.fromkeys(SPLITS, "0 2, 1 6"),
        groups=dict.fromkeys(SPLITS, BY_NUMBER),
        evaluated=8,
        evaluated_groups={"0/0": 1, "0/1": 1, "1/0": 3, "1/1": 3},
        validated=8,
    ),
    "waterbird200": Published(
        write=waterbird200,
        recipe="cub",
        layout="Waterbird200",
        images=24,
        classes=dict.fromkeys(SPLITS, TWO_EACH),
        groups=dict.fromkeys(SPLITS, BY_TYPE),
        evaluated=8,
        evaluated_groups={"landbird/land": 1, "landbird/water": 1, "waterbird/land": 3, "waterbird/water": 3},
        validated=8,
    ),
    "metashift": Published(
        write=write_metashift,
        recipe="metashift",
        layout="MetaShift",
        images=14,
        classes={"train": "cat 5, dog 6", "test": "cat 2, dog 1"},
        groups={
            "train": "cat/cat(bed) 2, cat/cat(shelf) 0, cat/cat(sofa) 3, dog/dog(bench) 2, dog/dog(bike) 4, "
            "dog/dog(shelf) 0"
        },
        evaluated=3,
        evaluated_groups={"cat/cat(shelf)": 2, "dog/dog(shelf)": 1},
        validated=4,
    ),
    "siim_acr": Published(
        write=siim_acr,
        recipe="siim_acr",
        layout="SIIM-ACR pneumothorax",
        images=16,
        classes={
            "train": "no pneumothorax 4, pneumothorax 4",
            "val": "no pneumothorax 2, pneumothorax 2",
            "test": "no pneumothorax 2, pneumothorax 2",
        },
        groups={"train": BY_TUBE.format(2), "val": BY_TUBE.format(1), "test": BY_TUBE.format(1)},
        annotations="16 masks, 0 images with keypoints, 0 boxes",
        evaluated=4,
        evaluated_groups={
            "no pneumothorax/no tube": 1,
            "no pneumothorax/tube": 1,
            "pneumothorax/no tube": 1,
            "pneumothorax/tube": 1,
        },
        validated=4,
    ),
    "imagenet": Published(
        write=imagenet,
        recipe="imagenet",
        layout="ImageNet-1K",
        images=15,
        classes={
            "train": f"tench 4, crane ({CRANE_BIRD}) 4, crane ({CRANE}) 4",
            "val": f"tench 1, crane ({CRANE_BIRD}) 1, crane ({CRANE}) 1",
        },
        split="val",
        evaluated=3,
        validated=3,
    ),
    "imagenet9": Published(
        write=imagenet9,
        recipe="imagenet",
        layout="ImageNet-9",
        images=45,
        classes={split: ", ".join(f"{name} {count}" for name in NINE) for split, count in (("train", 3), ("val", 2))},
        split="val",
        evaluated=18,
        validated=18,
    ),
}


def train(data: Path, run: Path, recipe: str) -> Path:
    assert main(["train", str(data), "--out", str(run), "--recipe", recipe, *TINY]) == 0
    return run


def numbers(command: str, run: Path, data: Path, *more: str) -> dict[str, Any]:
    out = run / f"{command}.json"
    assert main([command, str(run), str(data), "--json", str(out), *ON_CPU, *more]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def present(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    return {name: group["count"] for name, group in groups.items() if group["count"]}


@pytest.mark.parametrize("name", DATA)
def test_from_the_published_layout_to_interventions(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = DATA[name]
    data = case.write(tmp_path / "data")
    assert main(["doctor", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{data}: {case.images} images ({case.layout})" in lines
    assert f"annotations: {case.annotations}" in lines
    assert f"checked: {case.images} images, 0 unreadable, 0 in two splits" in lines
    for what, by_split in (("classes", case.classes), ("groups", case.groups)):
        assert [line for line in lines if line.startswith(f"{what} (")][: len(by_split)] == [
            f"{what} ({split}): {counts}" for split, counts in by_split.items()
        ]

    run = train(data, tmp_path / "run", case.recipe)
    score = numbers("evaluate", run, data, "--split", case.split)
    assert (score["num_samples"], score["split"]) == (case.evaluated, case.split)
    assert present(score["groups"]) == case.evaluated_groups
    assert (score["foreground_iou"] is not None) == case.annotations.startswith("16 masks")
    if case.split == "test":
        study = numbers("intervene", run, data)
        assert {trial["num_samples"] for trial in study["trials"]} == {case.validated}
        assert study["test_before"]["num_samples"] == study["test_after"]["num_samples"] == case.evaluated
    else:  # the published validation images cannot both choose and report
        capsys.readouterr()
        assert main(["intervene", str(run), str(data), *ON_CPU]) == 1
        assert "expected a test split, got train, val" in one_line(capsys)


def test_a_model_of_cub_meets_other_backgrounds(tmp_path: Path) -> None:
    run = train(cub(tmp_path), tmp_path / "run", "cub")
    score = numbers("evaluate", run, waterbird200(tmp_path))
    assert score["num_samples"] == 8
    assert present(score["groups"]) == DATA["waterbird200"].evaluated_groups


def test_a_model_meets_another_variant_of_imagenet9(tmp_path: Path) -> None:
    data = imagenet9(tmp_path)
    run = train(data, tmp_path / "run", "imagenet")
    score = numbers("evaluate", run, data.parent / "mixed_rand")
    assert (score["num_samples"], score["split"]) == (9, "test")


def test_a_test_set_of_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_metashift(tmp_path / "data")
    run = train(data, tmp_path / "run", "metashift")
    dogs = tmp_path / "dogs"
    shutil.copytree(data / "test/dog", dogs / "dog")
    for command in ("evaluate", "intervene"):
        found = numbers(command, run, dogs)
        if command == "evaluate":
            assert found["auc"] is None
            assert present(found["groups"]) == {"dog/dog(shelf)": 1}
        else:
            assert found["test_after"]["num_samples"] == 1
    capsys.readouterr()
    assert main(["doctor", str(dogs)]) == 0
    assert "one class alone, dog" in capsys.readouterr().out
    assert main(["train", str(dogs), "--out", str(tmp_path / "new"), *TINY]) == 1
    assert "at least two classes, got dog" in one_line(capsys)


def test_too_few_images_to_hold_any_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        draw(tmp_path / "data" / name / "1.png", color=(ord(name), 0, 0))
    assert main(["train", str(tmp_path / "data"), "--out", str(tmp_path / "new"), *TINY]) == 1
    assert "two images of at least one class" in one_line(capsys)


@pytest.mark.parametrize(
    ("name", "removed", "said"),
    [
        ("cub", ["image_class_labels.txt"], "no image_class_labels.txt; images.txt, image_class_labels.txt"),
        ("cub", ["classes.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "parts"],
         "images/<class>/<name>.jpg"),
        ("waterbirds", ["metadata.csv"], "metadata.csv with img_id, img_filename, y, split and perhaps place"),
        ("metashift", ["train/cat/cat(sofa)", "train/cat/cat(bed)"], "train/cat/cat(sofa)/….jpg, train/dog/"),
        ("siim_acr", ["train-rle.csv"], "train-rle.csv with ImageId, EncodedPixels or masks/<ImageId>.png"),
        ("imagenet", ["train/n01440764/*.JPEG"], "train/n01440764/….JPEG, val/n01440764/….JPEG"),
        ("imagenet9", ["val/08_fish/*.JPEG"], "<variant>/val/00_dog/….JPEG"),
    ],
)  # fmt: skip
def test_a_layout_that_lacks_a_piece(
    name: str, removed: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DATA[name].write(tmp_path / "data")
    for pattern in removed:
        paths = list(data.glob(pattern))
        assert paths
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for command in (["doctor", str(data)], ["train", str(data), "--out", str(tmp_path / "new"), *TINY]):
        assert main(command) == 1
        line = one_line(capsys)
        assert str(data) in line
        assert all(word in line for word in said.split("; ")), line
    assert not (tmp_path / "new").exists()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What came on standard error."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error
