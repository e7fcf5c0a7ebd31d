"""A folder with ``metadata.csv`` as Waterbirds has it, with masks, keypoints and boxes where they are."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ifam.data.delimited import Row, read_csv
from ifam.data.links import linked
from ifam.data.names import nfc
from ifam.data.repeats import refuse_two_splits
from ifam.data.rows import BOX, box, files_of, finite, inside, integer, split_name, without_point
from ifam.data.table import ImageTable, Sample
from ifam.data.tree import incomplete
from ifam.errors import DataError

METADATA = "metadata.csv"
_KEYPOINTS = "keypoints.csv"
_REQUIRED = ("img_id", "img_filename", "y", "split")
_PLACE = "place"
_CLASS_NAMES, _PLACE_NAMES = ("y_name", "class_name", "label_name"), ("place_name",)
_TREE = (
    f"{METADATA} with {', '.join(_REQUIRED)} and perhaps {_PLACE}; the images at their img_filename; perhaps "
    f"masks/<img_filename>.png and {_KEYPOINTS} with img_id, part, x, y"
)
_PUBLISHED = "waterbird_complete"  # how the folder of Waterbirds is called

Keypoints = dict[str, tuple[float, float]]


def lacks_metadata(root: Path) -> bool:
    """Whether all but ``metadata.csv`` is there, so that what is left looks like class folders."""
    if not root.is_dir() or (root / METADATA).is_file():
        return False
    annotated = (root / "images").is_dir() and (root / "masks").is_dir()
    annotated = annotated and not any(path.is_dir() for path in (root / "images").iterdir())  # which would be classes
    return annotated or (root / _KEYPOINTS).is_file() or root.resolve().name.startswith(_PUBLISHED)


def read_metadata(root: Path) -> ImageTable:
    """Groups are class × place, all pairs; ``y_name``, ``class_name`` or ``label_name``, and ``place_name`` name them.

    Without a column ``place`` there are no groups.

    A mask is ``masks/<img_filename>`` as PNG, with or without the first folder of the name. ``keypoints.csv``
    (``img_id,part,x,y``) lists the visible points; ``box_x,box_y,box_w,box_h`` are optional columns.
    """
    path = root / METADATA
    if not path.is_file():
        raise incomplete(root, "Waterbirds", _TREE, f"no {METADATA}")
    optional = (_PLACE, *_CLASS_NAMES, *_PLACE_NAMES, *BOX)
    rows = dict(enumerate(read_csv(path, required=_REQUIRED, optional=optional), start=1))
    classes = _names(path, rows, "y", _CLASS_NAMES)
    places = _names(path, rows, _PLACE, _PLACE_NAMES) if _PLACE in rows[1] else {}
    labels, place_order = list(classes), list(places)
    keypoints = _read_keypoints(root / _KEYPOINTS)
    files = files_of(path, {number: row["img_filename"] for number, row in rows.items()}, "image")

    def sample(number: int, row: Row) -> Sample:
        where = f"{path}, row {number}"
        label = labels.index(integer(row["y"], where))
        name = files[number].relative_to(root).as_posix()
        return Sample(
            path=files[number],
            name=name,
            label=label,
            split=split_name(row["split"], where),
            group=label * len(places) + place_order.index(integer(row[_PLACE], where)) if places else None,
            mask=_find_mask(root, name, where),
            keypoints=None if keypoints is None else keypoints.get(_key(row["img_id"]), {}),
            box=box([row[column] for column in BOX], where) if all(row.get(column) for column in BOX) else None,
        )

    samples = tuple(sample(number, row) for number, row in rows.items())
    refuse_two_splits(path, samples)
    return ImageTable(
        root=root,
        layout="metadata.csv",
        class_names=tuple(classes.values()),
        group_names=tuple(f"{label}/{place}" for label in classes.values() for place in places.values()),
        keypoint_names=tuple(sorted({part for points in (keypoints or {}).values() for part in points})),
        samples=samples,
        account=linked(root, files.values()),
        listed_in=path,
    )


def _names(path: Path, rows: Mapping[int, Row], column: str, name_columns: Sequence[str]) -> dict[int, str]:
    """Number -> name, by number; the number itself where no column names it."""
    name_column = next((name for name in name_columns if name in rows[1]), None)
    names: dict[int, str] = {}
    for number, row in rows.items():
        key = integer(row[column], f"{path}, row {number}, column {column}")
        name = str(key) if name_column is None else nfc(row[name_column])
        if names.setdefault(key, name) != name:
            raise DataError(
                f"{path}, row {number}: expected one {name_column} for {column} {key}, got {names[key]!r} and {name!r}"
            )
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: expected a {name_column} of its own for every {column}, got one name twice")
    return dict(sorted(names.items()))


def _key(image: str) -> str:
    """An ``img_id`` as it is compared: one table may have it as 3, the other as 3.0."""
    return without_point([image])[0]


def _find_mask(root: Path, filename: str, where: str) -> Path | None:
    name = PurePosixPath(filename).with_suffix(".png")
    for candidate in (name, PurePosixPath(*name.parts[1:])):
        if os.path.isfile(root / "masks" / candidate):
            return inside(root, f"masks/{candidate}", where)
    return None


def _read_keypoints(path: Path) -> Mapping[str, Keypoints] | None:
    if not path.is_file():
        return None
    keypoints: dict[str, Keypoints] = {}
    for number, row in enumerate(read_csv(path, required=("img_id", "part", "x", "y")), start=1):
        where = f"{path}, row {number}"
        keypoints.setdefault(_key(row["img_id"]), {})[row["part"]] = (
            finite(row["x"], f"{where}, column x"),
            finite(row["y"], f"{where}, column y"),
        )
    return keypoints
