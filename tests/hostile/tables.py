"""Tables of images, classes, boxes and masks, in every layout, that say what cannot be."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from layouts import draw, write_cub, write_siim

from hostile.case import DAMAGES, Case, Material, brief, fresh

COMMANDS = ("doctor", "evaluate")
NASTY = (
    "", " ", "-1", "0", "1e999", "-1e308", "nan", "inf", "NaN", "None", "null", "true", "9" * 30, "9" * 5000, "-" * 9,
    "١٢", "²", "1_000", "0x10", "1.0", "1;2", "a,b", 'a"b', "'", "\0", "a\0b", "\x1b[2J", "é", "\u202e", "\udcff\udcfe",
    "\ufeff", "x" * 300, "x" * 200_000, "../../etc/passwd", "/etc/passwd", "/dev/zero", "..", ".", "~", "//", "C:\\x",
    "images/../../x.png", "images", "images/", "file:///etc/passwd", "http://x.invalid/a.png", "%s%n{0}", "=cmd()",
    "test", "2", "3", "*", "[x]",
)  # fmt: skip
HEADER = "img_id,img_filename,y,split,place,y_name,place_name,box_x,box_y,box_w,box_h"
COLUMNS = ("path", "label", "group", "split", "mask")
ROWS = 8


def table_cases() -> Iterator[Case]:
    yield from _cells("metadata.csv", HEADER.split(","), _metadata)
    yield from _cells("keypoints.csv", ["img_id", "part", "x", "y"], _keypoints)
    yield from _cells("list.csv", list(COLUMNS), _list)
    for name, change in SHAPES.items():
        for layout, make in (("metadata.csv", _metadata), ("keypoints.csv", _keypoints), ("list.csv", _list)):
            yield _case(f"{layout}/{name}", _changed_file(make, layout, change))
    for layout, make in (("metadata.csv", _metadata), ("list.csv", _list), ("list.parquet", _parquet)):
        for fault, damage in DAMAGES.items():
            for number in range(4):
                yield _case(f"{layout}/{fault}/{number}", _changed_file(make, layout, damage))
    for name, values in PARQUET.items():
        yield _case(f"list.parquet/{name}", _parquet_of(values))
    for name, content in BOMBS.items():
        yield _case(f"list.parquet/{name}", _bomb(content))
    for file in CUB:
        for number in range(8):
            yield _case(f"cub/{file}/{number}", _cub(file))
    for number in range(25):
        yield _case(f"siim/codes/{number}", _siim)
    for name, text in MAPS.items():
        yield _case(f"class map/{name}", _class_map(text))


def _case(name: str, make: Callable[[Path, Random], list[str]]) -> Case:
    """``make`` returns the data and what else the command gets; doctor and evaluate take turns."""

    def write(place: Path, material: Material, random: Random) -> list[str]:
        data, *more = make(place / "in", random)
        if more or random.choice(COMMANDS) == "evaluate":
            return ["ifam", "evaluate", str(material.model), data, "--json", "out/x.json", *more]
        return ["ifam", "doctor", data]

    return Case(name=f"tables/{name}", write=write)


Table = list[list[str]]


def _metadata(folder: Path) -> Table:
    rows = [HEADER.split(",")]
    for number in range(ROWS):
        draw(folder / f"images/{number}.png", size=(20, 12), color=(30 * number, 50, 200))
        draw(folder / f"masks/images/{number}.png", size=(20, 12), mode="1", color=1)
        y, place, split = number % 2, number // 2 % 2, 2 if number > 3 else 0
        names = (("finch", "gull")[y], ("land", "sea")[place])
        rows.append([str(number), f"images/{number}.png", str(y), str(split), str(place), *names, "1", "1", "9", "7"])
    return rows


def _keypoints(folder: Path) -> Table:
    _write(folder / "metadata.csv", _metadata(folder))
    return [["img_id", "part", "x", "y"], *([str(number), "beak", "3", "4"] for number in range(ROWS))]


def _list(folder: Path) -> Table:
    rows = [list(COLUMNS)]
    for number, row in enumerate(_metadata(folder)[1:]):
        rows.append([row[1], row[5], row[6], ("train", "test")[number % 2], f"masks/{row[1]}"])
    return rows


def _parquet(folder: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    header, *rows = _list(folder)
    file = io.BytesIO()
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    pyarrow.parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), file)
    return file.getvalue()


def _write(path: Path, rows: Table) -> Path:
    import csv

    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return fresh(path, text.getvalue())


def _data(folder: Path, file: str) -> str:
    return str(folder / file if file.startswith("list") else folder)


def _cells(file: str, columns: list[str], make: Callable[[Path], Table]) -> Iterator[Case]:
    """One odd value in one cell, or in a whole column."""
    for column, name in enumerate(columns):
        values = NASTY if name in ("y", "label", "path") else NASTY[column % 8 :: 8]
        for value in values:
            yield _case(f"{file}/{name}/{brief(value)}", _changed_cell(file, column, make, value))


def _changed_cell(
    file: str, column: int, make: Callable[[Path], Table], value: str
) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        header, *rows = make(folder)
        for row in rows if random.random() < 0.2 else [random.choice(rows)]:
            row[column] = value
        _write(folder / file, [header, *rows])
        return [_data(folder, file)]

    return write


def _changed_file(make: Callable[[Path], Any], file: str, change: Any) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        made = make(folder)
        content = made if isinstance(made, bytes) else _write(folder / file, made).read_bytes()
        fresh(folder / file, change(content, random))
        return [_data(folder, file)]

    return write


def _lines(change: Callable[[list[bytes], Random], list[bytes]]) -> Callable[[bytes, Random], bytes]:
    return lambda content, random: b"\r\n".join(change(content.splitlines(), random))


def _without_column(content: bytes, random: Random) -> bytes:
    rows = [line.split(b",") for line in content.splitlines()]
    column = random.randrange(len(rows[0]))
    return b"\n".join(b",".join(row[:column] + row[column + 1 :]) for row in rows)


SHAPES: dict[str, Callable[[bytes, Random], bytes]] = {
    "empty": lambda content, random: b"",
    "spaces": lambda content, random: b"  \n \n",
    "header only": _lines(lambda lines, random: lines[:1]),
    "no header": _lines(lambda lines, random: lines[1:]),
    "header twice": _lines(lambda lines, random: [lines[0], *lines]),
    "column twice": _lines(lambda lines, random: [line + b"," + line.split(b",")[0] for line in lines]),
    "no column a": _without_column,
    "no column b": _without_column,
    "no column c": _without_column,
    "rows twice": _lines(lambda lines, random: [*lines, *lines[1:]]),
    "one row": _lines(lambda lines, random: lines[:2]),
    "short rows": _lines(lambda lines, random: [lines[0], *(line[: len(line) // 2] for line in lines[1:])]),
    "long rows": _lines(lambda lines, random: [lines[0], *(line + b",1,2,3" for line in lines[1:])]),
    "open quote": lambda content, random: content.replace(b",", b',"', 9),
    "byte order mark": lambda content, random: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content, random: content.decode().encode("utf-16"),
    "UTF-32": lambda content, random: content.decode().encode("utf-32"),
    "Latin-1": lambda content, random: content.replace(b"finch", b"fin\xe7"),
    "NUL bytes": lambda content, random: content.replace(b"\n", b"\0\n"),
    "old Mac": lambda content, random: content.replace(b"\r\n", b"\r"),
    "semicolons": lambda content, random: content.replace(b",", b";"),
    "tabs": lambda content, random: content.replace(b",", b"\t"),
    "noise": lambda content, random: random.randbytes(3000),
    "long field": lambda content, random: content + b"x" * 300_000,
    "long quoted field": lambda content, random: content + b'"' + b"x" * 300_000,
    "many commas": lambda content, random: content + b"," * 1_000_000,
    "many lines": lambda content, random: content + b"\r\n" * 300_000,
    "many columns": lambda content, random: b",".join(b"c%d" % number for number in range(50_000)) + b"\n1",
    "a picture": lambda content, random: b"\x89PNG\r\n\x1a\n" + content,
    "a zip": lambda content, random: b"PK\3\4" + content,
}  # fmt: skip


def _paths(folder: Path) -> dict[str, list[Any]]:
    header, *rows = _list(folder)
    return {name: [row[column] for row in rows] for column, name in enumerate(header)}


PARQUET: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "labels as numbers": lambda table: table | {"label": [1, 2] * 4},
    "labels as halves": lambda table: table | {"label": [0.5, float("nan")] * 4},
    "labels as lists": lambda table: table | {"label": [["a"], ["b"]] * 4},
    "labels as null": lambda table: table | {"label": [None] * ROWS},
    "labels as bytes": lambda table: table | {"label": [b"\xff\xfe", b"a"] * 4},
    "labels as structures": lambda table: table | {"label": [{"a": 1}, {"a": 2}] * 4},
    "labels as truth": lambda table: table | {"label": [True, False] * 4},
    "paths as numbers": lambda table: table | {"path": list(range(ROWS))},
    "paths as bytes": lambda table: table | {"path": [b"\xff" for _ in range(ROWS)]},
    "paths as null": lambda table: table | {"path": [None] * ROWS},
    "absolute paths": lambda table: table | {"path": ["/etc/passwd"] * ROWS},
    "paths that leave": lambda table: table | {"path": ["../x.png"] * ROWS},
    "paths with NUL": lambda table: table | {"path": ["images/\0"] * ROWS},
    "splits as numbers": lambda table: table | {"split": [0, 2] * 4},
    "splits as halves": lambda table: table | {"split": [0.5] * ROWS},
    "split by null": lambda table: table | {"split": [None, "test"] * 4},
    "masks as null": lambda table: table | {"mask": [None] * ROWS},
    "groups as dates": lambda table: table | {"group": [__import__("datetime").date(2020, 1, 1)] * ROWS},
    "no rows": lambda table: {name: [] for name in table},
    "no columns": lambda table: {},
    "no path": lambda table: {name: values for name, values in table.items() if name != "path"},
    "odd names": lambda table: table | {"": [1] * ROWS, "\x1b[2J": [1] * ROWS},
    "more columns": lambda table: table | {f"c{number}": [number] * ROWS for number in range(3000)},
    "pictures inside": lambda table: table | {"picture": [bytes(2**20)] * ROWS},
}


def _parquet_of(change: Callable[[dict[str, list[Any]]], Any]) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(change(_paths(folder))), folder / "list.parquet")
        return [str(folder / "list.parquet")]

    return write


def _repeated(rows: int, **columns: str) -> Callable[[], Any]:
    """A value so many times, which takes a few bytes."""

    def make() -> Any:
        import pyarrow

        codes = pyarrow.array([0], pyarrow.int32()).take(pyarrow.array([0] * 1000, pyarrow.int32()))
        codes = pyarrow.chunked_array([codes] * (rows // 1000))
        return pyarrow.table(
            {
                name: pyarrow.chunked_array(
                    [pyarrow.DictionaryArray.from_arrays(chunk, pyarrow.array([value])) for chunk in codes.chunks]
                )
                for name, value in columns.items()
            }
        )

    return make


BOMBS: dict[str, Callable[[], Any]] = {
    "ten million rows": _repeated(10_000_000, path="x.png", label="a"),
    "a million rows": _repeated(1_000_000, path="x.png", label="a"),
    "long values": _repeated(4_000, path="x" * 2**20, label="a"),
    "long labels": _repeated(4_000, path="x.png", label="x" * 2**20),
}


def _bomb(make: Callable[[], Any]) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        import pyarrow.parquet

        folder.mkdir(parents=True)
        pyarrow.parquet.write_table(make(), folder / "list.parquet", row_group_size=10**7, compression="zstd")
        return [str(folder / "list.parquet")]

    return write


CUB = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt",
       "parts/parts.txt", "parts/part_locs.txt")  # fmt: skip


def _cub(file: str) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        folder.mkdir(parents=True)
        path = write_cub(folder / "CUB_200_2011") / file
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        line = random.choice(lines)
        line[random.randrange(len(line))] = random.choice(NASTY)
        text = "\n".join(" ".join(line) for line in lines)
        fresh(path, text) if random.random() < 0.6 else fresh(path, DAMAGES["flipped"](path.read_bytes(), random))
        return [str(folder / "CUB_200_2011")]

    return write


CODES = ("-1", "0 2", "4 1", "11 1", "99999 1", "1", "9" * 25 + " 1", "0 -5", "1 " + "9" * 5000, "1 2 3", "0 0", "² 1")


def _siim(folder: Path, random: Random) -> list[str]:
    write_siim(folder, count=5)
    codes = [f"1.{number}, {random.choice((*CODES, *NASTY))}" for number in range(1, 6)]
    fresh(folder / "train-rle.csv", "ImageId, EncodedPixels\n" + "\n".join(codes))
    if random.random() < 0.5:
        rows = [f"1.{number},{random.choice(('0', '1', 'true', *NASTY))}" for number in range(1, 6)]
        fresh(folder / "tubes.csv", "image_id,tube\n" + "\n".join(rows))
    return [str(folder)]


MAPS: dict[str, str] = {
    "empty": "",
    "list": "[1, 2]",
    "number": "3",
    "deep": "[" * 100_000,
    "deep names": '{"a":' * 100_000,
    "long number": '{"0": ' + "9" * 5000 + "}",
    "huge": json.dumps({str(index): 10**30 for index in range(1000)}),
    "halves": json.dumps({str(index): 0.5 for index in range(1000)}),
    "nan": json.dumps({str(index): float("nan") for index in range(1000)}),
    "nulls": json.dumps({str(index): None for index in range(1000)}),
    "right": json.dumps({str(index): index % 9 for index in range(1000)}),
    "twice": '{"0": 1, "0": 2}',
    "surrogate": '{"\\ud800": 1}',
    "bytes": "\udcff\udcfe",
}


def _class_map(text: str) -> Callable[[Path, Random], list[str]]:
    def write(folder: Path, random: Random) -> list[str]:
        _write(folder / "metadata.csv", _metadata(folder))
        fresh(folder / "map.json", text)
        return [str(folder), "--class-map", str(folder / "map.json")]

    return write
