"""Every block of code in the README and in the documentation runs, page by page, in a folder with small data.

- ``python``: as printed, one after another, with the same names.
- ``sh``: every line; ``ifam`` lines with what `smaller` appends, so that they take a second and no network.
- ``console``: ``$ command`` as printed; what follows has to be what it says, with … for anything.
- what is not code is ``text``, ``csv`` or ``mermaid``.
"""

import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from generated import write_scenes

from ifam.cli import main, parser
from ifam.model.reference import PREFIXES, RENAMED
from ifam.model.two_stage import IFAM
from ifam.scenes import dataset
from ifam.scenes.dataset import ScenesConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, SHOWN = {"python", "sh", "console"}, {"text", "csv", "mermaid"}
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>.*)\n(?P<code>(?:.*\n)*?)(?P=indent)```$", re.M)

PUBLISHED = "the data set of the paper: its layout and its table have tests of their own"
PROCESSES = "several processes: tests/training/test_processes.py and test_machines.py start some"
MACHINES = "torchrun --nnodes 2 --node-rank {rank} --nproc-per-node 8 --master-addr 10.0.0.1 --master-port 29500"
NOT_RUN = {
    "pip install .": "needs a network",
    "ifam benchmark cub --data CUB_200_2011 --runs runs": PUBLISHED,
    "ifam benchmark metashift --data metashift --runs runs": PUBLISHED,
    "ifam benchmark siim_acr --data siim --runs runs": PUBLISHED,
    "ifam benchmark in9 --data imagenet --imagenet9 bg_challenge --class-map in_to_in9.json --runs runs": PUBLISHED,
    "ifam benchmark speed --json speed.json": "times a ViT-B for minutes",
    "ifam benchmark faithfulness --data photographs --runs runs": "an hour of explainers; it has tests of its own",
    "torchrun --nproc-per-node gpu -m ifam train photographs/ --out run": PROCESSES,
    "torchrun --nproc-per-node 4 -m ifam evaluate run photographs/": PROCESSES,
    f"{MACHINES.format(rank=0)} -m ifam train photographs/ --out run": PROCESSES,
    f"{MACHINES.format(rank=1)} -m ifam train photographs/ --out run": PROCESSES,
    "torchrun --nproc-per-node 8 --no-python ifam predict run shards/ --out predictions/ --workers 4": "eight GPUs",
    "ifam app run photographs/": "serves until it is stopped; tests/app has a browser look at it",
}
"""lines that are parsed and not run, and why"""
SMALL = {"train": 16, "val": 8, "test": 8}
FEW = ["--epochs", "2", "--image-size", "48", "--workers", "0", "--device", "cpu"]
TINY = ["--backbone", "test_vit", "--set", "model.pretrained=false"]


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["language"].strip(), dedent(match["code"]), text.count("\n", 0, match.start()) + 2)
        for match in BLOCK.finditer(text)
    ]
    assert 2 * len(found) == len(re.findall("^ *```", text, re.M)), f"{page}: a fence without its end"
    return found


def commands(block: Block) -> list[str]:
    """The lines of a ``sh`` block, without comments and the blanks before them."""
    lines = (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in block.code.splitlines())
    return [line for line in lines if line]


