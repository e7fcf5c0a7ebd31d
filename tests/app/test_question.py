from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ifam
from ifam.app.question import Question
from ifam.explanations.explanation import Explanation
from ifam.model.two_stage import IFAM


@pytest.fixture
def question(model: IFAM, photograph: Path) -> Question:
    return Question(whole=ifam.explain(model, photograph), num_parts=3)


def same(a: Explanation, b: Explanation) -> bool:
    return np.array_equal(a.mask, b.mask) and np.array_equal(a.probabilities, b.probabilities) and a.kept == b.kept


def a_token_of(question: Question, part: int) -> tuple[int, int]:
    row, column = np.argwhere(question.whole.parts == part)[0].tolist()
    return row, column


def a_part(question: Question) -> int:
    return int(question.whole.parts[question.whole.mask][0])


def test_a_click_on_a_part_is_without_it_and_a_second_click_undoes_it(question: Question) -> None:
    part = a_part(question)
    off = question.toggled_at(a_token_of(question, part))
    assert off.on == [other for other in range(3) if other != part]
    assert same(off.answer, question.whole.without(parts=[part]))
    assert same(off.toggled_at(a_token_of(question, part)).answer, question.whole)


def test_a_click_on_the_background_asks_nothing(question: Question) -> None:
    assert question.toggled_at(a_token_of(question, 3)) is question


def test_parts_and_threshold_together(question: Question) -> None:
    asked = question.with_parts([0, 1]).with_quantile(0.5)
    assert same(asked.answer, question.whole.without(parts=[2], token_quantile=0.5))
    assert same(asked.with_quantile(None).with_parts([0, 1, 2]).answer, question.whole)
    assert str(asked) == "without part 2 and tokens beyond q = 0.5"
    assert same(asked.plain().answer, question.whole)


def test_stage_1_runs_once(model: IFAM, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, discover = [], model.discover
    monkeypatch.setattr(model, "discover", lambda images: (calls.append(1), discover(images))[1])
    question = Question(whole=ifam.explain(model, photograph), num_parts=3)
    for asked in (question.with_parts([0]), question.with_quantile(0.5), question.with_stroke([(0, 0)])):
        assert asked.answer.probabilities.sum() == pytest.approx(1)
    assert calls == [1]


@torch.inference_mode()
def test_a_stroke_replaces_the_selection(model: IFAM, question: Question) -> None:
    inside, outside = (tuple(np.argwhere(question.whole.mask == kept)[0].tolist()) for kept in (True, False))
    asked = question.with_stroke([outside, inside])  # begins outside: both are in
    expected = question.whole.mask.copy()
    expected[outside] = True
    assert np.array_equal(asked.answer.mask, expected)
    logits = model.classify(question.whole._view, torch.from_numpy(expected)[None])
    assert asked.answer.probabilities == pytest.approx(logits.softmax(1)[0].numpy(), abs=1e-6)
    assert asked.answer.kept == pytest.approx(expected.mean())
    again = asked.with_stroke([outside])
    assert same(again.answer, question.whole)
    assert str(again) == "mask painted by hand"
    assert again.with_parts([0, 1, 2]).painted is None
    assert again.with_quantile(None).painted is None


def test_everything_painted_out_is_no_evidence(question: Question) -> None:
    kept = [(row, column) for row, column in np.argwhere(question.whole.mask).tolist()]
    assert question.with_stroke(kept).answer.has_evidence is False


@pytest.mark.parametrize("cells", [[], [(-1, 0)], [(0, 4)], [(0, 0), (4, 0)]])
def test_tokens_outside_the_grid(question: Question, cells: Any, refuses_line: Any) -> None:
    with refuses_line("inside 4 × 4"):
        question.with_stroke(cells)
    if len(cells) == 1:
        with refuses_line("inside 4 × 4"):
            question.toggled_at(cells[0])
