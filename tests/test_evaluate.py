import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import write_image
from torch import Tensor

from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.output import Output, Prediction
from ifam.preprocessing import Preprocessing

AS_IT_IS = Preprocessing(image_size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
RED, GREEN = (200, 0, 0), (0, 100, 0)
TRAINING_SIZES = {"cat/indoors": 60, "cat/outdoors": 20, "dog/indoors": 10, "dog/outdoors": 10}
# correct and wrong test images of each group
OUTCOMES = {"cat/indoors": (3, 0), "cat/outdoors": (1, 1), "dog/indoors": (1, 3), "dog/outdoors": (2, 0)}
CONTRACT = {
    "num_samples", "accuracy", "average_accuracy", "worst_group_accuracy", "groups", "auc", "foreground_iou",
    "keypoint_error", "split", "interventions",
}  # fmt: skip


@pytest.fixture
def model(make_vit: Any) -> PlainClassifier:
    """Says dog with a logit of the red of an image minus its green."""
    model = PlainClassifier(make_vit(), 2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)

    def forward(images: Tensor) -> Prediction:
        margin = images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))
        return Prediction(logits=torch.stack([-margin, margin], dim=1))

    model.forward = forward  # type: ignore[method-assign]
    model.training_group_sizes = dict(TRAINING_SIZES)
    return model


def write_outcomes(root: Path, outcomes: Mapping[str, tuple[int, int]] = OUTCOMES) -> ImageTable:
    """Class folders with groups below, images red where the model is to say dog."""
    for group, (correct, wrong) in outcomes.items():
        right, other = (RED, GREEN) if group.startswith("dog") else (GREEN, RED)
        for number in range(correct + wrong):
            color = right if number < correct else other
            write_image(root / f"{group}/{number}.png", np.full((32, 32, 3), color))
    return read_table(root)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_the_numbers_by_hand(model: PlainClassifier, tmp_path: Path, batch_size: int) -> None:
    progress: list[tuple[int, int]] = []
    report = progress.append
    result = evaluate(model, write_outcomes(tmp_path), batch_size=batch_size, progress=lambda *counts: report(counts))
    assert result.num_samples == 11
    assert progress[-1] == (11, 11)
    assert result.accuracy == pytest.approx(7 / 11)
    assert result.average_accuracy == pytest.approx((60 * 1 + 20 * 0.5 + 10 * 0.25 + 10 * 1) / 100)
    assert result.worst_group_accuracy == 0.25
    assert {name: (group.accuracy, group.count) for name, group in result.groups.items()} == {
        "cat/indoors": (1, 3), "cat/outdoors": (0.5, 2), "dog/indoors": (0.25, 4), "dog/outdoors": (1, 2),
    }  # fmt: skip
    # 6 dogs against 5 cats: 3 red dogs beat 4 green cats, and tie one red; 3 green dogs tie 4 and lose to one
    assert result.auc == pytest.approx((3 * (4 + 0.5) + 3 * 4 * 0.5) / 30)
    assert (result.mean_kept, result.foreground_iou, result.keypoint_error) == (None, None, None)


def test_json(model: PlainClassifier, tmp_path: Path) -> None:
    values = json.loads(json.dumps(evaluate(model, write_outcomes(tmp_path)).to_dict()))
    assert values.keys() >= CONTRACT
    assert values["groups"]["dog/indoors"] == {"accuracy": 0.25, "count": 4}
    assert (values["split"], values["interventions"]) == ("test", {})


def test_a_group_without_images_does_not_count(model: PlainClassifier, tmp_path: Path) -> None:
    result = evaluate(model, write_outcomes(tmp_path, {"cat/outdoors": (1, 1), "dog/indoors": (1, 3)}))
    assert list(result.groups) == list(TRAINING_SIZES)
    assert result.groups["cat/indoors"].accuracy is None
    assert result.worst_group_accuracy == 0.25
    assert result.average_accuracy == pytest.approx((20 * 0.5 + 10 * 0.25) / 30)


