import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ifam.data.masks import open_mask
from ifam.data.run_lengths import RunLengths


def encode(mask):
    """The competition's code, pixel by pixel: down the columns, the gap and the length of every run."""
    numbers, gap, length = [], 0, 0
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if mask[y, x]:
                length += 1
            elif length:
                numbers += [gap, length]
                gap, length = 1, 0
            else:
                gap += 1
    numbers += [gap, length] if length else []
    return " ".join(map(str, numbers))


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_decoding_undoes_encoding(mask):
    codes = (encode(mask),) if mask.any() else ()
    decoded = open_mask(RunLengths("x", codes), size=mask.shape[::-1])
    assert (decoded == mask).all()


def test_runs_go_down_the_columns():
    assert RunLengths("x", ("1 2",)).decode((2, 3)).tolist() == [[False, False], [True, False], [True, False]]


def test_annotations_are_united():
    assert RunLengths("x", ("0 1", "1 1")).decode((2, 2)).tolist() == [[True, False], [True, False]]
    assert not RunLengths("x").decode((2, 2)).any()


@pytest.mark.parametrize(
    ("code", "said"),
    [("3 9", "ends at 12"), ("1", "pairs of numbers"), ("a 2", "'a 2'"), ("-1 2", "'-1 2'"), ("", "''")],
)
def test_refused(refuses, code, said):
    with refuses("train-rle.csv, 1.2.3", said):
        RunLengths("train-rle.csv, 1.2.3", (code,)).decode((2, 3))


@pytest.mark.parametrize("code", ["9" * 5000 + " 1", "9" * 19 + " " + "9" * 19, "0 " + "9" * 18])
def test_numbers_without_end(code, refuses):
    with refuses("x.csv, 1"):
        RunLengths("x.csv, 1", (code,)).decode((3, 4))
