import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from generated import write_image, write_scenes
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import binom
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    log_loss,
    normalized_mutual_info_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ifam.config import NO_SCORES, SelectBy
from ifam.console import print_evaluation
from ifam.data.batch import Batch
from ifam.data.dataset import ImageDataset
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.transforms import test_transform as view_of
from ifam.errors import CheckpointError, DataError, UsageError
from ifam.evaluate import evaluate
from ifam.model.classifier import PlainClassifier
from ifam.model.mask import maps_after_removal
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM
from ifam.output import Output, Prediction
from ifam.preprocessing import Preprocessing
from ifam.score import GroupPair, Score, record

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


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers(model: PlainClassifier, tmp_path: Path, value: float, refuses_line: Any) -> None:
    answer = model.forward

    def lose(images: Tensor) -> Prediction:
        logits = answer(images).logits
        logits[0, 1] = value
        return Prediction(logits=logits)

    model.forward = lose  # type: ignore[method-assign]
    table = write_outcomes(tmp_path)
    result = evaluate(model, table, batch_size=11)
    assert (result.not_finite, result.auc, result.calibration_error) == (1, None, None)
    assert result.accuracy == pytest.approx(6 / 11)  # without the first cat, which was right
    halves = tuple(
        replace(sample, split="val" if number % 2 else "test") for number, sample in enumerate(table.samples)
    )
    with refuses_line("finite scores", "--precision 32-true", error=CheckpointError):
        evaluate(model, replace(table, samples=halves), temperature_split="val")


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
        with pytest.raises(UsageError, match="a model with parts"):
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
            kept=red[:, 0].float().flatten(1).mean(1), pixels=images[:, 0] > 0.5,
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
    # without boxes both protocols regress places in the image, here along straight lines
    assert result.keypoint_error_published == pytest.approx(abs(shift) / 32, abs=1e-6)
    assert (result.num_samples, result.mean_kept) == (16, pytest.approx(1 / 16))
    assert result.foreground_iou == pytest.approx(upsampled_iou())
    unseen = replace(table, samples=tuple(replace(s, keypoints={}) if s.split == "train" else s for s in table.samples))
    assert evaluate(spot_model, unseen).keypoint_error is None
    alone = evaluate(spot_model, table.select("test"))
    assert (alone.keypoint_error, alone.accuracy) == (None, result.accuracy)


COLOURS = tuple((40 * number, 200 - 30 * number, 90) for number in range(7))


@pytest.fixture
def seven(make_vit: Any) -> PlainClassifier:
    """Seven classes, scored by how near the mean colour is to that of the class; too sure of itself."""
    names = [f"class{number}" for number in range(7)]
    model = PlainClassifier(make_vit(), 7, class_names=names, preprocessing=AS_IT_IS)
    centres = torch.tensor(COLOURS) / 255

    def forward(images: Tensor) -> Prediction:
        return Prediction(logits=-60 * (images.mean((2, 3))[:, None] - centres).square().sum(-1))

    model.forward = forward  # type: ignore[method-assign]
    return model


def write_colours(root: Path, per_class: int = 9) -> ImageTable:
    """Seven classes of noisy colours with groups, in a validation and a test split."""
    random = np.random.default_rng(0)
    for split in ("val", "test"):
        for number, colour in enumerate(COLOURS):
            for i in range(per_class):
                pixels = np.clip(np.full((32, 32, 3), colour) + random.normal(0, 70, 3), 0, 255)
                write_image(root / f"{split}/class{number}/{'in' if i % 2 else 'out'}/{i}.png", pixels)
    return read_table(root)


def raw_logits(model: Any, table: ImageTable, split: str) -> tuple[Any, Any]:
    """Logits and labels as arrays, without any of the code under test."""
    samples = table.select(split).samples
    images = np.stack([np.asarray(Image.open(sample.path)) for sample in samples])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return model(pixels).logits.numpy(), np.array([sample.label for sample in samples])


