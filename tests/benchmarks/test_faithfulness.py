"""The faithfulness benchmark from models to files, on models small enough for a test."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeModel, MakeVit, RefusesLine, randomise
from generated import write_scenes
from test_benchmarks import TINY
from torch import Tensor

from ifam.benchmarks.faithfulness import run as running
from ifam.benchmarks.faithfulness.blocks import (
    accuracy,
    accuracy_anew,
    draw_blocks,
    maps_of,
    mask_on_digit,
    measure_blocks,
    train_ifam,
    train_plain,
)
from ifam.benchmarks.faithfulness.explained import Explained
from ifam.benchmarks.faithfulness.explainers import EXPLAINERS, Explainer
from ifam.benchmarks.faithfulness.measures import (
    Photographs,
    Protocol,
    areas_of,
    measure_row,
    prepare,
    read_photographs,
    sample,
)
from ifam.benchmarks.faithfulness.report import Row, table, to_markdown
from ifam.benchmarks.faithfulness.run import Request, run_faithfulness
from ifam.benchmarks.run import Options
from ifam.cli import main
from ifam.data.read import read_table
from ifam.errors import DataError
from ifam.metrics.faithfulness import curve_area, log_odds
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM

pytest.importorskip("captum")
pytest.importorskip("pytorch_grad_cam")

PROTOCOL = Protocol(images=8, curve_images=3, randomised_images=3, precision="32-true", batch_size=4)
FEW = ("ifam-1", "erm", "ifam", "saliency", "lrp", "chance")


@pytest.fixture
def ours(make_model: MakeModel) -> IFAM:
    return make_model()


@pytest.fixture
def photographs(ours: IFAM) -> Photographs:
    images = torch.randn(8, 3, 32, 32)
    return Photographs(images=images, areas=areas_of(ours, images, PROTOCOL), masks=torch.rand(8, 32, 32) < 0.5)


def fixed(maps: Callable[[Tensor], Tensor]) -> Explainer:
    """An explainer that computes its map from the images alone."""
    return Explainer(title="", attribute=lambda explained, images, targets: maps(images))


def test_ifams_own_map_keeps_what_ifam_keeps(ours: IFAM, photographs: Photographs) -> None:
    subjects = prepare(ours, photographs, PROTOCOL)
    found = measure_row(subjects, EXPLAINERS["ifam"], photographs, PROTOCOL)
    masks = torch.cat([subject.seen for subject in subjects])
    pixels = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    union = (pixels | photographs.masks).sum((1, 2))
    expected = ((pixels & photographs.masks).sum((1, 2)) / union).mean()
    assert found["numbers"]["iou"] == pytest.approx(float(expected))
    assert len(found["maps"]) == 2


@pytest.mark.parametrize("count", [8, 9])
def test_replacement_against_a_plain_loop(count: int, make_vit: MakeVit) -> None:
    """A map that keeps the left half: nothing else may stay, of a photograph that is alone in its batch neither."""
    model = PlainClassifier(make_vit(), num_classes=4)
    randomise(model)
    model.eval()
    left = torch.arange(4, 0, -1.0).expand(4, 4)
    halves = Photographs(images=torch.randn(count, 3, 32, 32), areas=torch.full((count,), 8))
    found = measure_row(
        prepare(model, halves, PROTOCOL), fixed(lambda images: left.expand(len(images), 4, 4)), halves, PROTOCOL
    )
    lenders = [3, 0, 1, 2, 7, 4, 5, 6, 7][:count]  # of the same batch of four; the ninth is alone in its own
    other = halves.images[lenders]
    mixed = torch.cat([halves.images[..., :16], other[..., 16:]], dim=-1)
    before, after = (model(each).logits for each in (halves.images, mixed))
    chosen = before.argmax(1)
    assert found["numbers"]["photo_flips"] == pytest.approx(float((after.argmax(1) != chosen).double().mean()))
    changes = (log_odds(after, chosen) - log_odds(before, chosen)).abs()
    assert changes.min() > 0
    assert found["numbers"]["photo_change"] == pytest.approx(float(changes.double().mean()), rel=1e-4)


def test_curves_against_a_plain_loop(ours: IFAM, photographs: Photographs) -> None:
    """iFAM's mask is held, and tokens leave in the order of the map."""
    order = torch.arange(16.0).view(4, 4)
    subjects = prepare(ours, photographs, PROTOCOL)
    found = measure_row(subjects, fixed(lambda images: -order.expand(len(images), 4, 4)), photographs, PROTOCOL)
    areas = []
    for number in range(PROTOCOL.curve_images):
        image, seen = photographs.images[number : number + 1], subjects[0].seen[number]
        chosen = int(subjects[0].logits[number].argmax())
        values = []
        for count in (0, 2, 5, 8, 11, 16):
            left = (seen & (order >= count))[None]
            values.append(ours.classify(image, left).softmax(1)[0, chosen])
        areas.append(float(curve_area(torch.stack(values)[None], (0, 0.1, 0.3, 0.5, 0.7, 1))))
    assert found["numbers"]["deletion"] == pytest.approx(sum(areas) / len(areas), abs=1e-5)


