"""Every benchmark's own score on a miniature of its data, beside the numbers of `evaluate`."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import write_image
from layouts import SPECIES, write_cub, write_imagenet9, write_waterbirds

from ifam.benchmarks.scores import Source, score_cub, score_imagenet9, score_scenes, score_test
from ifam.data.imagenet9 import CLASSES
from ifam.data.read import read_table
from ifam.data.waterbirds import waterbird200
from ifam.evaluate import evaluate
from ifam.interventions import Intervention
from ifam.model.classifier import PlainClassifier
from ifam.scenes.dataset import ScenesConfig, variant_folder, write_scenes

NONE = Intervention()
SLOWLY: Mapping[str, Any] = {"precision": "32-true"}


def classifier(names: tuple[str, ...]) -> PlainClassifier:
    return PlainClassifier("test_vit", len(names), pretrained=False, class_names=list(names), image_size=48).eval()


def test_cub_and_the_same_birds_before_other_backgrounds(tmp_path: Path) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", [f"{species}/{i}.jpg" for species in SPECIES for i in range(4)])
    shutil.rmtree(tmp_path / "segmentations")  # of photographs of another size than the miniature's shifted ones
    shifted = write_waterbirds(root / "waterbird_complete95_forest2water2", ((0, 0), (1, 1), (0, 2), (1, 2)))
    model = classifier(read_table(root).class_names)
    found = score_cub(model, Source(data=root), NONE, SLOWLY)
    assert found["accuracy"] == evaluate(model, read_table(root)).accuracy
    assert found["waterbird200_accuracy"] == evaluate(model, waterbird200(shifted)).accuracy
    assert found["waterbird200_num_samples"] == len(waterbird200(shifted).select("test"))
    assert found["num_samples"] == len(read_table(root).select("test"))


def test_the_keypoints_before_other_backgrounds_are_regressed_on_cub(tmp_path: Path, make_model: Any) -> None:
    """The published way: had it been fitted on the shifted images, moving those would have changed nothing."""
    root = write_cub(tmp_path / "CUB_200_2011", [f"{species}/{i}.jpg" for species in SPECIES for i in range(4)])
    shutil.rmtree(tmp_path / "segmentations")
    write_waterbirds(root / "waterbird_complete95_forest2water2", ((0, 0), (1, 0), (0, 2), (1, 2)))
    model = make_model(num_classes=len(SPECIES), image_size=32)
    model.class_names = list(read_table(root).class_names)
    found = score_cub(model, Source(data=root), NONE, SLOWLY)
    assert found["keypoint_error_published"] is not None
    shifted = waterbird200(root / "waterbird_complete95_forest2water2")
    on_cub = [*read_table(root).select("train").samples, *shifted.select("test").samples]
    expected = evaluate(model, replace(shifted, samples=tuple(replace(s, group=None) for s in on_cub)))
    assert found["waterbird200_keypoint_error_published"] == expected.keypoint_error_published
    assert found["waterbird200_keypoint_error_published"] != evaluate(model, shifted).keypoint_error_published


def test_imagenet9_with_its_variants_and_the_challenge(tmp_path: Path) -> None:
    write_imagenet9(tmp_path / "in9", {"mixed_same": 1, "mixed_rand": 2})
    for name in CLASSES:
        for kind, image in (("original", f"{name}/a"), ("only_bg_t", f"{name}/b")):
            write_image(tmp_path / f"in9/{kind}/val/{image}.png", np.full((48, 48, 3), 99))
            (tmp_path / f"in9/{kind}/val/{image}.png").rename(tmp_path / f"in9/{kind}/val/{image}.JPEG")
        (tmp_path / f"in9/fg_mask/val/{name}").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"in9/fg_mask/val/{name}/a.npy", np.ones((48, 48), dtype=bool))
    model = classifier(CLASSES)
    source = Source(data=tmp_path / "in9/original", imagenet9=tmp_path / "in9")
    found = score_imagenet9(model, source, NONE, SLOWLY)
    assert found["imagenet_accuracy"] == found["original_accuracy"]
    assert found["bg_gap"] == pytest.approx(found["mixed_same_accuracy"] - found["mixed_rand_accuracy"])
    # every foreground covers its image, so that the challenge's accuracy is that on one and the same grey image
    assert (found["challenge_accuracy"], found["challenge_foregrounds"]) == (pytest.approx(1 / 9), 9)


def test_scenes_with_their_variants(tmp_path: Path) -> None:
    config = ScenesConfig(seed=3, train=8, val=4, test=8)
    root = write_scenes(tmp_path / "scenes", config)
    model = classifier(read_table(root).class_names)
    found = score_scenes(model, Source(data=root), NONE, SLOWLY)
    for variant in ("mixed_same", "mixed_rand"):
        table = read_table(variant_folder(root, variant)).select("test")
        assert found[f"{variant}_accuracy"] == evaluate(model, table).accuracy
    assert found["accuracy"] == score_test(model, Source(data=root), NONE, SLOWLY)["accuracy"]
