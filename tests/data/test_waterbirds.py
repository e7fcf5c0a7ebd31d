import shutil

import pytest
from layouts import METADATA_COLUMNS, SPECIES, write_waterbirds

from ifam.data.read import read_table
from ifam.data.waterbirds import waterbird200
from ifam.doctor import diagnose_data

GROUPS = ("landbird/land", "landbird/water", "waterbird/land", "waterbird/water")


@pytest.fixture
def birds(tmp_path):
    """Every species on both places, one in training and one in test, with the published y."""
    return write_waterbirds(tmp_path / "waterbird_complete95_forest2water2")


def test_plain_waterbirds_stay_binary(birds):
    table = read_table(birds)
    assert (table.layout, table.class_names) == ("metadata.csv", ("0", "1"))


def test_species_become_classes_and_groups_stay_type_by_place(birds):
    table = waterbird200(birds)
    assert table.layout == "Waterbird200"
    assert table.class_names == SPECIES
    assert table.group_names == GROUPS
    assert [sample.label for sample in table.samples] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [sample.group for sample in table.samples] == [2, 3, 0, 1, 2, 3, 2, 3]
    assert table.splits == ("train", "test")


def test_types_are_those_of_the_published_y(birds):
    """Western Meadowlark is a water bird there, because its name holds the letters of tern."""
    types = [table_group // 2 for table_group in (sample.group for sample in waterbird200(birds).samples)]
    assert types == [sample.label for sample in read_table(birds).samples]


def test_a_table_that_numbers_the_species_is_recognised(birds):
    write_waterbirds(birds, numbered=True)
    table = read_table(birds)
    assert (table.layout, table.class_names, table.group_names) == ("Waterbird200", SPECIES, GROUPS)
    assert diagnose_data(table).groups["train"] == dict(zip(GROUPS, (1, 0, 3, 0), strict=True))


def test_numbers_that_are_not_the_species_are_plain_classes(birds):
    write_waterbirds(birds, numbered=True)
    path = birds / "metadata.csv"
    path.write_text(path.read_text().replace("Loon/0.jpg,3", "Loon/0.jpg,2"))
    assert read_table(birds).layout == "metadata.csv"


def test_species_without_places_have_no_groups(birds):
    path = birds / "metadata.csv"
    lines = [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    table = waterbird200(birds)
    assert (table.class_names, table.group_names) == (SPECIES, ())
    assert {sample.group for sample in table.samples} == {None}


def test_the_published_folder_without_its_table_shows_the_tree(birds, refuses):
    (birds / "metadata.csv").unlink()
    with refuses(birds, "layout of Waterbirds", "got no metadata.csv", "img_id, img_filename, y, split"):
        read_table(birds)


def test_annotations_come_from_cub_around_it(cub, draw):
    root = cub / "waterbird_complete95_forest2water2"
    shutil.copytree(cub / "images", root)
    names = [sample.name.removeprefix("images/") for sample in read_table(cub).samples]
    rows = [f"{number},{name},{int('Crow' not in name)},0,0,x" for number, name in enumerate(names)]
    (root / "metadata.csv").write_text(METADATA_COLUMNS + "\n".join(rows))
    table, original = waterbird200(root), read_table(cub)
    assert table.class_names == original.class_names
    assert table.keypoint_names == ("beak", "left eye")
    for mine, theirs in zip(table.samples, original.samples, strict=True):
        assert (mine.label, mine.mask, mine.keypoints, mine.box) == (
            theirs.label,
            theirs.mask,
            theirs.keypoints,
            theirs.box,
        )
    assert table.samples[0].path == root / names[0]
    assert diagnose_data(table).unreadable == ()
    table.align(original.class_names)  # a model of CUB can be evaluated on it


def test_birds_of_another_collection_in_cub(cub, draw, refuses):
    root = cub / "other"
    draw(root / "001.Gull/x.jpg")
    draw(root / "002.Crow/x.jpg")
    (root / "metadata.csv").write_text(METADATA_COLUMNS + "1,001.Gull/x.jpg,1,0,0,x\n2,002.Crow/x.jpg,0,0,0,x\n")
    with refuses(root, "got 2 others", "001.Gull/x.jpg"):
        waterbird200(root)


def test_refused(tmp_path, draw, refuses):
    with refuses(tmp_path, "Waterbird200", "metadata.csv", "<species>/<image>.jpg"):
        waterbird200(tmp_path)
    draw(tmp_path / "a.jpg")
    (tmp_path / "metadata.csv").write_text(METADATA_COLUMNS + "1,a.jpg,1,0,0,x\n2,a.jpg,0,0,0,x\n")
    with refuses(tmp_path, "a.jpg", "names no species"):
        waterbird200(tmp_path)
