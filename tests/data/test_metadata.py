from pathlib import Path

import pytest

from ifam.data.account import Fate
from ifam.data.metadata import read_metadata
from ifam.data.read import read_table

PLAIN = "img_id,img_filename,y,split,place\n"


def test_everything_that_the_folder_holds(scenes):
    table = read_metadata(scenes)
    assert table.class_names == ("finch", "gull")
    assert table.group_names == ("finch/land", "finch/sea", "gull/land", "gull/sea")
    assert table.splits == ("train", "val", "test")
    assert table.keypoint_names == ("beak", "tail")
    first, fourth = table.samples[0], table.samples[3]
    assert (first.name, first.label, first.split, first.group) == ("images/0.jpg", 0, "train", 0)
    assert first.path == scenes / "images/0.jpg"
    assert first.mask == scenes / "masks/images/0.png"
    assert first.keypoints == {"beak": (0.0, 2.5), "tail": (1.0, 1.0)}
    assert first.box == (0, 1, 7, 4)
    assert (fourth.label, fourth.group, fourth.box) == (1, 3, None)
    assert set(table.group_counts().values()) == {3}


def test_names_fall_back_to_numbers_and_groups_are_all_pairs(tmp_path, draw):
    draw(tmp_path / "1.png")
    draw(tmp_path / "2.png")
    (tmp_path / "metadata.csv").write_text(PLAIN + "1,1.png,7,2,0\n2,2.png,3,2,1\n3,2.png,7,2,5\n")
    table = read_metadata(tmp_path)
    assert table.class_names == ("3", "7")
    assert table.group_counts() == {"3/0": 0, "3/1": 1, "3/5": 0, "7/0": 1, "7/1": 0, "7/5": 1}
    assert table.samples[0].keypoints is None
    assert not table.has_masks


def test_without_places_there_are_no_groups(tmp_path, draw):
    for name in ("1.png", "2.png"):
        draw(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("img_id,img_filename,y,split\n1,1.png,0,0\n2,2.png,1,2\n")
    table = read_metadata(tmp_path)
    assert table.group_names == ()
    assert [(sample.label, sample.split, sample.group) for sample in table.samples] == [
        (0, "train", None),
        (1, "test", None),
    ]


@pytest.mark.parametrize("besides", ["masks/images/1.png", "keypoints.csv"])
def test_a_folder_that_lacks_the_table_alone_is_not_taken_for_class_folders(tmp_path, draw, refuses, besides):
    draw(tmp_path / "images/1.png")
    draw(tmp_path / "others/1.png")
    if besides.endswith(".png"):
        draw(tmp_path / besides)
    else:
        (tmp_path / besides).write_text("img_id,part,x,y\n1,beak,1,1\n")
    with refuses(tmp_path, "no metadata.csv", "img_id, img_filename, y, split", "masks/<img_filename>.png"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("filename", "mask"), [("images/1.jpg", "1.png"), ("images/1.jpg", "images/1.png"), ("a/b.jpg", "a/b.png")]
)
def test_where_masks_are_found(tmp_path, draw, filename, mask):
    draw(tmp_path / filename)
    draw(tmp_path / "other.jpg")
    draw(tmp_path / "masks" / mask, mode="L", color=255)
    (tmp_path / "metadata.csv").write_text(PLAIN + f"1,{filename},0,0,0\n2,other.jpg,1,0,0\n")
    assert [sample.mask for sample in read_metadata(tmp_path).samples] == [tmp_path / "masks" / mask, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["got nothing"]),
        (PLAIN, ["got a header alone"]),
        ("img_id,img_filename,label\n1,1.png,0\n", ["add y, split", "got img_id, img_filename, label"]),
        (PLAIN + "1,1.png,cat,0,0\n", ["row 1, column y", "'cat'"]),
        (PLAIN + "1,1.png,0,0,\n", ["row 1, column place", "''"]),
        (PLAIN + "1,1.png,0,3,0\n2,1.png,1,0,0\n", ["row 1", "'3'"]),
        (PLAIN + "1,1.png,0,0,0\n2,gone.png,1,0,0\n3,also.png,1,0,0\n", ["2 of 3", "row 2", "gone.png"]),
        (PLAIN + "1,1.png,0,0,0,9\n", ["row 1", "expected 5 fields, got 6"]),
        (PLAIN + "1,../x.png,0,0,0\n2,1.png,1,0,0\n", ["row 1", "../x.png"]),
        (PLAIN + "1,/etc/passwd,0,0,0\n2,1.png,1,0,0\n", ["row 1", "/etc/passwd"]),
        (PLAIN + "1,1.png\0,0,0,0\n2,1.png,1,0,0\n", ["row 1"]),
        (PLAIN[:-1] + ",y_name\n1,1.png,0,0,0,cat\n2,1.png,0,0,0,dog\n", ["row 2", "'cat'", "'dog'"]),
        (PLAIN[:-1] + ",y_name\n1,1.png,0,0,0,cat\n2,1.png,1,0,0,cat\n", ["y_name"]),
        (PLAIN[:-1] + ",box_x,box_y,box_w,box_h\n1,1.png,0,0,0,1,1,0,5\n2,1.png,1,0,0\n", ["row 1", "0 × 5"]),
    ],
)
def test_refused(tmp_path, draw, refuses, text, said):
    draw(tmp_path / "1.png")
    (tmp_path / "metadata.csv").write_text(text)
    with refuses(tmp_path / "metadata.csv", *said):
        read_metadata(tmp_path)