def test_a_map_that_ignores_the_model_fails_the_sanity_check(ours: IFAM, photographs: Photographs) -> None:
    subjects = prepare(ours, photographs, PROTOCOL)
    edges = fixed(lambda images: torch.nn.functional.avg_pool2d(images.abs().sum(1, keepdim=True), 8)[:, 0])
    assert measure_row(subjects, edges, photographs, PROTOCOL)["numbers"]["randomised"] == pytest.approx(1)
    found = measure_row(subjects, EXPLAINERS["saliency"], photographs, PROTOCOL)
    assert found["numbers"]["randomised"] < 0.9


def test_the_sample_is_balanced_and_repeatable(tmp_path: Path, refuses_line: RefusesLine) -> None:
    data = read_table(write_scenes(tmp_path, {"train": 1, "val": 1, "test": 5}))
    some = sample(data, 8, seed=3)
    groups = [item.group for item in some.samples]
    assert sorted(groups[:4]) == sorted(groups[4:]) == [0, 1, 2, 3]
    assert some.samples == sample(data, 8, seed=3).samples
    assert some.samples != sample(data, 8, seed=4).samples
    assert len(sample(data, 99, seed=0).samples) == 20
    with refuses_line("two test images or more", "got 1", error=DataError):
        sample(data, 1, seed=0)
    images, masks = read_photographs(some, PlainClassifier("test_vit", 2, 48, pretrained=False).preprocessing)
    assert images.shape == (8, 3, 48, 48)
    assert masks is not None
    assert masks.flatten(1).sum(1).tolist() == [24 * 24] * 8


def test_block_images_have_the_digit_where_they_say() -> None:
    blocks = draw_blocks(0)
    train, test = blocks.split()
    on_digit = accuracy_anew(train.seen_through(train.digits), test.seen_through(test.digits), 0)
    off_digit = accuracy_anew(train.seen_through(~train.digits), test.seen_through(~test.digits), 0)
    assert on_digit > 0.7
    assert off_digit < 0.25  # the side at most
    assert blocks.digits.flatten(1).sum(1).unique().tolist() == [16]


def test_the_retraining_test_tells_a_right_map_from_a_wrong_one() -> None:
    blocks = draw_blocks(0)
    model = train_plain(blocks.select(slice(64)), seed=0, epochs=1)
    oracle = {tuple(image.flatten().tolist()): mask for image, mask in zip(blocks.images, blocks.digits, strict=True)}

    def right(images: Tensor) -> Tensor:
        brightness = torch.nn.functional.avg_pool2d(images[:, :1], 2)[:, 0].abs()
        masks = torch.stack([oracle[tuple(image.flatten().tolist())] for image in images])
        return masks * (1 + brightness)

    found = measure_blocks(model, fixed(right), blocks, seed=0)
    wrong = measure_blocks(model, fixed(lambda images: 4 - right(images)), blocks, seed=0)
    assert found["difference"] > 0.4
    assert wrong["difference"] < -0.4
    assert found["null_share"] == 0


