import json
import shutil

import pytest
from layouts import CRANE, CRANE_BIRD, FISH, write_imagenet

from ifam.data.read import read_table
from ifam.doctor import diagnose_data

MAPPING = f"{FISH} tench, Tinca tinca\n{CRANE_BIRD} crane\n{CRANE} crane\n"
NAMES = ("tench", f"crane ({CRANE_BIRD})", f"crane ({CRANE})")


@pytest.fixture
def photographs(tmp_path):
    return write_imagenet(tmp_path)


def test_class_folders_in_the_usual_order(photographs):
    table = read_table(photographs)
    assert table.layout == "ImageNet-1K"
    assert table.class_names == (FISH, CRANE_BIRD, CRANE)
    assert table.select("train").class_counts() == {FISH: 2, CRANE_BIRD: 2, CRANE: 2}
    assert table.select("val").class_counts() == {FISH: 1, CRANE_BIRD: 1, CRANE: 1}
    assert table.group_names == ()


def test_readable_names_each_once(photographs):
    (photographs / "LOC_synset_mapping.txt").write_text(MAPPING)
    assert read_table(photographs).class_names == NAMES


def test_names_from_the_class_index(photographs):
    index = {"0": [FISH, "tench"], "134": [CRANE_BIRD, "crane"], "517": [CRANE, "crane"], "999": ["n15075141", "paper"]}
    (photographs / "imagenet_class_index.json").write_text(json.dumps(index))
    assert read_table(photographs).class_names == NAMES


def test_flat_validation_images_with_their_table(photographs, draw):
    shutil.rmtree(photographs / "val")
    for number in range(3):
        draw(photographs / f"val/ILSVRC2012_val_0000000{number}.JPEG")
    rows = [f"ILSVRC2012_val_0000000{number},{synset} 1 2 3 4" for number, synset in enumerate((CRANE, FISH, FISH))]
    (photographs / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    table = read_table(photographs)
    assert table.select("val").class_counts() == {FISH: 2, CRANE_BIRD: 0, CRANE: 1}
    assert table.select("val").samples[0].name == "val/ILSVRC2012_val_00000000.JPEG"
    assert len(table.select("train")) == 6


def test_diagnosis(photographs):
    diagnosis = diagnose_data(read_table(photographs))
    assert "9 images (ImageNet-1K)" in diagnosis.lines()[0]
    assert diagnosis.unreadable == diagnosis.leaks == ()


def test_flat_images_without_their_table_show_the_tree(tmp_path, draw, refuses):
    draw(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    with refuses(tmp_path, "1 images beside each other", "LOC_val_solution.csv", "train/n01440764/"):
        read_table(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764\n")
    with refuses("LOC_val_solution.csv", "ILSVRC2012_val_00000001", "''"):
        read_table(tmp_path)


def test_another_folder_among_the_classes(photographs, draw, refuses):
    draw(photographs / "train/cats/1.jpg")
    with refuses(photographs, "got train/cats", "ImageNet-1K"):
        read_table(photographs)


@pytest.mark.parametrize("text", ["[]", "{", '{"0": 1}', '{"0": ["a", "b", "c"]}'])
def test_a_class_index_that_is_none(photographs, refuses, text):
    (photographs / "imagenet_class_index.json").write_text(text)
    with refuses("imagenet_class_index.json", "n01440764"):
        read_table(photographs)
