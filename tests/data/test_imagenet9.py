import json
import shutil

import pytest
from layouts import write_imagenet9

from ifam.data.imagenet9 import CLASSES, imagenet9_variants, read_in9_mapping
from ifam.data.read import read_table
from ifam.doctor import diagnose_data


@pytest.fixture
def challenge(tmp_path):
    return write_imagenet9(tmp_path)


def test_variants_are_listed(challenge):
    assert imagenet9_variants(challenge) == {
        name: challenge / name for name in ("original", "mixed_same", "mixed_rand", "only_bg_b")
    }
    assert imagenet9_variants(challenge / "original") == {}


def test_a_variant_is_a_test_set(challenge):
    table = read_table(challenge / "original")
    assert table.layout == "ImageNet-9"
    assert table.class_names == CLASSES
    assert table.splits == ("test",)
    assert table.class_counts() == dict.fromkeys(CLASSES, 2)


def test_training_data_of_the_authors_keep_their_validation_images(challenge, draw):
    for name in CLASSES:
        draw(challenge / "original/train" / name / "1.JPEG")
    table = read_table(challenge / "original")
    assert {split: len(table.select(split)) for split in table.splits} == {"train": 9, "val": 18}


def test_diagnosis(challenge):
    diagnosis = diagnose_data(read_table(challenge / "mixed_rand"))
    assert "9 images (ImageNet-9)" in diagnosis.lines()[0]
    assert diagnosis.unreadable == ()


def test_the_folder_of_all_variants_is_told_to_choose(challenge, refuses):
    with refuses(challenge, "<variant>/val/00_dog", "original, mixed_same, mixed_rand, only_bg_b"):
        read_table(challenge)


def test_one_class_of_the_nine(challenge):
    for name in CLASSES[1:]:
        shutil.rmtree(challenge / "original/val" / name)
    table = read_table(challenge / "original")
    assert (table.layout, table.splits, table.class_names) == ("ImageNet-9", ("test",), ("00_dog",))


def test_an_emptied_class_shows_the_tree(challenge, refuses):
    for path in (challenge / "original/val/08_fish").iterdir():
        path.unlink()
    with refuses("08_fish", "got none", "layout of ImageNet-9", "<variant>/val/00_dog/….JPEG"):
        read_table(challenge / "original")


def test_other_classes_are_plain_folders(tmp_path, draw):
    draw(tmp_path / "val/00_dog/1.png")
    draw(tmp_path / "val/01_cat/1.png")
    assert read_table(tmp_path).layout == "folders"


def test_mapping(tmp_path):
    path = tmp_path / "in_to_in9.json"
    path.write_text(json.dumps({str(index): {7: 1, 151: 0}.get(index, -1) for index in range(1000)}))
    assert read_in9_mapping(path) == {7: 1, 151: 0}


@pytest.mark.parametrize("text", ["{}", "[]", "no", json.dumps({str(i): 9 for i in range(1000)}), '{"a": 1}'])
def test_mapping_refused(tmp_path, refuses, text):
    path = tmp_path / "in_to_in9.json"
    path.write_text(text)
    with refuses(path, "1,000 classes"):
        read_in9_mapping(path)
    with refuses("gone.json", "No such file"):
        read_in9_mapping(tmp_path / "gone.json")