def test_a_group_that_training_did_not_have(model: PlainClassifier, tmp_path: Path) -> None:
    result = evaluate(model, write_outcomes(tmp_path, {"cat/indoors": (1, 0), "dog/at sea": (1, 2)}))
    assert result.worst_group_accuracy == pytest.approx(1 / 3)
    assert result.average_accuracy == 1  # its training size is 0


def test_without_groups(model: PlainClassifier, tmp_path: Path) -> None:
    model.training_group_sizes = {}
    table = write_outcomes(tmp_path, {"cat": (3, 1), "dog": (1, 0)})
    result = evaluate(model, table)
    assert (result.accuracy, result.average_accuracy, result.worst_group_accuracy) == (0.8, None, None)
    assert result.groups == {}


def test_classes_are_matched_by_name(model: PlainClassifier, tmp_path: Path, refuses_line: Any) -> None:
    table = write_outcomes(tmp_path / "both")
    turned = replace(
        table,
        class_names=("dog", "cat"),
        samples=tuple(replace(sample, label=1 - sample.label) for sample in table.samples),
    )
    assert evaluate(model, turned) == evaluate(model, table)
    dogs = replace(table, samples=tuple(sample for sample in table.samples if sample.label == 1))
    result = evaluate(model, dogs)
    assert (result.accuracy, result.num_samples, result.auc) == (0.5, 6, None)
    with refuses_line("bird", "cat, dog", error=DataError):
        evaluate(model, write_outcomes(tmp_path / "birds", {"bird": (1, 0), "cat": (1, 0)}))


def test_more_than_two_classes_have_no_auc(make_vit: Any, tmp_path: Path) -> None:
    model = PlainClassifier(make_vit(), 3, class_names=["cat", "dog", "eel"], preprocessing=AS_IT_IS)
    assert evaluate(model, write_outcomes(tmp_path)).auc is None


def test_unreadable_images(model: PlainClassifier, tmp_path: Path, refuses_line: Any) -> None:
    table = write_outcomes(tmp_path)
    damaged = tmp_path / "cat/indoors/1.png"
    damaged.write_bytes(b"not an image")
    with refuses_line(damaged, "--skip-unreadable", error=DataError):
        evaluate(model, table, batch_size=4)
    progress: list[int] = []
    result = evaluate(
        model, table, batch_size=4, skip_unreadable=True, progress=lambda done, total: progress.append(done)
    )
    assert (result.num_samples, progress[-1]) == (10, 11)
    assert len(result.unreadable) == 1
    assert str(damaged) in result.unreadable[0]
    for sample in table.samples:
        sample.path.write_bytes(b"")
    with refuses_line("at least one image that can be read", error=DataError):
        evaluate(model, table, skip_unreadable=True)


def test_what_a_plain_model_cannot_do(model: PlainClassifier, tmp_path: Path) -> None:
    table = write_outcomes(tmp_path)
    for options in ({"remove_parts": [0]}, {"token_quantile": 0.9}):
        with pytest.raises(UsageError, match="second stage"):
            evaluate(model, table, **options)  # type: ignore[arg-type]


def test_interventions_reach_the_model_and_the_report(make_model: Any, tmp_path: Path) -> None:
    model: IFAM = make_model(num_classes=2, class_names=["cat", "dog"])
    model.token_thresholds = {0.9: [0.0, 0.0, 0.0]}
    table = write_outcomes(tmp_path)
    plain = evaluate(model, table)
    assert plain.interventions == {"remove_parts": [], "token_quantile": None}
    assert plain.mean_kept is not None
    assert plain.mean_kept > 0
    for options in ({"remove_parts": [0, 1, 2]}, {"token_quantile": 0.9}):
        result = evaluate(model, table, **options)  # type: ignore[arg-type]
        assert result.interventions == {"remove_parts": [], "token_quantile": None} | options
        assert (result.mean_kept, result.no_evidence) == (0, 11)
    with pytest.raises(UsageError, match="0 to 2"):
        evaluate(model, table, remove_parts=[3])
    with pytest.raises(UsageError, match=r"stored: 0\.9"):
        evaluate(model, table, token_quantile=0.5)


