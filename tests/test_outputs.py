"""Whatever option names a file to write, what stands there is an earlier output or stays."""

import json
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from ifam import outputs
from ifam.cli import main
from ifam.model.two_stage import IFAM
from ifam.outputs import DRAWN, containing, json_with, lines_with, mark_of, parquet_with, require_earlier
from ifam.storage import save

CPU = ["--device", "cpu"]
COMMANDS = {
    "evaluate": (["evaluate", "run", "scenes", *CPU], "--json", "new.json"),
    "intervene": (["intervene", "run", "scenes", *CPU], "--json", "new.json"),
    "intervene, figure": (["intervene", "run", "scenes", *CPU], "--figure", "new.png"),
    "intervene, JPEG": (["intervene", "run", "scenes", *CPU], "--figure", "new.jpg"),
    "verify": (["verify", "run", "scenes", *CPU], "--json", "new.json"),
    "report": (["report", "run", "scenes", *CPU], "--out", "new.html"),
    "predict": (["predict", "run", "scenes", *CPU], "--out", "new.jsonl"),
    "predict, Parquet": (["predict", "run", "scenes", *CPU], "--out", "new.parquet"),
    "export": (["export", "run", "--format", "torch"], "--out", "new.pt2"),
}
OTHERS = {
    ".json": ["run/model.json", "run/data.json", "scenes/annotations.json"],
    ".png": ["scenes/images/1.png", "scenes/masks/images/1.png"],
    ".jpg": ["photograph.jpg"],
    ".html": ["page.html"],
    ".jsonl": ["run/metrics.jsonl"],
    ".parquet": ["table.parquet"],
    ".pt2": ["other.pt2"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, data, and files of other origin with every suffix."""
    place = tmp_path_factory.mktemp("place")
    scenes = write_scenes(place / "scenes", {"train": 1, "val": 1, "test": 1})
    vit = VisionTransformer(img_size=48, patch_size=16, embed_dim=24, depth=1, num_heads=3, num_classes=0)
    save(IFAM(vit, num_parts=2, num_classes=2, class_names=["finch", "gull"]), place / "run")
    (place / "run/data.json").write_text(json.dumps({"classes": ["finch", "gull"], "digest": ""}))
    (place / "run/metrics.jsonl").write_text('{"epoch": 0}\n')
    (scenes / "annotations.json").write_text('{"images": []}')
    (place / "page.html").write_text("<!doctype html><p>about ifam")
    (place / "table.parquet").write_bytes(b"PAR1 and more")
    (place / "other.pt2").write_bytes(b"PK of another program")
    Image.new("RGB", (48, 48)).save(place / "photograph.jpg")
    return place


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_over_its_own_output_alone(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    command, option, new = COMMANDS[name]
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for other in OTHERS[Path(new).suffix]:
        assert main([*command, option, other]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {other}: expected a new name, or an earlier output of this command")
        assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    for _ in range(2):
        assert main([*command, option, new]) in (0, 1), capsys.readouterr().err  # verify may say that it does not hold
        assert "earlier output" not in capsys.readouterr().err
        assert Path(new).stat().st_size
    Path(new).unlink()


def test_empty_files_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    for recognise in (json_with("a"), lines_with("a"), parquet_with("a"), containing("a"), DRAWN):
        require_earlier(tmp_path / "a.json", recognise)
        require_earlier(tmp_path / "none.json", recognise)


@pytest.mark.parametrize("content", [b"x", b"\xff", b"{}", b"[]", b"[" * 100_000, b"9" * 5000, b'{"b": 1}', b'"a"'])
def test_what_is_no_earlier_output(content: bytes, tmp_path: Path, refuses_line: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for recognise in (json_with("a"), lines_with("a"), parquet_with("a"), containing("earlier"), DRAWN):
        with refuses_line(path, "choose another name"):
            require_earlier(path, recognise)
    path.write_text('{"a": 1}')
    for recognise in (json_with("a"), lines_with("a"), containing('"a"')):
        require_earlier(path, recognise)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".PNG"])
def test_drawn_pictures_are_marked(suffix: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    path = tmp_path / f"a{suffix}"
    Figure().savefig(path, **mark_of(path))
    assert DRAWN(path)
    Figure().savefig(path)
    assert not DRAWN(path)
    assert outputs.MARK.isascii()
