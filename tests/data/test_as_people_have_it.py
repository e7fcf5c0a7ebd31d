"""Folders as people have them: every file is an image, or it is counted with a reason."""

import os
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import features

from ifam.cli import main
from ifam.data.account import Fate
from ifam.data.find import ImageSearch, find_images
from ifam.data.names import look_alikes
from ifam.data.read import read_table, tables_left_out
from ifam.data.table import ImageTable
from ifam.doctor import diagnose_data

Draw = Callable[..., Path]
JPEG = b"\xff\xd8\xff"


def write(root: Path, draw: Draw, names: Sequence[str]) -> Path:
    """Images by their names; a file that ends in no image's suffix gets some bytes."""
    drawable = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith(drawable):
            draw(path, color=(number % 250, number // 250, 9))
        else:
            path.write_bytes(b"something")
    return root


def counts(table: ImageTable) -> dict[str, dict[str, int]]:
    """Split -> class -> images, of classes with images."""
    parts = {split: table.select(split) for split in table.splits} or {"all": table}
    return {
        split: {name: count for name, count in part.class_counts().items() if count} for split, part in parts.items()
    }


def left_out(table: ImageTable) -> dict[str, dict[str, int]]:
    return {entry.reason: dict(entry.counts) for entry in table.account.entries if entry.fate is Fate.LEFT_OUT}


def files_below(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


TWO = {"disc": 1, "ring": 1}


@pytest.mark.parametrize(
    "folders",
    [
        {"Training": "train", "Testing": "test"},
        {"Train": "train", "Val": "val", "Test": "test"},
        {"TRAIN": "train", "TEST": "test"},
        {"train": "train", "Test": "test"},
        {"seg_train": "train", "seg_test": "test"},
        {"seg_train/seg_train": "train", "seg_test/seg_test": "test"},
        {"training_set": "train", "test_set": "test"},
        {"train_images": "train", "valid": "val", "test-images": "test"},
        {"01_train": "train", "02_val": "val", "03_test": "test"},
        {"train": "train", "dev": "val", "holdout": "test"},
        {"TrainSet": "train", "ValidationSet": "val", "hold_out": "test"},
        {"trainset": "train", "testset": "test"},
        {"train2017": "train", "val2017": "val"},
        {"train_val": "train", "test": "test"},
        {"chest-train": "train", "chest-validation": "val", "chest-test": "test"},
        {"dataset/train": "train", "dataset/test": "test"},
        {"archive/Brain MRI/Training": "train", "archive/Brain MRI/Testing": "test"},
        {"train/images": "train", "test/images": "test"},
        {"images/train": "train", "images/val": "val"},
        {"train": "train"},
        {"Testing": "test"},
    ],
    ids=lambda folders: " ".join(folders),
)
def test_splits_by_the_names_that_people_give(tmp_path: Path, draw: Draw, folders: Mapping[str, str]) -> None:
    write(tmp_path, draw, [f"{folder}/{name}/1.png" for folder in folders for name in TWO])
    table = read_table(tmp_path)
    assert counts(table) == dict.fromkeys(folders.values(), TWO)
    assert table.group_names == ()
    assert not table.account


def test_splits_below_the_classes(tmp_path: Path, draw: Draw, refuses: Callable[..., object]) -> None:
    write(tmp_path, draw, [f"{name}/{split}/1.png" for name in TWO for split in ("Train", "test")])
    table = read_table(tmp_path)
    assert (counts(table), table.group_names) == ({"train": TWO, "test": TWO}, ())
    draw(tmp_path / "square/1.png")
    with refuses(tmp_path, "square/1.png"):  # type: ignore[attr-defined]
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train", "eval"], "call eval val or test"),
        (["Train", "train"], "merge those that mean the same"),
        (["train", "test", "test_images"], "merge those that mean the same"),
        (["Training", "Testing", "extra"], "move the others"),
        (["train", "new_test"], "may be either"),
        (["trainA", "trainB", "testA", "testB"], "merge those that mean the same"),
    ],
)
def test_split_folders_that_may_mean_two_things(
    tmp_path: Path, draw: Draw, refuses: Callable[..., object], names: list[str], said: str
) -> None:
    write(tmp_path, draw, [f"{folder}/{name}/1.png" for folder in names for name in TWO])
    with refuses(tmp_path, *names, said):  # type: ignore[attr-defined]
        read_table(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "car", "train"), ("bus", "Train"), ("steam_train", "model_train"), ("test_tube", "beaker"), ("1", "2"),
        ("valley", "training_ground", "contest"),
    ],
)  # fmt: skip
def test_classes_that_are_called_a_little_like_splits(tmp_path: Path, draw: Draw, names: tuple[str, ...]) -> None:
    write(tmp_path, draw, [f"{name}/1.png" for name in names])
    assert read_table(tmp_path).class_names == tuple(sorted(names))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["learning/ring/1.png", "Testing/ring/1.png"], "class Testing is called as a split; "),
        (["ring/1.png", "ring_mask/1.png"], "class ring_mask is called as the masks of another class; "),
        (["ring/1.png", "masks/2.png"], "class masks is called as a folder of masks; "),
        (["disc/1.png", "ring/1.png", "ring/masks/1_m.png"], "group ring/masks is called as a folder of masks; "),
    ],
)
def test_classes_that_may_be_something_else_are_warned_of(
    tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str], names: list[str], said: str
) -> None:
    assert main(["doctor", str(write(tmp_path, draw, names))]) == 0
    assert f"warning: {said}" in capsys.readouterr().out


