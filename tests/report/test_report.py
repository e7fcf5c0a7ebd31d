"""What the page says, against the numbers that the commands give on their own."""

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import write_scenes

from ifam.background import evaluate_with_background
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.explanations.part_gallery import part_gallery
from ifam.intervene import intervene
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM
from ifam.report import write_report
from ifam.report.sentences import verdict
from ifam.verdict import judge_model
from ifam.verify import verify
from report.conftest import Make


def text(path: Path) -> str:
    """The page without its pictures and tags."""
    page = re.sub(r"data:[^\"]*", "", path.read_text(encoding="utf-8"))
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).replace("\u00a0", " ").split())


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_the_numbers_are_those_of_the_commands(make: Make, table: ImageTable, page: Path) -> None:
    model = make()
    report = write_report(model, table, page, batch_size=5, with_keypoint_error=True)
    assert report.evaluation == evaluate(model, table, batch_size=5)
    assert report.evaluation.keypoint_error is not None
    study = intervene(model, table, batch_size=5)
    assert report.study is not None
    assert report.study.trials == study.trials
    assert report.study.test_before == replace(study.test_before, beats_none=None)  # said of validation only
    gallery = part_gallery(model, table, split="test", batch_size=5)
    assert report.gallery.mean_shares == pytest.approx(gallery.mean_shares)
    names = [[example.name for example in examples] for examples in gallery.examples]
    assert [[example.name for example in examples] for examples in report.gallery.examples] == names
    paths = [sample.path for sample in table.select("test").samples]
    assert report.certificate is not None
    assert report.certificate == verify(model, paths[::-1], batch_size=5)  # to the digit, in whatever order
    assert report.certificate.holds
    assert report.certificate.num_images == report.evaluation.num_samples == 16
    said = text(page)
    assert f"right in {100 * report.evaluation.accuracy:.1f} %" in said
    assert "Holds on the 16 images that were checked" in said
    assert sum(one.count for one in report.groups) == sum(one.count for one in report.classes) == 16
    for one in report.groups:
        assert one.accuracy.estimate == pytest.approx(report.evaluation.groups[one.name].accuracy)


def test_a_chosen_intervention_is_tried_on_the_same_pass(
    make: Make, table: ImageTable, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ({}, {"soft_masks": True}, {"second_stage": False}):
        model = make(**options)
        with monkeypatch.context() as patch:
            for module in ("ifam.report.collect", "ifam.intervene"):
                patch.setattr(f"{module}.choose", lambda trials: next(t for t in trials if t.intervention.remove_parts))
            study, expected = write_report(model, table, page).study, intervene(model, table)
        assert study is not None
        assert study.chosen == expected.chosen
        for found, told in ((study.test_before, expected.test_before), (study.test_after, expected.test_after)):
            assert found == replace(told, beats_none=None)


def test_the_worst_errors_are_the_most_confident(make: Make, table: ImageTable, page: Path) -> None:
    model = make()
    with torch.no_grad():
        assert model.stage2 is not None
        model.stage2.head.weight[1] = model.stage2.head.weight[0]  # "finch", whatever it sees, half sure
        model.stage2.head.weight[0] *= 1.0001
    report = write_report(model, table, page)
    found = report.mistakes
    shown = [*found.worst, *(one for group in found.by_group.values() for one in group)]
    assert found.count == round((1 - report.evaluation.accuracy) * 16)
    assert len({one.name for one in shown}) == len(shown)
    probabilities = [one.probability for one in found.worst]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(one.answer != one.truth and one.group is not None for one in shown)
    assert text(page).count("is true; group") == len(shown)


def test_a_model_of_one_answer_is_said_first_with_the_next_step(make: Make, table: ImageTable, page: Path) -> None:
    model = make()
    with torch.no_grad():
        assert model.stage2 is not None
        model.stage2.head.weight.zero_()
    report = write_report(model, table, page)
    words = html.unescape(text(page))
    verdict_words = words[words.index("1. Verdict") : words.index("2. Data and groups")]
    assert "✗ One answer. The model answers 'finch' for 16 of 16 test images, though only 8 are" in verdict_words
    assert "Next: train longer (--epochs)" in verdict_words
    assert verdict(report)[0].kind == "bad"
    kinds = {one.heading: one.kind for one in verdict(report)}
    assert (kinds["Mask alone"], kinds["Other backgrounds"]) == ("caution", "caution")  # no praise for what stays so
    assert "Every answer is the same, so that says nothing." in verdict_words


def test_the_verdict_is_that_of_evaluate(make: Make, table: ImageTable, page: Path) -> None:
    model = make()
    report = write_report(model, table, page)
    evaluation, background = evaluate_with_background(model, table)
    assert report.background == background
    assert background is not None
    expected = [one.text for one in judge_model(model, evaluation, background)]
    assert [one.text for one in verdict(report)][: len(expected)] == expected
    words = html.unescape(text(page))
    assert [one.text for one in verdict(report) if one.text.replace("\u00a0", " ") not in words] == []
    steps = [one.next_step for one in verdict(report) if one.kind != "good" and one.next_step]
    assert [step for step in steps if f"Next: {step}." not in words] == []
    assert "ifam report RUN DATA" not in words  # this is it


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"soft_masks": True}, "None. This model weighs all tokens (soft masks)"),
        ({"second_stage": False}, "None. This model has no second stage"),
    ],
)
def test_a_model_without_the_guarantee(
    options: dict[str, Any], said: str, make: Make, table: ImageTable, page: Path
) -> None:
    report = write_report(make(**options), table, page)
    words = text(page)
    assert said in words
    assert "Nothing is covered." in words
    assert "selected, but not a limit" in words
    assert "seen by stage 2" not in words
    assert "rests on" not in words.split("2. Data")[0].replace("what its answer rests on", "")
    assert report.shapley is None
    assert "Not measured: the prediction of this model does not rest on its parts alone" in words