def test_tiny_models_learn_their_blocks() -> None:
    blocks = draw_blocks(0).select(slice(256))
    plain = train_plain(blocks, seed=0, epochs=20)
    ours = train_ifam(blocks, plain, seed=0, epochs=5)
    assert accuracy(plain, blocks) > 0.25
    assert maps_of(ours, EXPLAINERS["ifam"], blocks).shape == (256, 4, 8)
    assert 0 <= mask_on_digit(ours, blocks) <= 1
    assert mask_on_digit(plain, blocks) == 0.5  # which reads everything
    assert [len(half) for half in draw_blocks(0).split()] == [1198, 599]


def request(data: Path, where: Path, **changes: Any) -> Request:
    options = Options(runs=where / "runs", seeds=(0, 1), epochs=2, changes=TINY, methods=FEW)
    return Request(
        **{
            "data": data,
            "options": options,
            "protocol": PROTOCOL,
            "block_epochs": 1,
            "json_path": where / "out.json",
            "markdown_path": where / "out.md",
            "command": "ifam benchmark faithfulness",
        }
        | changes
    )


def test_from_runs_to_files_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: RefusesLine
) -> None:
    data = write_scenes(tmp_path / "data", {"train": 3, "val": 2, "test": 3})
    monkeypatch.setattr(running, "draw_blocks", lambda seed: draw_blocks(seed).select(slice(96)))
    written = run_faithfulness(request(data, tmp_path), say=lambda _: None)
    assert all(path.stat().st_size > 0 for path in written)
    found = json.loads(written[0].read_text())
    keys = [(row["part"], row["model"], row["method"], row["seed"]) for row in found["rows"]]
    assert len(set(keys)) == len(keys) == 2 * 2 * (4 + 3)  # parts, seeds, maps of iFAM and of the plain transformer
    for row in found["rows"]:
        assert all(isinstance(value, float) for value in row["numbers"].values()), row
    text = written[1].read_text()
    assert "iFAM's own map" in text
    assert "DeepLIFT has no row" in text
    assert str(tmp_path) not in text

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(running, "measure_row", refuse)
    monkeypatch.setattr(running, "train_plain", refuse)
    run_faithfulness(request(data, tmp_path), say=lambda _: None)
    assert json.loads(written[0].read_text())["rows"] == found["rows"]
    with pytest.raises(AssertionError, match="measured again"):  # with another protocol nothing of it counts
        run_faithfulness(request(data, tmp_path, protocol=replace(PROTOCOL, images=4)), say=lambda _: None)
    with refuses_line("methods", "grad-cam", "'lime'"):
        run_faithfulness(request(data, tmp_path, options=Options(runs=tmp_path, methods=["lime"])))


def test_an_unreadable_photograph_is_not_offered_to_be_left_out(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", {"train": 3, "val": 2, "test": 3})
    (data / "images/1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png: .*; replace it or take it out$"):
        run_faithfulness(request(data, tmp_path), say=lambda _: None)


def test_a_table_by_hand() -> None:
    rows = [
        Row(
            part="photographs", model="erm", method="lrp", seed=seed, weights="", numbers={"iou": iou, "pointing": None}
        )
        for seed, iou in enumerate((0.25, 0.75))
    ]
    assert table(rows, {"iou": "IoU", "x": "x"}).splitlines()[2] == (
        "| plain ViT | relevance propagation (LRP) | 0.500 (0.250–0.750) |"
    )
    content = {
        "circumstances": {"date": "", "cpu": "", "threads": 1, "versions": {"torch": ""}},
        "protocol": {"images": 2, "curve_images": 1, "randomised_images": 1},
        "context": {},
        "command": "",
        "rows": [vars(row) for row in rows],
    }
    assert "Block images" not in to_markdown(content)


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "faithfulness"]) == 2
    assert "--data DIR" in capsys.readouterr().err
    assert main(["benchmark", "faithfulness", "--data", str(tmp_path), "--images", "1"]) == 2
    assert "images: expected 2 or more" in capsys.readouterr().err


def test_the_explained_model_answers_as_the_model(ours: IFAM, photographs: Photographs) -> None:
    first = Explained(ours, photographs.images)
    torch.testing.assert_close(first.logits, ours(photographs.images).logits)
