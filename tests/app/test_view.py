import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ifam.app import pictures, view
from ifam.app.photographs import ask_file, example_samples, thumbnails
from ifam.app.question import Question, quantile_levels
from ifam.app.run_folder import run_summary
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.evaluate import evaluate
from ifam.explanations.figures import overlay_mask
from ifam.explanations.part_gallery import part_gallery
from ifam.model.two_stage import IFAM


@pytest.fixture
def question(model: IFAM, photograph: Path) -> Question:
    return ask_file(model, photograph)


def decoded(uri: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_pictures_are_those_of_the_answer(question: Question) -> None:
    uris = re.findall(r'src="([^"]*)"', view.pictures_html(question.with_parts([0])))
    answer = question.whole.without(parts=[1, 2])
    large = pictures.enlarged(answer.image)
    assert [decoded(uri).shape for uri in uris] == [(448, 448, 3)] * 3
    assert np.array_equal(decoded(uris[0]), large)
    assert np.array_equal(decoded(uris[2]), overlay_mask(large, answer.pixels))


def test_every_part_has_its_number_also_where_it_is_off(question: Question) -> None:
    part = int(question.whole.parts[question.whole.mask][0])
    on, off = pictures.parts_picture(question), pictures.parts_picture(question.with_parts([]))
    row, column = np.argwhere(question.whole.parts == part)[0]
    assert (on == 255).all(-1).sum() > 300  # white plates
    assert (off == 0x33).all(-1).sum() > 300  # dark ones
    assert not np.array_equal(on[112 * row : 112 * (row + 1)], off[112 * row : 112 * (row + 1)])
    assert column < 4


@pytest.mark.parametrize("part", range(4))
def test_plates_do_not_lie_over_each_other(part: int) -> None:
    half = np.array([20.0, 15.0])
    taken = [np.array([100.0, 100.0])]
    step = [np.array([41.0, 0]), np.array([0, 31.0]), np.array([39.0, 29.0]), np.array([0.0, 0.0])][part]
    assert pictures._covers(taken[0] + step, taken, half) == (part > 1)


def test_large_views_stay_as_they_are() -> None:
    image = np.zeros((500, 700, 3), dtype=np.uint8)
    assert pictures.enlarged(image) is image


def test_colours_repeat_with_stripes() -> None:
    assert pictures.swatch(0) == "#E69F00"
    assert pictures.swatch(8).endswith("3px, white 3px 4.5px), #E69F00")
    assert len({pictures.swatch(part) for part in range(32)}) == 32


def test_class_bars_keep_their_order(model: IFAM, question: Question) -> None:
    before = view.class_bars(question, model.class_names)
    nothing = question.with_parts([])
    now = view.class_bars(nothing, model.class_names)
    assert [bar.name for bar in now] == [bar.name for bar in before]
    assert [bar.before for bar in now] == [bar.now for bar in before]
    assert {bar.name: bar.now for bar in now} == pytest.approx(
        dict(zip(model.class_names, nothing.answer.probabilities, strict=True))
    )
    assert [bar.name for bar in now if bar.is_answer] == [nothing.answer.label]
    html = view.classes_html(nothing, model.class_names)
    assert f'data-probability="{now[0].now}"' in html


def test_what_the_answer_rests_on_is_said(question: Question) -> None:
    html = view.answer_html(question)
    assert question.whole.label in html
    assert f"Rests on {question.whole.kept:.1%} of the image" in html
    nothing = question.with_parts([])
    assert "no evidence" in view.answer_html(nothing)
    assert nothing.answer.label not in view.answer_html(nothing)
    assert "no evidence" in view.pictures_html(nothing)
    assert "no evidence" not in view.pictures_html(question)


@pytest.mark.parametrize("options", [{"soft_masks": True}, {"second_stage": False}])
def test_a_map_that_is_no_limit_is_not_called_one(make_model: Any, photograph: Path, options: Any) -> None:
    question = ask_file(make_model(num_classes=2, **options), photograph)
    for asked in (question, question.with_parts([]), question.with_stroke([(0, 0)])):
        assert "it is not a limit" in view.answer_html(asked)
        assert "Rests on" not in view.answer_html(asked)
        assert "but not a limit" in view.pictures_html(asked)
        assert "stage 2" not in view.pictures_html(asked)


def test_shapley_bars(question: Question) -> None:
    values = question.whole.shapley()
    index = question.whole.index
    bars = view.part_bars(values, index)
    assert [bar.value for bar in bars] == pytest.approx(values.values[:, index])
    assert max(bar.length for bar in bars) == 1
    total = values.everything[index] - values.nothing[index]
    assert f"{total:+.2f}".replace("-", "−") in view.shapley_html(question, values)


def test_names_are_text_and_never_markup(make_model: Any, photograph: Path) -> None:
    question = ask_file(make_model(num_classes=2, class_names=["<img src=x>", "<b>"]), photograph)
    html = view.answer_html(question) + view.classes_html(question, ["<img src=x>", "<b>"])
    assert "<img" not in html
    assert "<b></b>" not in html
    assert "&lt;img src=x&gt;" in html


def test_the_slider_runs_from_off_to_the_strictest(model: IFAM) -> None:
    assert quantile_levels(model) == [None, 0.9, 0.5]
    assert "off" in view.quantile_label(None)
    assert "0.9" in view.quantile_label(0.9)


def test_examples_are_of_every_group(table: ImageTable) -> None:
    samples = example_samples(table, count=4)
    assert {(sample.label, sample.group) for sample in samples} == {(0, 0), (0, 1), (1, 2), (1, 3)}
    assert {sample.split for sample in samples} == {"test"}
    small = thumbnails(samples)
    assert list(small) == [sample.name for sample in samples]
    assert {picture.shape for picture in small.values()} == {(112, 112, 3)}


def test_bad_files_are_named_without_their_folder(
    model: IFAM, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"^text\.png: expected an image, got a file of unknown format"):
        ask_file(model, tmp_path / "text.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=rf"^{photograph.name}: expected at most 1,000 pixels"):
        ask_file(model, photograph)


def test_what_a_run_remembers(model: IFAM, tmp_path: Path, refuses_line: Any) -> None:
    assert run_summary(model, tmp_path).best_epoch is None
    assert [group.name for group in run_summary(model, tmp_path).groups] == ["finch/land", "finch/sea"]
    (tmp_path / "result.json").write_text(json.dumps({"best_epoch": 1}, indent=1))
    epochs = [{"epoch": epoch, "val/groups": {"finch/land": 0.5 + epoch / 4, "gull/sea": None}} for epoch in range(2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    summary = run_summary(model, tmp_path)
    assert (summary.best_epoch, summary.epochs) == (1, 2)
    assert [(group.name, group.training_images, group.validation_accuracy) for group in summary.groups] == [
        ("finch/land", 3, 0.75),
        ("finch/sea", 1, None),
        ("gull/sea", None, None),
    ]
    html = view.run_html(summary)
    assert "epoch 2 of 2" in html
    assert "75.0%" in html
    (tmp_path / "metrics.jsonl").write_text("{")
    with refuses_line("metrics.jsonl", "damaged", error=DataError):
        run_summary(model, tmp_path)


def test_groups_and_gallery(model: IFAM, table: ImageTable) -> None:
    result = evaluate(model, table)
    html = view.groups_html(result, model.training_group_sizes)
    for name, group in result.groups.items():
        assert group.accuracy is not None
        assert re.search(
            rf"<td>{name}</td>\s*<td>{group.accuracy:.1%}</td>\s*<td>{round(2 * group.accuracy)} / 2", html
        )
    gallery = part_gallery(model, table, split="test")
    html = view.gallery_html(gallery)
    assert html.count("<img") == sum(map(len, gallery.examples))
    assert html.count("<h3>") == 3