def test_images_without_labels_are_counted(tmp_path: Path, draw: Draw) -> None:
    write(tmp_path, draw, [f"seg_{split}/seg_{split}/{name}/1.png" for split in ("train", "test") for name in TWO])
    write(tmp_path, draw, [f"seg_pred/seg_pred/{number}.png" for number in range(3)])
    table = read_table(tmp_path)
    assert (counts(table), left_out(table)) == ({"train": TWO, "test": TWO}, {"without labels": {"seg_pred": 3}})
    write(tmp_path / "b", draw, ["train/disc/1.png", "train/ring/1.png", "test/1.png", "test/2.png"])
    table = read_table(tmp_path / "b")
    assert counts(table) == {"train": TWO}
    assert left_out(table) == {"in test, which has no class folders": {".png": 2}}


SYSTEM = [
    "@eaDir/a.png", "@Recycle/a.png", "#recycle/b/a.png", "$RECYCLE.BIN/a.png", "__MACOSX/disc/._a.png", "lost+found/a",
    ".thumbnails/a.png", "System Volume Information/a.png", "_gsdata_/a.png", ".ipynb_checkpoints/a-checkpoint.png",
    "__pycache__/a.pyc", "~snapshot/a.png", "FOUND.000/a.png", ".Trash-1000/files/a.png", "Thumbs.db", "desktop.ini",
    "._1.png", ".DS_Store", ".hidden.png",
]  # fmt: skip


@pytest.mark.parametrize("place", ["", "disc/", "train/", "train/disc/", "disc/land/"])
def test_what_systems_leave_is_no_class_no_group_and_no_image(tmp_path: Path, draw: Draw, place: str) -> None:
    real = ["disc/land/1.png", "disc/sea/1.png", "ring/land/1.png"]
    if place.startswith("train"):
        real = [f"{split}/{name}" for split in ("train", "test") for name in real]
    write(tmp_path, draw, real)
    before = read_table(tmp_path)
    write(tmp_path, draw, [place + name for name in SYSTEM])
    table = read_table(tmp_path)
    assert (table.samples, table.class_names, table.group_names) == (
        before.samples, before.class_names, before.group_names
    )  # fmt: skip
    assert sum(left_out(table)["of the system"].values()) == len(SYSTEM)
    assert left_out(table)["of the system"]["@eaDir"] == 1
    assert len(list(find_images([str(tmp_path)]))) == len(real)


def test_other_suffixes_are_counted(tmp_path: Path, draw: Draw) -> None:
    jpegs = ["1.jfif", "2.JPE", "3.jif", "4.jpg", "5.pjpeg"]
    for name in jpegs:
        shutil.copy(draw(tmp_path / "source.jpg"), draw(tmp_path / "disc/0.png").with_name(name))
    (tmp_path / "source.jpg").unlink()
    write(
        tmp_path, draw, ["ring/1.png", "disc/a.heic", "disc/b.HEIC", "disc/c", "ring/d.txt", "ring/e.jp2", "notes.md"]
    )
    table = read_table(tmp_path)
    assert counts(table) == {"all": {"disc": 6, "ring": 1}}
    assert left_out(table) == {
        "beside the class folders": {".md": 1},
        "with other suffixes": {".heic": 2, "no suffix": 1, ".txt": 1, ".jp2": 1},
    }
    assert diagnose_data(table).unreadable == ()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_taken_for_an_image_where_it_can_be_read(tmp_path: Path, draw: Draw) -> None:
    write(tmp_path, draw, ["disc/1.avif", "ring/1.png"])
    assert counts(read_table(tmp_path)) == {"all": TWO}