def smaller(words: list[str]) -> list[str]:
    """What makes a command of the documentation small: later options go before earlier ones."""
    options = parser().parse_args(words)
    if words[0] == "train":  # the embedded backbone stays
        return FEW + (TINY if options.backbone or options.recipe else [])
    if words[0] == "benchmark":
        return [*FEW, *TINY, "--seeds", "0", "--methods", *(options.methods or ["erm"])]
    return ["--backbone", "test_vit", "--image-size", "48"] if words[0] == "import" else []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the pages name: photographs, tables, a run trained on them, and folders with faults."""
    folder = tmp_path_factory.mktemp("examples")
    birds = write_scenes(folder / "birds")
    rows = [line.split(",") for line in (birds / "metadata.csv").read_text().splitlines()[1:]]
    lines, patients = ["path,label,group,split,mask"], ["path,label,patient"]
    for _, file, _, split, _, name, place in rows:
        split_name = ("train", "val", "test")[int(split)]
        lines.append(f"{file},{name},{name} on {place},{split_name},masks/{file}")
        copy(birds / file, folder / f"photographs/{split_name}/{name}/{place}")
        copy(birds / file, folder / f"ungrouped/{split_name}/{name}")
        scan = folder / f"scans/{name}/{name}{len(lines) % 4}"
        copy(birds / file, scan)
        patients.append(f"{scan.relative_to(folder)}/{Path(file).name},{name},{scan.name}")
        copy(birds / file, folder / "flat")
        copy(birds / file, folder / "cats/cat")
    (birds / "table.csv").write_text("\n".join(lines))
    (folder / "scans.csv").write_text("\n".join(patients))
    for name in ("bird.jpg", "mine.jpg"):
        shutil.copy(birds / rows[-1][1], folder / name)
    shutil.copytree(folder / "ungrouped", folder / "broken")
    (folder / "broken/train/gull/7.png").write_bytes(b"no image")
    for name in ("finch", "heron"):
        copy(birds / rows[0][1], folder / "others" / name)
    shutil.copytree(birds, folder / "waterbird_complete95_forest2water2")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards/photographs-000000.tar", "w") as out:
        out.add(folder / "flat", ".")
    torch.save(snapshot(), folder / "snapshot_best.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "photographs", "--out", "run", "--num-parts", "2", *FEW, *TINY]) == 0
    return folder


def copy(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder)


def snapshot() -> dict[str, Any]:
    """A model under the names of the authors' code."""
    theirs = {ours: name for name, ours in (RENAMED | PREFIXES).items()}
    state = IFAM("test_vit", num_parts=2, num_classes=2, image_size=48, pretrained=False).state_dict()
    first = {name: next(ours for ours in theirs if name.startswith(ours)) for name in state}
    return {"model_state": {name.replace(first[name], theirs[first[name]], 1): value for name, value in state.items()}}


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder, and a generated data set of a few scenes."""
    folder = tmp_path / "place"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("IFAM_CACHE", str(tmp_path / "cache"))
    original, small = dataset.write_scenes, ScenesConfig(**SMALL)
    monkeypatch.setattr(dataset, "write_scenes", lambda path, config, progress: original(path, small, progress))
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_is_of_a_known_kind(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= RUN | SHOWN


def runnable() -> list[Path]:
    return [page for page in PAGES if {block.language for block in blocks(page)} & RUN]


@pytest.mark.parametrize("page", runnable(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples(page: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.code  # errors name the line of the page
            exec(compile(source, str(page), "exec"), names)
        elif block.language == "sh":
            for line in commands(block):
                run(line, capsys)
        elif block.language == "console":
            for command, said in sessions(block):
                check(command, said, capsys)


def run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        assert words[0] in re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        return
    assert program == "ifam" or line in NOT_RUN, f"{line}: expected a command of ifam or make"
    if program == "ifam":
        options = parser().parse_args(words)
    if line in NOT_RUN:
        return
    if words[0] == "train" and not options.resume:  # the page trains the run that is there for other pages
        shutil.rmtree(options.out, ignore_errors=True)
    status = main([*words, *smaller(words)])
    output = capsys.readouterr()
    assert status == 0, f"{line}\n{output.out}{output.err}"


def sessions(block: Block) -> Iterator[tuple[str, str]]:
    for session in block.code.split("$ ")[1:]:
        command, _, said = session.partition("\n")
        yield command, said


def check(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    status = main(shlex.split(command)[1:])
    captured = capsys.readouterr()
    lines = ("(?:.*\n)*" if line == "…" else f"{re.escape(line).replace('…', '.*')}\n" for line in said.splitlines())
    output = captured.out + captured.err
    assert re.fullmatch("".join(lines), output), f"{command}\n{output}"
    assert (status == 0) == ("error: " not in said)


def test_what_is_not_run_is_still_there() -> None:
    printed = {line for page in PAGES for block in blocks(page) if block.language == "sh" for line in commands(block)}
    assert NOT_RUN.keys() <= printed


@pytest.mark.parametrize(
    ("said", "holds"), [("a … c\n…\nd\n", True), ("a b\n…\n", False), ("…\nd\n", True), ("a b c\nd\n", False)]
)
def test_a_session_that_says_something_else_is_noticed(
    said: str, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(globals(), "main", lambda words: print("a b c\nx\nd") or 0)
    with nullcontext() if holds else pytest.raises(AssertionError):
        check("ifam", said, capsys)
