import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError, UsageError


def table_of(sizes: dict[tuple[int, int], int], split: str | None = None) -> ImageTable:
    """A table with so many images of each (label, group)."""
    samples = tuple(
        Sample(path=Path(name := f"{label}-{group}-{i}.png"), name=name, label=label, group=group, split=split)
        for (label, group), size in sizes.items()
        for i in range(size)
    )
    return ImageTable(
        root=Path("data"),
        layout="folders",
        class_names=("cat", "dog", "emu"),
        group_names=("indoor", "outdoor"),
        samples=samples,
    )


def splits_of(table: ImageTable) -> dict[str, str | None]:
    return {sample.name: sample.split for sample in table.samples}


def test_counts_include_zeros():
    table = table_of({(0, 1): 2, (1, 1): 3})
    assert table.class_counts() == {"cat": 2, "dog": 3, "emu": 0}
    assert table.group_counts() == {"indoor": 0, "outdoor": 5}


def test_select():
    table = table_of({(0, 0): 10, (1, 1): 10})
    assert table.select("test") is table  # no splits: may be a test set alone
    split = table.with_splits(seed=0)
    assert {sample.split for sample in split.select("val").samples} == {"val"}
    assert sum(len(split.select(name)) for name in split.splits) == len(table)


def test_select_what_is_not_there(refuses):
    with refuses("val", "got test"):
        table_of({(0, 0): 3}, split="test").select("val")
    with refuses("'dev'", "train, val, test", error=UsageError):
        table_of({(0, 0): 3}).select("dev")


counts = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 1)), st.integers(1, 40), min_size=1)
weights = st.tuples(st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))


@given(counts=counts, weights=weights, seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_every_group_is_split_by_the_fractions(counts, weights, seed):
    fractions = tuple(weight / sum(weights) for weight in weights)
    assume(max(counts.values()) > 1 or fractions[1] == 0)
    split = table_of(counts).with_splits(seed=seed, fractions=fractions)
    shares = Counter((sample.label, sample.group, sample.split) for sample in split.samples)
    for (label, group), size in counts.items():
        train, val, test = (shares[label, group, name] for name in ("train", "val", "test"))
        assert train + val + test == size
        assert train == 1 or -1 < train - fractions[0] * size < 1e-6
        assert train + val == size or -1e-6 < val - fractions[1] * size < 1
        assert test - fractions[2] * size < 1 + 1e-6
        assert val > 0 or size == 1 or fractions[1] == 0


@given(seed=st.integers(0, 100), order=st.permutations(range(20)))
def test_splits_depend_on_the_seed_and_not_on_the_order(seed, order):
    table = table_of({(0, 0): 10, (1, 1): 10})
    shuffled = replace(table, samples=tuple(table.samples[i] for i in order))
    assert splits_of(table.with_splits(seed=seed)) == splits_of(shuffled.with_splits(seed=seed))


def test_another_seed_gives_other_splits_and_another_class_moves_no_image():
    one, two = (splits_of(table_of({(0, 0): 30}).with_splits(seed=seed)) for seed in (0, 1))
    assert one != two
    more = splits_of(table_of({(1, 0): 30, (0, 0): 30}).with_splits(seed=0))
    assert one.items() <= more.items()


def test_groups_draw_apart():
    split = splits_of(table_of({(0, 0): 30, (1, 1): 30}).with_splits(seed=0))
    assert [split[f"0-0-{i}.png"] for i in range(30)] != [split[f"1-1-{i}.png"] for i in range(30)]


def test_validation_comes_out_of_train():
    train, test = table_of({(0, 0): 20, (1, 0): 5}, split="train"), table_of({(2, 1): 4}, split="test")
    table = replace(train, samples=train.samples + test.samples).with_validation(seed=3)
    assert table.select("val").class_counts() == {"cat": 2, "dog": 1, "emu": 0}
    assert table.select("train").class_counts() == {"cat": 18, "dog": 4, "emu": 0}
    assert table.select("test").class_counts() == {"cat": 0, "dog": 0, "emu": 4}


def test_too_few_images_to_hold_any_out(refuses):
    with refuses("two images of at least one group", "got 2 images", "add images"):
        table_of({(0, 0): 1, (1, 1): 1}).with_splits(seed=0)
    train, test = table_of({(0, 0): 1, (1, 1): 1}, split="train"), table_of({(2, 1): 4}, split="test")
    with refuses("two images of at least one group", "got 2 images"):
        replace(train, samples=train.samples + test.samples).with_validation(seed=0)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (math.nan, 0.5, 0.5)])
def test_impossible_fractions(fractions):
    with pytest.raises(UsageError, match="sum to 1"):
        table_of({(0, 0): 3}).with_splits(seed=0, fractions=fractions)


def test_given_splits_are_not_replaced():
    table = table_of({(0, 0): 30}).with_splits(seed=0)
    with pytest.raises(DataError, match="without splits"):
        table.with_splits(seed=0)
    with pytest.raises(DataError, match="val"):
        table.with_validation(seed=0)


@given(order=st.permutations(["cat", "dog", "emu", "fox"]))
def test_align_keeps_the_name_of_every_label(order):
    table = table_of({(0, 0): 1, (1, 0): 1, (2, 0): 1})
    aligned = table.align(order)
    assert aligned.class_names == tuple(order)
    before = [table.class_names[sample.label] for sample in table.samples]
    assert [aligned.class_names[sample.label] for sample in aligned.samples] == before


def test_align_refuses_an_unknown_class(refuses):
    with refuses("emu", "cat, dog, fox"):
        table_of({(0, 0): 1}).align(["cat", "dog", "fox"])


@given(known=st.lists(st.sampled_from(["outdoor", "indoor", "sea"]), unique=True))
def test_align_groups_keeps_names_and_appends_new_ones(known):
    table = table_of({(0, 0): 2, (1, 1): 3})
    aligned = table.align_groups(known)
    assert aligned.group_names[: len(known)] == tuple(known)
    assert aligned.group_counts() == dict.fromkeys(known, 0) | table.group_counts()


def test_an_unknown_group_stays_unknown():
    table = table_of({(0, 0): 1})
    table = replace(table, samples=(replace(table.samples[0], group=None),))
    assert table.align_groups(["outdoor"]).samples[0].group is None
    assert table.group_counts() == {"indoor": 0, "outdoor": 0}


def test_splits_of_a_run_go_by_name_and_new_images_are_test():
    table = table_of({(0, 0): 3})
    known = {"0-0-0.png": "train", "0-0-1.png": "val", "gone.png": "train"}
    assert splits_of(table.with_known_splits(known)) == {"0-0-0.png": "train", "0-0-1.png": "val", "0-0-2.png": "test"}
    assert table.with_known_splits({"gone.png": "train"}) is table
    own = table_of({(0, 0): 3}, split="train")  # val was taken out of train
    assert splits_of(own.with_known_splits({"0-0-1.png": "val"}))["0-0-2.png"] == "train"
