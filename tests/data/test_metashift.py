import shutil

import pytest
from layouts import CONTEXTS, write_metashift

from ifam.data.read import read_table
from ifam.doctor import diagnose_data


@pytest.fixture
def animals(tmp_path):
    return write_metashift(tmp_path)


def test_contexts_are_groups(animals):
    table = read_table(animals)
    assert table.layout == "MetaShift"
    assert table.class_names == ("cat", "dog")
    assert table.splits == ("train", "test")
    for split, contexts in CONTEXTS.items():
        present = {name: count for name, count in table.select(split).group_counts().items() if count}
        assert present == {f"{context[:3]}/{context}": count for context, count in contexts.items()}


def test_a_photograph_of_two_contexts_counts_in_both_as_published(animals):
    shutil.copy(animals / "train/cat/cat(sofa)/sof0.jpg", animals / "train/cat/cat(bed)/sof0.jpg")
    table = read_table(animals)
    counts = table.select("train").group_counts()
    assert (counts["cat/cat(sofa)"], counts["cat/cat(bed)"]) == (3, 3)
    assert diagnose_data(table).leaks == ()


def test_a_photograph_in_train_and_test_is_reported(animals):
    shutil.copy(animals / "train/cat/cat(sofa)/sof0.jpg", animals / "test/cat/cat(shelf)/sof0.jpg")
    diagnosis = diagnose_data(read_table(animals))
    (leak,) = diagnosis.leaks
    assert set(leak) == {"train/cat/cat(sofa)/sof0.jpg", "test/cat/cat(shelf)/sof0.jpg"}
    assert diagnosis.layout == "MetaShift"


def test_without_splits_and_other_subfolders(tmp_path, draw):
    for name in ("a/cat/cat(sofa)/1.jpg", "a/dog/dog(bed)/1.jpg", "b/cat/young/1.jpg", "b/dog/old/1.jpg"):
        draw(tmp_path / name)
    assert read_table(tmp_path / "a").layout == "MetaShift"
    assert read_table(tmp_path / "b").layout == "folders"


def test_an_emptied_class_shows_the_tree(animals, refuses):
    shutil.rmtree(animals / "train/dog")
    (animals / "train/dog").mkdir()
    with refuses(animals / "train/dog", "got none", "layout of MetaShift", "test/dog/dog(shelf)/"):
        read_table(animals)
