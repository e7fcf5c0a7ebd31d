from dataclasses import replace

import pytest

from ifam.data.folders import read_folders
from ifam.data.place import class_by_place, class_of, place_of, usual_classes
from ifam.data.table import ImageTable, Sample
from ifam.doctor import diagnose_data

GROUPS = {("gull", "sea"): 90, ("gull", "land"): 10, ("finch", "land"): 45, ("finch", "sea"): 5}


def table(counts=GROUPS, name="{0}/{1}", split="train") -> ImageTable:
    """So many images of each class and place, without the files."""
    classes = tuple(sorted({pair[0] for pair in counts}))
    groups = {pair: name.format(*pair) for pair in counts}
    names = tuple(sorted(set(groups.values())))
    samples = tuple(
        Sample(path=None, name=f"{pair}{i}", label=classes.index(pair[0]), split=split, group=names.index(groups[pair]))  # type: ignore[arg-type]
        for pair, count in counts.items()
        for i in range(count)
    )
    return ImageTable(root=None, layout="", class_names=classes, group_names=names, samples=samples)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "name", "place"),
    [
        ("gull/land", "gull", "land"),
        ("cat/cat(sofa)", "cat", "sofa"),
        ("gull on land", "gull", "on land"),
        ("gull_0", "gull", "0"),
        ("gull", "gull", ""),
        ("land", "gull", "land"),
        ("gulls/land", "gull", "gulls/land"),
    ],
)
def test_the_place_in_the_name_of_a_group(group, name, place):
    assert place_of(group, name) == place


def test_the_class_in_the_name_of_a_group():
    assert class_of("cat fish/reef", ["cat", "cat fish"]) == "cat fish"
    assert class_of("gull/land", ["cat", "gull"]) == "gull"
    assert class_of("gull", ["gull"]) == "gull"
    assert class_of("land", ["gull"]) is None
    sizes = {"gull/sea": 90, "gull/land": 10, "finch/land": 45, "finch/air": 0, "elsewhere": 3}
    assert usual_classes(sizes, ["gull", "finch"]) == {"sea": {"gull": 90}, "land": {"gull": 10, "finch": 45}}


@pytest.mark.parametrize("name", ["{0}/{1}", "{0}/{0}({1})", "{0} on {1}", "{1}"])
def test_how_far_the_class_follows_the_place(name):
    found = class_by_place(table(name=name), table(name=name))
    assert found.share == pytest.approx((90 + 45) / 150)
    assert found.largest_class == pytest.approx(100 / 150)
    assert (len(found.places), found.num_images) == (2, 150)


def test_a_place_that_only_the_test_images_share():
    train = table({("cat", "sofa"): 20, ("dog", "bench"): 30})
    test = table({("cat", "shelf"): 5, ("dog", "shelf"): 5}, split="test")
    names = (*train.group_names, *test.group_names)
    moved = (replace(one, group=one.group + len(train.group_names)) for one in test.samples)
    whole = replace(train, group_names=names, samples=(*train.samples, *moved))
    assert class_by_place(whole, whole.select("train")).share == 1
    assert class_by_place(train, train) is None  # folders of its own for every class are no places


def test_patients_are_no_places():
    counts = {(name, f"patient{i}"): 2 for i in range(12) for name in ("ill", "well")}
    assert class_by_place(table(counts), table(counts)) is None


def test_doctor_says_it(tmp_path, draw):
    shade = 0
    for (name, place), count in {("a", "sea"): 18, ("a", "wood"): 2, ("b", "wood"): 18, ("b", "sea"): 2}.items():
        for i in range(count):
            shade += 1
            draw(tmp_path / "train" / name / place / f"{i}.png", color=(shade, 0, 0))
    for name in "ab":
        draw(tmp_path / "val" / name / "sea/0.png", color=(0, 9, 0))
    (line,) = [line for line in diagnose_data(read_folders(tmp_path)).lines() if line.startswith("class follows")]
    assert line.startswith(
        "class follows place in 90 % of training images (the most frequent class alone: 50 %): a model"
    )
    assert "next: " in line


def test_doctor_says_that_the_place_tells_little_or_nothing(tmp_path, draw):
    for name in "ab":
        for i in range(20):
            draw(tmp_path / "places/train" / name / f"p{i % 2}" / f"{i}.png", color=(i, 0, 0))
            draw(tmp_path / "none/train" / name / f"{i}.png", color=(i, 0, 0))
    said = diagnose_data(read_folders(tmp_path / "places")).lines()
    assert any("class follows place in 50 %" in line and "hardly tells" in line for line in said)
    assert not any("class follows" in line for line in diagnose_data(read_folders(tmp_path / "none")).lines())