def test_the_json_agrees_with_scikit_learn_on_raw_logits(seven: PlainClassifier, tmp_path: Path) -> None:
    table = write_colours(tmp_path)
    found = json.loads(json.dumps(evaluate(seven, table, temperature_split="val", batch_size=10).to_dict()))
    logits, labels = raw_logits(seven, table, "test")
    hits = logits.argmax(1) == labels
    assert 0.2 < hits.mean() < 0.9
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert found["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(7)))
    assert found["top5_accuracy"] > found["accuracy"]
    groups = np.array([table.group_names[sample.group or 0] for sample in table.select("test").samples])
    for name, group in found["groups"].items():
        assert group == {"accuracy": pytest.approx(hits[groups == name].mean()), "count": int((groups == name).sum())}
    assert found["worst_group_accuracy"] == pytest.approx(min(hits[groups == name].mean() for name in set(groups)))
    assert found["calibration_error"] == pytest.approx(torchmetrics_error(logits, labels), abs=1e-6)

    val_logits, val_labels = raw_logits(seven, table, "val")

    def loss(log_temperature: float) -> float:
        return float(log_loss(val_labels, softmax(val_logits.astype(float) / np.exp(log_temperature), axis=1)))

    best = np.exp(minimize_scalar(loss, bracket=(-1, 2), tol=1e-10).x)
    assert found["temperature"] == pytest.approx(best, rel=1e-4)
    assert found["temperature_split"] == "val"
    assert found["calibration_error_scaled"] == pytest.approx(torchmetrics_error(logits / best, labels), abs=1e-4)
    assert found["calibration_error_scaled"] < found["calibration_error"]
    assert (found["auc"], found["worst_group_auc"], found["worst_group_auc_between"]) == (None, None, None)
    for number in ("accuracy", "worst_group_accuracy"):
        interval = found[f"{number}_interval"]
        assert interval["estimate"] == found[number]
        assert interval["low"] <= found[number] <= interval["high"]
    # A binomial of 63 images has these quantiles up to the noise of 1000 resamples.
    low, high = binom.ppf([0.025, 0.975], len(hits), hits.mean()) / len(hits)
    assert found["accuracy_interval"]["low"] == pytest.approx(low, abs=1.01 / 63)
    assert found["accuracy_interval"]["high"] == pytest.approx(high, abs=1.01 / 63)


def torchmetrics_error(logits: Any, labels: Any) -> float:
    probabilities = torch.from_numpy(softmax(logits, axis=1))
    return float(
        multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=7, n_bins=15, norm="l1")
    )


def test_the_temperature_changes_nothing_else(seven: PlainClassifier, tmp_path: Path) -> None:
    table = write_colours(tmp_path, per_class=3)
    asked, plain = evaluate(seven, table, temperature_split="val"), evaluate(seven, table)
    own = {"temperature_split", "temperature", "calibration_error_scaled"}
    assert {name for name, value in vars(asked).items() if value != getattr(plain, name)} == own
    assert {getattr(plain, name) for name in own} == {None}


def test_a_temperature_that_cannot_be(seven: PlainClassifier, tmp_path: Path, refuses_line: Any) -> None:
    table = write_colours(tmp_path / "split", per_class=1)
    with refuses_line("temperature split", "another than test"):
        evaluate(seven, table, temperature_split="test")
    with refuses_line("expected a train split", error=DataError):
        evaluate(seven, table, temperature_split="train")
    with refuses_line("'dev'"):
        evaluate(seven, table, temperature_split="dev")
    whole = replace(table, samples=tuple(replace(sample, split=None) for sample in table.samples))
    with refuses_line("val split for the temperature", error=DataError):
        evaluate(seven, whole, temperature_split="val")
    for sample in table.select("val").samples:
        sample.path.write_bytes(b"")
    with refuses_line("at least one image that can be read", error=DataError):
        evaluate(seven, table, temperature_split="val", skip_unreadable=True)


def test_a_temperature_of_a_model_that_is_given_masks(make_vit: Any, tmp_path: Path, refuses_line: Any) -> None:
    table = read_table(write_scenes(tmp_path))
    model = MaskedClassifier(
        make_vit(), 2, masking="early", class_names=list(table.class_names), preprocessing=AS_IT_IS
    )
    result = evaluate(model, table, split="val", temperature_split="train")
    assert result.temperature_split == "train"
    assert (result.temperature is None) == (result.calibration_error_scaled is None)
    unmasked = replace(table, samples=tuple(replace(s, mask=None) if s.split == "train" else s for s in table.samples))
    with refuses_line("annotated", "got none for 12", error=DataError):
        evaluate(model, unmasked, split="val", temperature_split="train")


