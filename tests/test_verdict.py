"""Every rule of the verdict on numbers made by hand."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from ifam.background import Background
from ifam.evaluate import Evaluation
from ifam.probe import Probe
from ifam.score import ClassResult, GroupResult, Score
from ifam.verdict import Statement, closing, judge

Answers = Mapping[str, Mapping[str, int]]
PAIRS = (("gull", "sea"), ("finch", "sea"), ("finch", "land"))
TRAINED_ON = {"gull/sea": 95, "gull/land": 5, "finch/land": 95, "finch/sea": 5}


def evaluation(answers: Answers, *, with_groups: bool = True, **numbers: Any) -> Evaluation:
    """Of answers by ``class/place``: how often each class was said there."""
    names = list(dict.fromkeys([group.split("/")[0] for group in answers] + [a for by in answers.values() for a in by]))
    counts = {group: sum(by.values()) for group, by in answers.items()}
    right = {group: by.get(group.split("/")[0], 0) for group, by in answers.items()}
    total = sum(counts.values())
    classes = {}
    for name in names:
        own = [group for group in answers if group.split("/")[0] == name]
        count = sum(counts[group] for group in own)
        accuracy = sum(right[group] for group in own) / count if count else None
        said = sum(by.get(name, 0) for by in answers.values())
        classes[name] = ClassResult(accuracy=accuracy, count=count, answers=said)
    values: dict[str, Any] = {field.name: None for field in fields(Score)}
    groups = {group: GroupResult(accuracy=right[group] / counts[group], count=counts[group]) for group in answers}
    values |= {"num_samples": total, "accuracy": sum(right.values()) / total, "groups": groups if with_groups else {}}
    return Evaluation(**values | numbers, split="test", classes=classes, answers=answers if with_groups else {})


def verdict(answers: Answers, background: Background | None = None, **numbers: Any) -> dict[str, Statement]:
    found = judge(
        evaluation(answers, **numbers), training_group_sizes=TRAINED_ON, is_faithful=True, background=background
    )
    assert len({one.heading for one in found}) == len(found)
    assert all(one.text.endswith(".") and one.next_step and not one.next_step.endswith(".") for one in found)
    return {one.heading: one for one in found}


def test_scores_that_are_no_numbers_are_no_exchanged_labels() -> None:
    found = verdict({"gull/sea": {"finch": 20}, "finch/land": {"gull": 20}}, not_finite=40)
    assert "the scores of 40 are no numbers" in found["Accuracy"].text
    assert "--precision 32-true" in found["Accuracy"].next_step
    assert not [one for one in found.values() if "systematically" in one.text or "by the place" in one.text]


GOOD = {"gull/sea": {"gull": 48, "finch": 2}, "gull/land": {"gull": 47, "finch": 3},
        "finch/sea": {"finch": 49, "gull": 1}, "finch/land": {"finch": 50}}  # fmt: skip


def test_nothing_to_object_to() -> None:
    found = verdict(GOOD, mean_kept=0.2, no_evidence=0, seen_on_object=0.8, object_seen=0.9)
    assert {one.kind for one in found.values()} == {"good"}
    assert [one.heading for one in closing(list(found.values()))] == ["Accuracy"]
    assert found["On the object"].text == (
        "80 % of what the model saw lies on the object, and 90 % of the object was seen (annotated masks)."
    )


def test_one_answer_for_all_but_one_is_said_alone() -> None:
    found = verdict({"sick/a": {"normal": 59, "sick": 1}, "normal/a": {"normal": 60}})
    (first,) = closing(list(found.values()))  # the rest follows from it
    assert first.heading == "One answer"
    assert first.text.startswith("The model answers 'normal' for 119 of 120 test images, though only 60 are")
    assert "--lr" in first.next_step
    assert "no better than guessing (50.0 %)" in found["Accuracy"].text


@pytest.mark.parametrize(
    ("answers", "constant"),
    [
        ({"sick": {"sick": 4, "normal": 1}, "normal": {"normal": 115}}, False),  # right about what is rare
        ({"sick": {"normal": 5}, "normal": {"normal": 115}}, True),  # right in 96 %, and has learnt nothing
        ({"sick": {"normal": 2}, "normal": {"normal": 118}}, False),  # two can be missed
        ({"sick": {"normal": 4}, "normal": {"normal": 4}}, False),  # too few to say it
        ({"normal": {"normal": 120}}, False),  # nothing else was there
        ({"a": {"a": 40}, "b": {"a": 40}, "c": {"a": 36, "c": 4}}, True),
    ],
    ids=str,
)
def test_what_counts_as_one_answer(answers: Answers, constant: bool) -> None:
    assert ("One answer" in verdict(answers, with_groups=False)) == constant


def test_a_group_worse_than_guessing_is_answered_by_the_place() -> None:
    found = verdict(GOOD | {"gull/land": {"gull": 2, "finch": 18}})["Worst group"]
    assert found.kind == "bad"
    for said in (
        "'gull/land', the model is right in 2 of 20 images (10.0 %)",
        "worse than guessing (50.0 %): it probably answers by the place",
        "18 of its 18 wrong answers are 'finch', the class of 95 % of the training images in that place",
    ):  # fmt: skip
        assert said in found.text
    assert "training images of 'gull/land'" in found.next_step
    assert "--method ifam" in found.next_step  # it has no mask
    assert "ifam intervene" in verdict(GOOD | {"gull/land": {"finch": 20}}, mean_kept=0.2)["Worst group"].next_step


def test_a_group_worse_than_guessing_for_another_reason_is_systematically_wrong() -> None:
    usual = verdict(GOOD | {"gull/sea": {"gull": 2, "finch": 18}})["Worst group"]  # gulls usually are at sea
    unknown = verdict(GOOD | {"gull/air": {"gull": 2, "finch": 18}})["Worst group"]
    for found in (usual, unknown):
        assert found.kind == "bad"
        assert "systematically wrong there; 18 of its 18 wrong answers are 'finch'" in found.text
        assert "by the place" not in found.text


@pytest.mark.parametrize(
    ("right", "count", "said", "kind"),
    [
        (2, 20, "worse than guessing", "bad"),
        (8, 20, "no better than guessing", "bad"),
        (13, 20, "no better than guessing", "bad"),  # as a coin is in 13 % of the cases
        (140, 200, "points below all images; 60 of its 60 wrong answers are 'finch', the class of 95 %", "caution"),
        (17, 20, "with so few images that may be chance", "caution"),
        (3, 9, "so few images say little", "caution"),
        (0, 9, "worse than guessing", "bad"),  # surely, few as they are
        (96, 100, "points below all images.", "good"),
    ],
)
def test_the_worst_group_against_guessing_and_all_images(right: int, count: int, said: str, kind: str) -> None:
    best = {f"{name}/{place}": {name: 190, "gull" if name == "finch" else "finch": 10} for name, place in PAIRS}
    found = verdict(best | {"gull/land": {"gull": right, "finch": count - right}})["Worst group"]
    assert said in found.text
    assert found.kind == kind


def test_a_group_alone() -> None:
    found = verdict({"gull/land": {"gull": 2, "finch": 18}})
    assert "it probably answers by the place" in found["Worst group"].text
    assert closing([]) == []


def test_a_few_images_that_are_all_right_are_nothing_to_object_to() -> None:
    found = verdict({"gull/land": {"gull": 9}, "finch/land": {"finch": 9}})["Worst group"]
    assert found.kind == "good"
    assert "so few images say little" in found.text


def test_the_lowest_of_many_groups_is_low_by_chance() -> None:
    coins = {f"gull/{number}": {"gull": 14, "finch": 14} for number in range(9)} | {"gull/x": {"gull": 8, "finch": 20}}
    found = verdict(coins)["Worst group"]  # of one group alone, 8 of 28 would be surely below one half
    assert "no better than guessing" in found.text
    assert "worse" not in found.text


@pytest.mark.parametrize(
    ("right", "said", "kind"),
    [
        (20, "worse than guessing (50.0 %): it is systematically wrong", "bad"),
        (55, "no better than guessing (50.0 %)", "bad"),
        (80, "The data names no groups", "caution"),
    ],
)
def test_all_images_against_guessing(right: int, said: str, kind: str) -> None:
    wrong = 100 - right
    answers = {"a": {"a": right // 2, "b": wrong // 2}, "b": {"b": right - right // 2, "a": wrong - wrong // 2}}
    found = verdict(answers, with_groups=False)["Accuracy"]
    assert said in found.text
    assert found.kind == kind


def test_what_always_answering_the_same_would_give() -> None:
    found = verdict({"a": {"a": 70, "b": 10}, "b": {"b": 10, "a": 10}})["Accuracy"]
    assert "no more than always answering 'a' would be (80.0 %)" in found.text
    assert found.kind == "caution"
    assert verdict({"a": {"a": 80}})["Accuracy"].kind == "good"  # only of two classes is there another answer


@pytest.mark.parametrize(
    ("numbers", "said", "kind"),
    [
        (
            {"mean_kept": 0.2, "no_evidence": 3},
            "In 3 images nothing was selected: stage 1 misses the object",
            "caution",
        ),
        ({"mean_kept": 0.0, "no_evidence": 150}, "In 150 images nothing was selected", "bad"),
        ({"mean_kept": 0.95, "no_evidence": 0}, "holds nearly everything says nothing", "caution"),
    ],
)
def test_the_evidence(numbers: dict[str, Any], said: str, kind: str) -> None:
    found = verdict(GOOD, **numbers)["Evidence"]
    assert said in found.text
    assert found.kind == kind


def test_the_object() -> None:
    beside = verdict(GOOD, seen_on_object=0.3, object_seen=0.9)["On the object"]
    assert "30 % of what the model saw lies on the object" in beside.text
    assert "most of it is background" in beside.text
    piece = verdict(GOOD, seen_on_object=0.9, object_seen=0.2)["On the object"]
    assert "by a piece of the object" in piece.text
    assert beside.kind == piece.kind == "caution"
    (late,) = (one for one in judge(
        evaluation(GOOD, seen_on_object=0.9, object_seen=0.8), training_group_sizes={}, is_faithful=False
    ) if one.heading == "On the object")  # fmt: skip
    assert "saw" not in late.text


def background(share: float, low: float) -> Background:
    probe = Probe(balanced_accuracy=share, low=low, high=1, chance=0.5, classes=("a", "b"), num_images=300)
    return Background(split="val", probe=probe)


@pytest.mark.parametrize(
    ("share", "low", "with_groups", "said", "kind"),
    [
        (0.93, 0.9, False, "tells the class in 93.0 % of 300 validation images (90.0–100.0 %; guessing 50.0 %)", "bad"),
        (0.93, 0.9, True, "unless the background is honest evidence", "caution"),  # where groups say more
        (0.62, 0.55, False, "a part of the accuracy may come from there", "caution"),
        (0.52, 0.46, False, "does not tell the class: 52.0 %", "good"),
    ],
)
def test_the_alarm(share: float, low: float, with_groups: bool, said: str, kind: str) -> None:
    found = verdict(GOOD, background(share, low), with_groups=with_groups)
    alarm = found["Background alone"]
    assert said in alarm.text
    assert alarm.kind == kind
    last = closing(list(found.values()))
    assert (alarm in last) == (kind != "good")
    worse = [Statement(heading=name, text="Too bad.", kind="bad") for name in ("first", "second")]
    assert (alarm in closing([*worse, alarm])) == (kind == "bad")  # before what is as serious


def test_what_was_not_measured_is_no_last_word() -> None:
    found = verdict(GOOD, Background(split="test", reason="the model has no mask"))
    assert found["Background alone"].text == "Not measured: the model has no mask."
    assert [one.heading for one in closing(list(found.values()))] == ["Accuracy"]


def test_of_an_evaluation_that_knows_no_classes() -> None:
    values: dict[str, Any] = {field.name: None for field in fields(Score)}
    bare = Evaluation(**values | {"num_samples": 48, "accuracy": 0.5, "groups": {}}, split="test")
    (only,) = judge(bare, training_group_sizes={}, is_faithful=False)
    assert only.heading == "Accuracy"