@pytest.mark.parametrize(
    "pair",
    [
        ("1.png", "1_mask.png"), ("1.png", "1_mask_1.png"), ("1.jpg", "1_mask.png"), ("1.jpg", "1_seg.png"),
        ("ISIC_1.jpg", "ISIC_1_segmentation.png"), ("1.png", "1-mask.png"), ("1.png", "mask_1.png"),
        ("1.png", "1_label.png"), ("1.png", "1_gt.bmp"), ("1.png", "1_GroundTruth.png"), ("1.png", "1Mask.png"),
        ("benign (1).png", "benign (1)_mask.png"), ("1_image.png", "1_mask.png"), ("img_1.png", "mask_1.png"),
        ("1.png", "masks/1.png"), ("1.jpg", "Mask/1_mask.png"), ("images/1.png", "masks/1.png"),
        ("images/1.jpg", "Ground Truth/1.png"), ("images/a/1.jpg", "masks/a/1.png"),
    ],
)  # fmt: skip
def test_masks_beside_photographs_are_no_photographs(tmp_path: Path, draw: Draw, pair: tuple[str, str]) -> None:
    write(tmp_path, draw, [f"{name}/{file}" for name in TWO for file in pair])
    table = read_table(tmp_path)
    assert {sample.name for sample in table.samples} == {f"{name}/{pair[0]}" for name in TWO}
    assert sum(left_out(table)["masks beside photographs"].values()) == 2
    search = ImageSearch([str(tmp_path)])
    assert sorted(search) == sorted(sample.path for sample in table.samples)
    assert search.account.count(Fate.LEFT_OUT) == 2


@pytest.mark.parametrize(
    ("photographs", "masks"),
    [
        ("{}/1.jpg", "masks/{}/1.png"), ("images/{}/1.jpg", "masks/{}/1.png"),
        ("{}/1.jpg", "ground truth/{}/1_mask.png"), ("train/{}/1.jpg", "masks/train/{}/1.png"),
        ("train/images/{}/1.jpg", "train/masks/{}/1.png"), ("{}/sea/1.jpg", "Masks/{}/sea/1.png"),
    ],
)  # fmt: skip
def test_a_tree_of_masks_beside_the_class_folders_is_no_class(
    tmp_path: Path, draw: Draw, photographs: str, masks: str
) -> None:
    write(tmp_path, draw, [pattern.format(name) for name in TWO for pattern in (photographs, masks)])
    table = read_table(tmp_path)
    assert {sample.name for sample in table.samples} == {photographs.format(name) for name in TWO}
    assert table.class_names == tuple(TWO)
    assert left_out(table).keys() == {"masks beside photographs"}
    assert sum(left_out(table)["masks beside photographs"].values()) == 2
    draw(tmp_path / masks.format("disc")).rename((tmp_path / masks.format("disc")).with_name("other.png"))
    draw(tmp_path / masks.format("disc"))
    assert len(list(find_images([str(tmp_path)]))) == 3  # what is no mask of a photograph stays


@pytest.mark.parametrize(
    "names",
    [
        ["with_mask/with_mask_1.png", "without_mask/without_mask_1.png"],
        ["masks/1.png", "gloves/1.png"],
        ["disc/1_mask.png", "ring/1.png"],
        ["disc/a_label.png", "ring/seg_7.png"],
    ],
)
def test_photographs_that_are_called_masks_stay(tmp_path: Path, draw: Draw, names: list[str]) -> None:
    table = read_table(write(tmp_path, draw, names))
    assert (len(table), bool(table.account)) == (2, False)
    assert len(list(find_images([str(tmp_path)]))) == 2


def test_a_class_in_two_forms_of_unicode_is_one(tmp_path: Path, draw: Draw) -> None:
    composed, apart = (unicodedata.normalize(form, "grèbe") for form in ("NFC", "NFD"))
    places = [f"train/{composed}/mer", f"test/{apart}/mer", f"train/{apart}/mer", "train/oie/été", "test/oie/mer"]
    write(tmp_path, draw, [f"{place}/1.png" for place in places])
    table = read_table(tmp_path)
    assert table.class_names == (composed, "oie")
    assert counts(table) == {"train": {composed: 2, "oie": 1}, "test": {composed: 1, "oie": 1}}
    assert table.group_names == (f"{composed}/mer", "oie/mer", "oie/été")
    assert table.account.count(Fate.RENAMED) == 2
    assert table.align([apart, "oie"]).class_counts() == {apart: 3, "oie": 2}
    assert table.align_groups([f"{apart}/mer"]).group_counts()[f"{apart}/mer"] == 3
    unsplit = replace(table, samples=tuple(replace(sample, split=None) for sample in table.samples))
    known = {unicodedata.normalize("NFD", sample.name): "val" for sample in table.samples}
    assert unsplit.with_known_splits(known).splits == ("val",)