def test_no_temperature_is_said(seven: PlainClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_colours(tmp_path, per_class=2)
    seven.forward = lambda images: Prediction(logits=torch.zeros(len(images), 7))  # type: ignore[method-assign]
    result = evaluate(seven, table, temperature_split="val")
    assert (result.temperature, result.calibration_error_scaled) == (None, None)
    print_evaluation(result)
    assert "no temperature fits val" in capsys.readouterr().out


def test_five_classes_have_no_top_5(make_vit: Any, tmp_path: Path) -> None:
    names = [f"class{number}" for number in range(5)]
    model = PlainClassifier(make_vit(), 5, class_names=names, preprocessing=AS_IT_IS)
    table = write_colours(tmp_path)
    samples = tuple(sample for sample in table.samples if sample.label < 5)
    assert evaluate(model, replace(table, class_names=tuple(names), samples=samples)).top5_accuracy is None


def test_the_worst_group_auc_agrees_with_scikit_learn(model: PlainClassifier, tmp_path: Path) -> None:
    """With ties, and a group that training had and the data has not."""
    model.training_group_sizes = {**TRAINING_SIZES, "dog/at sea": 5}
    table = write_outcomes(tmp_path)
    result = evaluate(model, table)
    logits, labels = raw_logits(model, table, "test")
    groups = np.array([table.group_names[sample.group or 0] for sample in table.samples])
    aucs = {}
    for i in set(groups[labels == 1]):
        for j in set(groups[labels == 0]):
            chosen = ((groups == i) & (labels == 1)) | ((groups == j) & (labels == 0))
            aucs[i, j] = roc_auc_score(labels[chosen], (logits[:, 1] - logits[:, 0])[chosen])
    worst = min(aucs, key=lambda pair: aucs[pair])
    assert result.auc == pytest.approx(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    assert result.worst_group_auc == pytest.approx(aucs[worst])
    assert result.worst_group_auc_between == GroupPair(
        positives=worst[0], negatives=worst[1], num_positives=4, num_negatives=2, comparisons=4
    )
    assert result.worst_group_accuracy_interval is not None
    assert result.worst_group_accuracy_interval.left_out == 0


def test_one_class_or_no_groups_have_no_worst_group_auc(model: PlainClassifier, tmp_path: Path) -> None:
    table = write_outcomes(tmp_path)
    dogs = replace(table, samples=tuple(sample for sample in table.samples if sample.label == 1))
    model.training_group_sizes = {}
    ungrouped = replace(table, group_names=(), samples=tuple(replace(sample, group=None) for sample in table.samples))
    for data, has_interval in ((dogs, True), (ungrouped, False)):
        result = evaluate(model, data)
        assert (result.worst_group_auc, result.worst_group_auc_between) == (None, None)
        assert (result.worst_group_accuracy_interval is not None) == has_interval
        assert result.accuracy_interval is not None


@pytest.mark.parametrize("remove", [False, True])
def test_parts_and_keypoints_agree_with_scikit_learn(remove: bool, make_model: Any, tmp_path: Path) -> None:
    model: IFAM = make_model(num_classes=2, class_names=["finch", "gull"], preprocessing=AS_IT_IS)
    table = read_table(write_scenes(tmp_path, {"test": 6}))
    random = np.random.default_rng(0)
    names = ("beak", "foot", "tail")
    samples = tuple(
        replace(sample, keypoints={name: tuple(random.uniform(0, 48, 2)) for name in names if random.random() < 0.7})
        for sample in table.samples
    )
    table = replace(table, keypoint_names=names, samples=samples)
    images = torch.stack([item.image for item in ImageDataset(table, view_of(AS_IT_IS))])
    present = model(images).parts.flatten().bincount(minlength=4)[:3]
    removed = [int(present.argmax())] if remove else []
    result = evaluate(model, table, remove_parts=removed, batch_size=5)
    assert not remove or result.part_nmi != evaluate(model, table).part_nmi
    parts, ids = [], []
    for image, sample in zip(images, samples, strict=True):
        output = model(image[None], remove_parts=removed)
        maps = maps_after_removal(output.part_maps, output.mask)
        winners = torch.nn.functional.interpolate(maps, size=(32, 32), mode="bilinear").argmax(1)[0]
        for number, name in enumerate(names):
            if name in (sample.keypoints or {}):
                x, y = (int(coordinate * 32 / 48) for coordinate in sample.keypoints[name])
                parts.append(int(winners[y, x]))
                ids.append(number)
    assert len(set(parts)) > 1
    assert result.part_nmi == pytest.approx(normalized_mutual_info_score(ids, parts), abs=1e-9)
    assert result.part_ari == pytest.approx(adjusted_rand_score(ids, parts), abs=1e-9)


def test_parts_are_compared_where_there_are_parts_and_keypoints(make_model: Any, make_vit: Any, tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path))
    plain = PlainClassifier(make_vit(), 2, class_names=["finch", "gull"], preprocessing=AS_IT_IS)
    model = make_model(num_classes=2, class_names=["finch", "gull"], preprocessing=AS_IT_IS)
    unseen = replace(table, samples=tuple(replace(sample, keypoints=None) for sample in table.samples))
    for result in (evaluate(plain, table), evaluate(model, unseen)):
        assert (result.part_nmi, result.part_ari) == (None, None)
    assert evaluate(model, table).part_nmi is not None


def test_a_record_holds_no_logits_unless_asked(seven: PlainClassifier) -> None:
    batch = Batch(
        images=torch.rand(4, 3, 32, 32), labels=torch.arange(4), groups=torch.zeros(4).long(), indices=torch.arange(4)
    )
    output = seven(batch.images)
    assert all(value.numel() == 4 for value in record(output, batch).values())
    kept = record(output, batch, keep_logits=True, temperature=2.0)
    assert kept.keys() - record(output, batch).keys() == {"logits", "confidence_scaled"}
    assert torch.equal(kept["logits"], output.logits)


def test_a_model_that_has_diverged_is_not_called_calibrated(seven: PlainClassifier, tmp_path: Path) -> None:
    table = write_colours(tmp_path, per_class=1)
    seven.forward = lambda images: Prediction(logits=torch.full((len(images), 7), torch.nan))  # type: ignore[method-assign]
    result = evaluate(seven, table)
    assert (result.calibration_error, result.top5_accuracy) == (None, 0)


def test_a_score_has_all_that_training_may_select_by() -> None:
    assert {*get_args(SelectBy)} - {"auto", *NO_SCORES} <= {field.name for field in fields(Score)}


@pytest.fixture
def imagenet_model(make_vit: Any) -> PlainClassifier:
    """A thousand classes: says class 10 where an image is red, 20 where it is green, and 30 where it is black."""
    model = PlainClassifier(make_vit(), 1000, preprocessing=AS_IT_IS)

    def forward(images: Tensor) -> Prediction:
        logits = torch.zeros(len(images), 1000)
        red, green, _ = images.mean((2, 3)).unbind(1)
        logits[:, 10], logits[:, 20], logits[:, 30] = red, green, 0.1
        return Prediction(logits=logits)

    model.forward = forward  # type: ignore[method-assign]
    return model


def test_a_class_map_scores_groups_of_classes(
    imagenet_model: PlainClassifier, tmp_path: Path, refuses_line: Any
) -> None:
    black = (0, 0, 0)
    for name, colours in {"01_bird": (RED, RED, black), "00_dog": (GREEN, RED, black), "08_fish": (black,)}.items():
        for number, colour in enumerate(colours):
            write_image(tmp_path / f"in9/val/{name}/{number}.png", np.full((32, 32, 3), colour))
    table = read_table(tmp_path / "in9")
    # 10 is a bird, 20 a dog, 30 belongs to none; 0 is a fish, but never the best.
    result = evaluate(imagenet_model, table, class_map={10: 1, 20: 0, 0: 8})
    assert (result.num_samples, result.accuracy) == (7, pytest.approx(3 / 7))
    assert result.accuracy_interval is not None
    assert (result.top5_accuracy, result.calibration_error, result.auc) == (None, None, None)
    assert evaluate(imagenet_model, table, class_map={10: 1, 20: 0, 30: 8}).accuracy == pytest.approx(4 / 7)
    with refuses_line("1000 ImageNet classes", "2 classes"):
        evaluate(PlainClassifier("test_vit", 2, pretrained=False), table, class_map={10: 1})
    for wrong in ({}, {1000: 1}, {10: 9}, {10: -1}):
        with refuses_line("class map", "0 to 8"):
            evaluate(imagenet_model, table, class_map=wrong)
    with refuses_line("00_dog", "got also cat", error=DataError):
        evaluate(imagenet_model, write_outcomes(tmp_path / "cats"), class_map={10: 1})
    with refuses_line("temperature split", "class map"):
        evaluate(imagenet_model, table, class_map={10: 1}, temperature_split="val")


def test_the_new_rows_have_labels(
    seven: PlainClassifier, model: PlainClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_evaluation(evaluate(seven, write_colours(tmp_path / "colours"), temperature_split="val"))
    printed = capsys.readouterr().out
    for label in ("top-5 accuracy", "calibration error (15 bins)", "temperature", "95 % interval"):
        assert label in printed
    assert "warning: an interval over fewer than 10 images says little: in class0/in (4), " in printed
    print_evaluation(evaluate(model, write_outcomes(tmp_path / "outcomes")))
    printed = capsys.readouterr().out
    assert "worst-group AUC: 4 images of class 1 in dog/indoors against 2 of class 0 in cat/outdoors" in printed