def test_one_part(make: Make, table: ImageTable, page: Path) -> None:
    report = write_report(make(num_parts=1), table, page)
    assert report.study is not None
    assert all(not trial.intervention.remove_parts for trial in report.study.trials)
    assert report.parts[0].nearest is None
    bare = make(num_parts=1)
    bare.token_thresholds = {}
    assert write_report(bare, table, page).study is None
    assert "nothing to switch off" in text(page)


def test_data_without_groups_masks_and_splits(make: Make, table: ImageTable, page: Path) -> None:
    samples = tuple(replace(s, split=None, group=None, mask=None, keypoints=None) for s in table.samples)
    report = write_report(make(), replace(table, samples=samples, group_names=(), keypoint_names=()), page)
    words = text(page)
    assert report.evaluation.num_samples == len(table)
    assert "The data names no groups" in words
    assert "chosen on a validation split other than the images reported on" in words
    assert "By group" not in words
    assert report.study is None


def test_empty_masks_and_dead_and_double_parts(make: Make, table: ImageTable, page: Path) -> None:
    model = make()
    with torch.no_grad():
        model.prototypes[:-1] = 1e4 * torch.randn(24)
        model.prototypes[2] *= -1
    report = write_report(model, table, page)
    assert report.evaluation.no_evidence == 16
    assert report.shapley is not None
    assert not report.shapley.overall.values.any()
    words = text(page)
    assert "In 16 images nothing was selected" in words
    assert "Cannot be told on the 16 images" in words
    assert "Part 0: dead, in no image; part 0: double of part 1; part 1: dead" in words
    assert report.parts[2].flags == ["dead, in no image"]
    assert words.count("No image has any of it.") == 3


def test_areas_by_class_and_group(make: Make, table: ImageTable, page: Path) -> None:
    report = write_report(make(), table, page)
    for facts, mean in zip(report.parts, report.gallery.mean_shares, strict=True):
        assert facts.overall.area == pytest.approx(mean)
        assert sum(amount.area for amount in facts.by_class.values()) / 2 == pytest.approx(mean)
        assert sum(amount.area for amount in facts.by_group.values()) / 4 == pytest.approx(mean)
        assert facts.overall.area <= facts.overall.presence


def test_unreadable_images(make: Make, tmp_path: Path, page: Path) -> None:
    root = write_scenes(tmp_path / "broken")
    table = read_table(root)
    for split in ("val", "test"):
        table.select(split).samples[0].path.write_bytes(b"")
    with pytest.raises(DataError, match="--skip-unreadable"):
        write_report(make(), table, page)
    assert not page.exists()
    report = write_report(make(), table, page, skip_unreadable=True)
    assert report.evaluation.num_samples == 7
    assert report.certificate is not None
    assert report.certificate.num_images == 7
    assert "could not be read" in text(page)


def test_names_from_the_data_are_escaped(make_model: Any, table: ImageTable, page: Path) -> None:
    names = ["<script>alert(1)</script>", "$x_$ & gull"]
    model = make_model(num_classes=2, class_names=names)
    write_report(model, replace(table, class_names=tuple(names)), page)
    source = page.read_text(encoding="utf-8")
    assert "<script" not in source
    assert "&lt;script&gt;" in source


def test_bad_input(table: ImageTable, make: Make, tmp_path: Path) -> None:
    plain: Any = PlainClassifier("resnet18", num_classes=2, image_size=64, pretrained=False)
    with pytest.raises(UsageError, match="expected a model with parts, got a PlainClassifier"):
        write_report(plain, table, tmp_path / "page.html")


def test_what_cannot_be_written_is_not_measured(
    table: ImageTable, make: Make, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ifam.report.write.collect_report", None)
    with pytest.raises(UsageError, match="got a folder"):
        write_report(make(), table, page.parent)
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(UsageError, match="expected Jinja2"):
        write_report(make(), table, page)


def test_an_interruption_leaves_nothing(make: Make, table: ImageTable, page: Path) -> None:
    def progress(what: str) -> Any:
        def show(done: int, total: int) -> None:
            if what == "verifying":
                raise KeyboardInterrupt

        return show

    with pytest.raises(KeyboardInterrupt):
        write_report(make(), table, page, progress=progress)
    assert list(page.parent.glob("*.html")) == list(page.parent.glob(".*.html")) == []


def test_only_a_sample_is_asked_where_all_would_take_too_long(
    make: Make, table: ImageTable, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("VALIDATION_IMAGES", 6), ("SHAPLEY_IMAGES", 8)):
        monkeypatch.setattr(f"ifam.report.samples.{name}", number)
    monkeypatch.setattr("ifam.report.collect.CERTIFICATE_IMAGES", 5)
    report = write_report(make(), table, page)
    assert report.shapley is not None
    assert {mean.num_images for mean in report.shapley.groups.values()} == {2}
    words = text(page)
    assert "on 6 validation images of 12" in words
    assert "Means over 8 images" in words
    assert "On 5 images, drawn from 16" in words


def test_every_model_is_seen_once(make: Make, table: ImageTable, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    discover = IFAM.discover

    def count(self: IFAM, images: torch.Tensor) -> Any:
        seen.append(len(images))
        return discover(self, images)

    monkeypatch.setattr(IFAM, "discover", count)
    model = make()
    write_report(model, table, page)
    evaluated, verified, validated = 16, 2 * 16, 12
    assert sum(seen) >= evaluated + verified + validated
    assert (sum(seen) - evaluated - verified) % validated == 0  # more only where parts are removed greedily