def test_links_are_followed_wherever_they_lead_and_counted(tmp_path, draw):
    draw(tmp_path / "elsewhere/1.png")
    draw(tmp_path / "data/real/2.png")
    (tmp_path / "data/link.png").symlink_to(tmp_path / "elsewhere/1.png")
    (tmp_path / "data/images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/inner").symlink_to("real")
    names = ("link.png", "images/1.png", "inner/2.png", "real/2.png")
    rows = [f"{number},{name},{number % 2},0,0" for number, name in enumerate(names)]
    (tmp_path / "data/metadata.csv").write_text(PLAIN + "\n".join(rows))
    table = read_metadata(tmp_path / "data")
    assert [sample.name for sample in table.samples] == list(names)
    inside, outside = table.account.entries
    assert (inside.fate, inside.counts) == (Fate.LINKED, {"inner": 1})
    assert (outside.fate, outside.counts) == (Fate.LINKED, {".": 1, "images": 1})


@pytest.mark.parametrize("name", ["../elsewhere/1.png", "in/../../elsewhere/1.png", "{above}/elsewhere/1.png"])
def test_names_that_leave_the_folder_are_refused(tmp_path, draw, refuses, name):
    draw(tmp_path / "elsewhere/1.png")
    draw(tmp_path / "data/in/1.png")
    name = name.format(above=tmp_path)
    (tmp_path / "data/metadata.csv").write_text(PLAIN + f"1,{name},0,0,0\n2,in/1.png,1,0,0\n")
    with refuses("row 1", name, "inside"):
        read_metadata(tmp_path / "data")


def test_absolute_paths_inside_the_folder_and_winding_ones_are_read_as_meant(tmp_path, draw, monkeypatch):
    draw(tmp_path / "data/in/1.png")
    draw(tmp_path / "data/2.png")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data")
    rows = f"1,{tmp_path}/data/in/1.png,0,0,0\n2,in/../2.png,1,0,0\n3,{link}/in/../2.png,1,0,1\n4,in\\1.png,0,0,1\n"
    (tmp_path / "data/metadata.csv").write_text(PLAIN + rows)
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "data", link, Path("data"), Path("data/in/..")):
        assert [sample.name for sample in read_metadata(folder).samples] == ["in/1.png", "2.png", "2.png", "in/1.png"]


def test_numbers_with_a_point_as_pandas_writes_them(tmp_path, draw):
    for name in ("1.png", "2.png"):
        draw(tmp_path / name)
    (tmp_path / "metadata.csv").write_text(PLAIN + "1.0,1.png,0.0,0.0,1.0\n2,2.png,1,2,0\n")
    (tmp_path / "keypoints.csv").write_text("img_id,part,x,y\n1,beak,1,1\n2.0,beak,2,2\n")
    table = read_metadata(tmp_path)
    assert table.class_names == ("0", "1")
    assert table.group_names == ("0/0", "0/1", "1/0", "1/1")
    assert [(sample.label, sample.split, sample.group) for sample in table.samples] == [(0, "train", 1), (1, "test", 2)]
    assert [sample.keypoints for sample in table.samples] == [{"beak": (1.0, 1.0)}, {"beak": (2.0, 2.0)}]


def test_an_image_in_two_splits_is_refused_with_its_rows(tmp_path, draw, refuses):
    for name in ("1.png", "2.png"):
        draw(tmp_path / name)
    (tmp_path / "metadata.csv").write_text(PLAIN + "1,1.png,0,0,0\n2,2.png,1,2,0\n3,./1.png,0,2,0\n")
    with refuses("metadata.csv", "1 image: 1.png in rows 1 (train), 3 (test)"):
        read_metadata(tmp_path)


def test_the_folder_itself_may_be_a_link(tmp_path, scenes):
    link = tmp_path.with_name(tmp_path.name + "-link")
    link.symlink_to(scenes)
    assert len(read_metadata(link)) == 12


def test_text_that_is_not_utf8(tmp_path, refuses):
    (tmp_path / "metadata.csv").write_bytes(PLAIN.encode() + "1,é.png,0,0,0".encode("latin-1"))
    with refuses("metadata.csv", "UTF-8"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("value", ["left", "nan", "inf", ""])
def test_keypoints_are_finite(scenes, refuses, value):
    (scenes / "keypoints.csv").write_text(f"img_id,part,x,y\n0,beak,1,1\n1,beak,{value},1\n")
    with refuses("keypoints.csv, row 2, column x", repr(value)):
        read_metadata(scenes)
