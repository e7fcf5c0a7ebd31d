import tracemalloc

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


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_image_in_two_splits_is_refused_with_its_rows(folder, refuses, name):
    columns = {"path": ["a.png", "b.png", "in/../a.png"], "label": ["cat", "dog", "cat"], "split": [0, 0, 2]}
    with refuses(name, "one split", "1 image: a.png in rows 1 (train), 3 (test)", "take the rows out"):
        read_table_file(write(folder / name, columns))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_image_may_have_several_rows_in_one_split(folder, name):
    columns = {"path": ["a.png", "b.png", "a.png"], "label": ["cat", "dog", "cat"], "group": ["x", "x", "y"]}
    assert [sample.group for sample in read_table_file(write(folder / name, columns)).samples] == [0, 0, 1]


NAN = float("nan")


def test_nan_in_parquet_is_what_is_missing(folder, refuses):
    columns = {"path": ["a.png", "b.png", "in/c.png"], "label": [1.0, 0.0, 1.0], "group": [NAN, 3.0, 10.0]}
    table = read_table_file(write(folder / "t.parquet", columns))
    assert (table.class_names, table.group_names) == (("0", "1"), ("3", "10"))
    assert [sample.group for sample in table.samples] == [None, 0, 1]
    with refuses("t.parquet, row 2: expected a label"):
        read_table_file(write(folder / "t.parquet", columns | {"label": [1.0, NAN, 0.0]}))
    with refuses("t.parquet, row 2: expected a path"):
        read_table_file(write(folder / "t.parquet", columns | {"path": ["a.png", None, "b.png"]}))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "None", "null"])
def test_text_is_a_name_whatever_it_says(folder, name, word):
    table = read_table_file(write(folder / name, COLUMNS | {"label": [word, "wolf", word], "group": [word, "x", "y"]}))
    assert set(table.class_names) == {word, "wolf"}
    assert set(table.group_names) == {word, "x", "y"}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_numbers_with_a_point_where_all_are_whole(folder, name):
    columns = {"path": ["a.png", "b.png", "in/c.png"], "label": ["1.0", "10.0", "2"], "split": ["0.0", "2.0", "1.0"]}
    table = read_table_file(write(folder / name, columns))
    assert table.class_names == ("1", "2", "10")
    assert [sample.split for sample in table.samples] == ["train", "test", "val"]
    assert read_table_file(write(folder / name, columns | {"label": ["1.0", "0.5", "2"]})).class_names == (
        "0.5",
        "1.0",
        "2",
    )


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_names_of_columns_as_people_spell_them(folder, refuses, name):
    spelt = {"Path": "path", "LABEL ": "label", " Group": "group", "SPLIT": "split", "mask": "mask"}
    columns = {new: COLUMNS[old] for new, old in spelt.items()}
    assert read_table_file(write(folder / name, columns)) == read_table_file(write(folder / name, COLUMNS))
    with refuses(name, "expected one column label, got 2 ('label', 'Label')"):
        read_table_file(write(folder / name, COLUMNS | {"Label": ["x", "y", "z"]}))
    more = {"Other": [1, 2, 3], "other": [1, 2, 3]}
    assert len(read_table_file(write(folder / name, COLUMNS | more))) == 3


def test_a_name_twice_in_the_header(folder, refuses):
    (folder / "t.csv").write_text("path,label,label\na.png,cat,dog\n")
    with refuses("t.csv", "expected one column label, got 2"):
        read_table_file(folder / "t.csv")


TEXT = "path,label,split\na.png,wölfe,train\nb.png,cat,test\nin/c.png,cat,train\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_dialects_of_spreadsheets(folder, delimiter, encoding, line_end):
    text = TEXT.replace(",", delimiter).replace("\n", line_end)
    (folder / "t.csv").write_bytes(text.encode(encoding))
    table = read_table_file(folder / "t.csv")
    assert table.class_names == ("cat", "wölfe")
    assert table.splits == ("train", "test")


@pytest.mark.parametrize(
    "text",
    [
        TEXT + "\n\n  \n,,\n,,,,\n",
        "\n\n" + TEXT,
        "\ufeff" + TEXT,
        "\ufeff\ufeff" + TEXT.replace(",", ";"),
        "sep=;\n" + TEXT.replace(",", ";"),
        TEXT.replace(",", " , "),
        TEXT.replace("\n", ",,\n"),
        'path;label;split;"a, b, c"\na.png;wölfe;train;1,5\nb.png;cat;test;\nin/c.png;cat;train;2,5\n',
    ],
)
def test_what_spreadsheets_leave_behind(folder, text):
    (folder / "t.csv").write_text(text)
    expected = folder / "expected.csv"
    expected.write_text(TEXT)
    assert read_table_file(folder / "t.csv").samples == read_table_file(expected).samples


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "utf-16-be"])
def test_text_in_an_encoding_that_nothing_tells(folder, refuses, encoding):
    (folder / "t.csv").write_bytes(TEXT.encode(encoding))
    with refuses("t.csv", "UTF-8", "another encoding"):
        read_table_file(folder / "t.csv")


def test_an_empty_row_amid_the_others_is_named(folder, refuses):
    (folder / "t.csv").write_text("path,label\na.png,cat\n,\nb.png,dog\n")
    with refuses("t.csv, row 2"):
        read_table_file(folder / "t.csv")


WIDE = 200_000


def test_only_the_columns_that_count_are_kept_of_wide_tables(folder):
    lines = ["path,label" + "".join(f",c{number}" for number in range(WIDE)), *["a.png,cat", "b.png,dog"] * 200]
    (folder / "t.csv").write_text("\n".join(lines))
    tracemalloc.start()
    try:
        table = read_table_file(folder / "t.csv")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(table) == 400
    assert peak < 1000 * WIDE  # bytes; as dicts of all columns, the rows took a hundred times as much


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("a.png," + "x" * 2_000_000, "larger than field limit"),
        ("a.png" + ",aa" * 3_000_000, "at most 4,194,304 letters"),
        ('"\n",' * 1_500_000, "at most 4,194,304 letters"),
        ('"' + "x\n" * 1_000_000, "larger than field limit"),
    ],
    ids=["field", "line", "row of many lines", "quote"],
)
def test_rows_without_an_end(folder, refuses, rest, said):
    (folder / "t.csv").write_text(f"path,label\n{rest}\n")
    with refuses("t.csv", said):
        read_table_file(folder / "t.csv")


def test_a_parquet_file_of_very_many_columns(folder, refuses):
    content = b"PAR1" + bytes(2**23) + (2**23).to_bytes(4, "little") + b"PAR1"
    (folder / "t.parquet").write_bytes(content)
    with refuses("t.parquet", "thousands of columns"):
        read_table_file(folder / "t.parquet")
