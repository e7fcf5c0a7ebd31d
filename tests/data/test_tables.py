import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ifam.data.tables import read_table_file


@pytest.fixture
def folder(tmp_path, draw):
    for name in ("a.png", "b.png", "in/c.png", "m.png"):
        draw(tmp_path / name)
    return tmp_path


COLUMNS = {
    "path": ["a.png", "b.png", "in/c.png"],
    "label": ["wolf", "cat", "wolf"],
    "group": ["snow", None, "grass"],
    "split": ["train", "valid", "2"],
    "mask": [None, "m.png", None],
}


def write(path, columns):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        values = zip(*columns.values(), strict=True)
        rows = [",".join("" if value is None else str(value) for value in row) for row in values]
        path.write_text("\ufeff" + "\n".join([",".join(columns), *rows]))  # with the mark that spreadsheets write
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_every_column(folder, name):
    table = read_table_file(write(folder / name, COLUMNS))
    assert table.root == folder
    assert table.class_names == ("cat", "wolf")
    assert table.group_names == ("grass", "snow")
    assert [sample.label for sample in table.samples] == [1, 0, 1]
    assert [sample.group for sample in table.samples] == [1, None, 0]
    assert [sample.split for sample in table.samples] == ["train", "val", "test"]
    assert [sample.mask for sample in table.samples] == [None, folder / "m.png", None]
    assert table.samples[2].path == folder / "in/c.png"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_integer_labels_are_in_the_order_of_numbers(folder, name):
    table = read_table_file(write(folder / name, {"path": ["a.png", "b.png", "in/c.png"], "label": [10, 2, 2]}))
    assert table.class_names == ("2", "10")
    assert table.splits == table.group_names == ()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": ["a.png", "gone.png", "in/c.png"]}, ["1 of 3", "row 2", "gone.png"]),
        ({"path": ["a.png", "in/../../b.png", "in/c.png"]}, ["row 2", "inside"]),
        ({"mask": [None, None, "gone.png"]}, ["mask", "row 3", "gone.png"]),
        ({"label": ["cat", None, "dog"]}, ["row 2", "label"]),
        ({"split": ["train", "dev", "test"]}, ["row 2", "'dev'"]),
        ({"split": ["train", None, "test"]}, ["row 2", "''"]),
    ],
)
def test_refused(folder, refuses, name, change, said):
    with refuses(name, *said):
        read_table_file(write(folder / name, COLUMNS | change))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_missing_columns(folder, refuses, name):
    with refuses(name, "add label", "got path, lable"):
        read_table_file(write(folder / name, {"path": ["a.png"], "lable": ["cat"]}))


def test_damaged_parquet(folder, refuses):
    (folder / "t.parquet").write_bytes(b"PAR1 and nothing more")
    with refuses("t.parquet", "Parquet"):
        read_table_file(folder / "t.parquet")


def test_empty_parquet(folder, refuses):
    with refuses("t.parquet", "at least one row"):
        read_table_file(write(folder / "t.parquet", {"path": pa.array([], pa.string()), "label": pa.array([], "int8")}))


def test_a_parquet_file_of_more_rows_than_bytes(folder, refuses):
    path = folder / "t.parquet"
    rows = 100_000
    pq.write_table(pa.table({"path": ["a.png"] * rows, "label": ["cat"] * rows}), path)
    assert path.stat().st_size < rows
    with refuses(path, "fewer rows than bytes", "100,000"):
        read_table_file(path)


def test_a_parquet_file_of_endless_values(folder, refuses):
    path = folder / "t.parquet"
    pq.write_table(pa.table({"path": ["x" * 2**20] * 100, "label": ["cat"] * 100}), path)
    with refuses(path, "at most 65,536 bytes"):
        read_table_file(path)


def test_other_columns_of_a_parquet_file_are_not_read(folder):
    pictures = {"picture": [b"\xff" * 2**17] * 3}
    assert len(read_table_file(write(folder / "t.parquet", COLUMNS | pictures))) == 3


def test_text_that_is_none_in_a_parquet_file(folder, refuses):
    path = write(folder / "t.parquet", COLUMNS)
    path.write_bytes(path.read_bytes().replace(b"a.png", b"\xff.png"))
    with refuses(path, "expected"):
        read_table_file(path)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_labels_of_thousands_of_digits(folder, name):
    labels = ["9" * 5000, "1", "2"]
    assert read_table_file(write(folder / name, COLUMNS | {"label": labels})).class_names == ("1", "2", labels[0])