def test_the_foreground_shrinks_with_the_parts(make_model: Any, tmp_path: Path) -> None:
    model: IFAM = make_model(num_classes=2, class_names=["cat", "dog"])
    table = write_outcomes(tmp_path)
    mask = write_image(tmp_path / "mask.png", np.full((32, 32), 255))
    table = replace(table, samples=tuple(replace(sample, mask=mask) for sample in table.samples))
    whole, none = evaluate(model, table), evaluate(model, table, remove_parts=[0, 1, 2])
    assert whole.foreground_iou is not None
    assert whole.foreground_iou > 0
    assert (none.foreground_iou, none.foreground_iou_per_image) == (0, 0)


@pytest.fixture
def spot_model(make_model: Any) -> IFAM:
    """One part, where the image is red; the rest is background."""
    model: IFAM = make_model(num_parts=1, num_classes=2, class_names=["cat", "dog"], preprocessing=AS_IT_IS)

    def forward(images: Tensor, **interventions: Any) -> Output:
        red = torch.nn.functional.avg_pool2d(images[:, :1], 8) > 0.5
        maps = torch.cat([red, ~red], dim=1).float()
        zeros = torch.zeros(len(images), 2, 1)
        return Output(
            logits=zeros[..., 0], stage1_logits=zeros[..., 0], stage1_part_logits=zeros, part_logits=maps,
            part_maps=maps, part_features=zeros, parts=maps.argmax(1), mask=red[:, 0],
            kept=red[:, 0].float().flatten(1).mean(1),
        )  # fmt: skip

    model.forward = forward  # type: ignore[method-assign]
    return model


def write_spots(root: Path, offset: Callable[[str], float]) -> Path:
    """A red token in a black image of 32 × 32; the keypoint is its centre, moved by ``offset`` of the split."""
    rows, points = ["img_id,img_filename,y,split,place"], ["img_id,part,x,y"]
    for number in range(16):
        row, column = number // 4, number % 4
        for code, split in enumerate(("train", "val", "test")):
            image, mask = np.zeros((32, 32, 3)), np.zeros((32, 32))
            image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = RED
            mask[image[..., 0] > 0] = 255
            write_image(root / f"{split}{number}.png", image)
            write_image(root / f"masks/{split}{number}.png", mask)
            rows.append(f"{split}{number},{split}{number}.png,{number % 2},{code},0")
            x, y = 8 * column + 4 + offset(split), 8 * row + 4
            if number != 5:  # one image without a visible point
                points.append(f"{split}{number},eye,{x},{y}")
    (root / "metadata.csv").write_text("\n".join(rows))
    (root / "keypoints.csv").write_text("\n".join(points))
    return root


def upsampled_iou() -> float:
    """Pooled over the 16 places of one token of 8 × 8 pixels, whose map falls off linearly to the next tokens."""
    position, centres = np.arange(32), 8 * np.arange(4)[:, None] + 3.5
    tents = np.clip(1 - np.abs(position.clip(3.5, 27.5) - centres) / 8, 0, 1)
    squares = position // 8 == np.arange(4)[:, None]
    seen = np.einsum("ix,jy->ijxy", tents, tents) > 0.5
    drawn = np.einsum("ix,jy->ijxy", squares, squares)
    return float((seen & drawn).sum() / (seen | drawn).sum())


@pytest.mark.parametrize("shift", [0.0, 1.6, -1.6])
def test_keypoints_that_a_line_predicts(spot_model: IFAM, tmp_path: Path, shift: float) -> None:
    table = read_table(write_spots(tmp_path, lambda split: shift if split == "test" else 0))
    table = replace(table, class_names=("cat", "dog"))
    result = evaluate(spot_model, table, batch_size=5)
    assert result.keypoint_error == pytest.approx(abs(shift) / 32, abs=1e-6)
    assert result.keypoint_count == 15
    assert (result.num_samples, result.mean_kept) == (16, pytest.approx(1 / 16))
    assert result.foreground_iou == pytest.approx(upsampled_iou())
    unseen = replace(table, samples=tuple(replace(s, keypoints={}) if s.split == "train" else s for s in table.samples))
    assert evaluate(spot_model, unseen).keypoint_error is None
    alone = evaluate(spot_model, table.select("test"))
    assert (alone.keypoint_error, alone.accuracy) == (None, result.accuracy)