def test_names_that_look_alike_are_warned_of_and_not_joined(
    tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, draw, [f"{name}/1.png" for name in ("Finch", "finch", "gull", "gull ")])
    assert look_alikes(["a", "b", "A "]) == [("a", "A ")]
    assert main(["doctor", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "4 images" in said
    assert "warning: 'Finch' and 'finch': " in said
    assert "warning: 'gull' and 'gull ': " in said


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on Unix alone")
def test_a_class_in_another_encoding(tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/gr\xe8be")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    shutil.copy(draw(tmp_path / "oie/1.png"), os.path.join(folder, os.fsdecode(b"\xe9.png")))
    assert read_table(tmp_path).class_names == (r"gr\xe8be", "oie")
    assert main(["doctor", str(tmp_path)]) == 0
    assert r"renamed 1: 1 to names in UTF-8 (gr\xe8be 1)" in capsys.readouterr().out


@pytest.fixture
def linked(tmp_path: Path, draw: Draw) -> Path:
    """Data with links of every kind; 2 photographs lie elsewhere."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write(tmp_path, draw, ["data/disc/1.png", "data/ring/1.png", "data/ring/in/2.png", "elsewhere/a.png"])
    draw(elsewhere / "deep/b.png")
    for link, target in {
        "disc/more": elsewhere, "disc/again": elsewhere / "deep", "ring/third": elsewhere, "disc/in": data / "ring/in",
        "disc/loop": data / "disc", "disc/up": data, "disc/above": tmp_path, "ring/one.png": elsewhere / "a.png",
        "ring/two.png": data / "disc/1.png", "ring/gone": tmp_path / "nowhere", "ring/self": data / "ring/self",
        "star": data / "ring", "elsewhere_back": elsewhere,
    }.items():  # fmt: skip
        (data / link).symlink_to(target)
    (elsewhere / "back").symlink_to(data)
    (data / "elsewhere_back").unlink()
    return data


def test_links_are_followed_and_each_folder_is_read_once(linked: Path) -> None:
    table = read_table(linked)
    assert {sample.name for sample in table.samples} == {
        "disc/1.png", "disc/again/b.png", "disc/more/a.png", "ring/1.png", "ring/in/2.png", "ring/one.png",
        "ring/two.png",
    }  # fmt: skip
    linked_images = {entry.reason: dict(entry.counts) for entry in table.account.entries if entry.fate is Fate.LINKED}
    assert linked_images == {
        "through links that lead outside the data": {"disc/again": 1, "disc/more": 1, "ring": 1},
        "through links within the data": {"ring": 1},
    }
    assert left_out(table) == {
        "links to folders that are read where they lie": {"star": 1, "disc/in": 1, "disc/loop": 1},
        "links to folders that hold the data": {"disc/up": 1, "disc/above": 1, "disc/more/back": 1},
        "links to folders that are read through another": {"disc/more/deep": 1, "ring/third": 1},
        "links that lead nowhere": {"ring/gone": 1, "ring/self": 1},
    }
    assert len(list(find_images([str(linked)]))) == len(table)


@pytest.mark.parametrize("order", [1, -1])
def test_a_folder_that_is_named_and_linked_is_read_once(tmp_path: Path, draw: Draw, order: int) -> None:
    write(tmp_path, draw, ["a/1.png", "b/2.png"])
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    found = find_images([str(tmp_path / "a"), str(tmp_path / "b")][::order])
    assert sorted(path.name for path in found) == ["1.png", "2.png"]


def test_a_linked_class_is_a_class_and_a_linked_split_a_split(tmp_path: Path, draw: Draw) -> None:
    write(tmp_path, draw, ["data/train/disc/1.png", "store/ring/1.png", "held/ring/2.png", "held/disc/2.png"])
    (tmp_path / "data/train/ring").symlink_to(tmp_path / "store/ring")
    (tmp_path / "data/test").symlink_to(tmp_path / "held")
    (tmp_path / "data/val").symlink_to(tmp_path / "data/train")
    table = read_table(tmp_path / "data")
    assert counts(table) == {"train": TWO, "test": TWO}
    assert table.account.count(Fate.LINKED) == 3


def test_every_file_is_an_image_or_counted(tmp_path: Path, draw: Draw) -> None:
    write(tmp_path, draw, ["README", "x.png", "train/list.csv", "train/disc/1.png", "train/disc/1_mask.png"])
    write(
        tmp_path, draw, [f"test/{name}" for name in ("disc/2.png", "ring/a.xmp", "ring/3.png", "ring/.a", "ring/p/q")]
    )
    write(tmp_path, draw, [f"train/{name}" for name in SYSTEM])
    table = read_table(tmp_path)
    assert len(table) == 3
    assert files_below(tmp_path) == len(table) + table.account.count(Fate.LEFT_OUT)


TINY = ("n01443537", "n01629819")


def write_tiny_imagenet(root: Path, draw: Draw) -> Path:
    write(root, draw, [f"train/{synset}/images/{synset}_{number}.jpeg" for synset in TINY for number in range(2)])
    write(root, draw, [*(f"val/images/val_{number}.jpeg" for number in range(3)), "test/images/test_0.jpeg"])
    for synset in TINY:
        (root / f"train/{synset}/{synset}_boxes.txt").write_text("a\t0\t0\t1\t1\n")
    lines = [f"val_{number}.jpeg\t{TINY[number % 2]}\t0\t0\t9\t9" for number in range(3)]
    (root / "val/val_annotations.txt").write_text("\n".join(lines))
    return root


def test_tiny_imagenet(tmp_path: Path, draw: Draw, refuses: Callable[..., object]) -> None:
    root = write_tiny_imagenet(tmp_path, draw)
    table = read_table(root)
    assert (table.layout, table.group_names) == ("Tiny ImageNet", ())
    assert counts(table) == {"train": dict.fromkeys(TINY, 2), "val": {TINY[0]: 2, TINY[1]: 1}}
    assert left_out(table) == {"with other suffixes": {".txt": 2}, "in folders beside train and val": {"test": 1}}
    (root / "words.txt").write_text(f"{TINY[0]}\tgoldfish, Carassius auratus\n{TINY[1]}\tsalamander\nn00000001\tx\n")
    assert read_table(root).class_names == ("goldfish", "salamander")
    draw(root / "val/images/val_9.jpeg")
    assert left_out(read_table(root))["without a line in val/val_annotations.txt"] == {".jpeg": 1}
    (root / "val/images/val_1.jpeg").unlink()
    with refuses("val_annotations.txt", "val_1.jpeg"):  # type: ignore[attr-defined]
        read_table(root)
    (root / "val/val_annotations.txt").unlink()
    with refuses(root, "Tiny ImageNet", "no val/val_annotations.txt"):  # type: ignore[attr-defined]
        read_table(root)


@pytest.mark.parametrize("content", [b"lesion_id,image_id,dx,split\n1,a,nv,0\n", b"gr\xe8be;x\n", b""])
def test_a_foreign_table_beside_class_folders(
    tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    write(tmp_path, draw, ["disc/1.png", "ring/1.png"])
    (tmp_path / "metadata.csv").write_bytes(content)
    assert counts(read_table(tmp_path)) == {"all": TWO}
    assert tables_left_out(tmp_path) == [tmp_path / "metadata.csv"]
    assert main(["doctor", str(tmp_path)]) == 0
    assert "not metadata.csv; to go by a table, name the table" in capsys.readouterr().err


def test_a_table_that_lacks_a_column_is_not_foreign(tmp_path: Path, draw: Draw, refuses: Callable[..., object]) -> None:
    write(tmp_path, draw, ["disc/1.png", "ring/1.png"])
    (tmp_path / "metadata.csv").write_text("img_id,img_filename,y\n1,disc/1.png,0\n")
    with refuses("metadata.csv", "add split"):  # type: ignore[attr-defined]
        read_table(tmp_path)


def test_commands_say_what_was_left_out(tmp_path: Path, draw: Draw, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, draw, ["disc/1.png", "ring/1.png"])
    assert main(["doctor", str(tmp_path)]) == 0
    assert "files: every file was read as one image\n" in capsys.readouterr().out
    write(tmp_path, draw, ["disc/1_mask.png", "ring/2.heic"])
    assert main(["doctor", str(tmp_path)]) == 0
    line = "left out 2: 1 masks beside photographs (_mask 1), 1 with other suffixes (.heic 1)\n"
    assert f"files: {line}" in capsys.readouterr().out
