import subprocess
import sys

from ifam.data.read import read_table, tables_left_out


def test_layouts_are_recognised(scenes, tmp_path_factory, draw):
    assert read_table(scenes).layout == "metadata.csv"
    root = tmp_path_factory.mktemp("folders")
    draw(root / "a/1.png")
    draw(root / "b/1.png")
    assert read_table(str(root)).layout == "folders"
    (root / "list.CSV").write_text("path,label\na/1.png,x\nb/1.png,y\n")
    assert read_table(root / "list.CSV").layout == "table"


def test_tables_by_which_a_folder_is_not_read(scenes, tmp_path_factory, draw):
    root = tmp_path_factory.mktemp("birds")
    draw(root / "images/1.png")
    draw(root / "masks/1.png")
    table = root / "birds.csv"
    table.write_text("path,label\nimages/1.png,x\n")
    assert tables_left_out(root) == [table]
    (root / "masks").rename(root / "silhouettes")
    assert read_table(root).class_names == ("images", "silhouettes")
    assert tables_left_out(root) == [table]
    for other in (table, scenes, root / "images", root / "gone"):
        assert tables_left_out(other) == []


def test_what_is_not_a_data_set(tmp_path, draw, refuses):
    for path in (tmp_path, draw(tmp_path / "1.png")):
        with refuses(path, "metadata.csv", ".parquet", "class folders", "CUB-200-2011, Waterbirds, MetaShift"):
            read_table(path)


def test_what_is_not_there(tmp_path, refuses):
    with refuses(tmp_path / "gone", "expected a data set, got a path that does not exist"):
        read_table(tmp_path / "gone")


def test_reading_and_diagnosing_need_no_torch():
    code = "import sys, ifam.data.read, ifam.data.images, ifam.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
