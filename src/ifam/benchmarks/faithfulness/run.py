"""The faithfulness benchmark from its models to its files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ifam.benchmarks.faithfulness.blocks import (
    accuracy,
    draw_blocks,
    mask_on_digit,
    measure_blocks,
    train_ifam,
    train_plain,
)
from ifam.benchmarks.faithfulness.explainers import EXPLAINERS, OWN, check_installed
from ifam.benchmarks.faithfulness.figure import draw
from ifam.benchmarks.faithfulness.measures import (
    EXAMPLES,
    Photographs,
    Protocol,
    areas_of,
    deep_lift_note,
    measure_row,
    prepare,
    read_photographs,
    sample,
)
from ifam.benchmarks.faithfulness.report import MODELS, Row, protocol_of, rows_of, to_json, to_markdown
from ifam.benchmarks.measure import seeded, take_or_train
from ifam.benchmarks.report import is_earlier
from ifam.benchmarks.run import Options, chosen_rows, configuration_of
from ifam.benchmarks.suite import BENCHMARKS
from ifam.console import show_progress
from ifam.data.batch import reading_all
from ifam.data.read import read_table
from ifam.errors import UsageError
from ifam.explanations.explanation import to_photograph
from ifam.files import sha256, write_text
from ifam.files import to_json as json_text
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM
from ifam.outputs import make_room_for
from ifam.storage import WEIGHTS, load
from ifam.training.folder import describe_data

OURS, PLAIN = "ifam-1", "erm"
TABLE = "birds-on-scenes"
"""the benchmark whose rows, and whose folders of runs, these two models are"""
BLOCK_EPOCHS = 30


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be measured, and where it goes."""

    data: Path
    options: Options
    """its ``methods``: models and explainers; all of a kind if none of it is named"""
    protocol: Protocol
    block_epochs: int = BLOCK_EPOCHS
    json_path: Path
    markdown_path: Path
    command: str
    device: str = "cpu"

    @property
    def figure(self) -> Path:
        """Beside the JSON."""
        return self.json_path.with_suffix(".png")


@reading_all()
def run_faithfulness(request: Request, say: Callable[[str], None] = print) -> list[Path]:
    """Measure every explainer on every model and seed.

    The files are written anew after each row; rows that the JSON holds already are taken from it, runs that are missing
    are trained. Returns what was written.

    Raises:
        UsageError: no such method, or a run of other settings or data in the way.
    """
    check_installed()
    files = [request.json_path, request.markdown_path, request.figure]
    for path in files:
        make_room_for(path, is_earlier)
    chosen = _chosen(request.options.methods)
    book = _Book(request)
    for seed in request.options.seeds:
        _measure_photographs(request, chosen, seed, book, say)
        _measure_blocks(request, chosen, seed, book, say)
    book.write(figure=True)
    return files


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    models: Sequence[str]
    methods: Sequence[str]

    def rows(self, part: str, seed: int, weights: Mapping[str, str]) -> Iterator[Row]:
        """Without their numbers. Only iFAM has a map of its own."""
        for model in self.models:
            for name in self.methods:
                if model == OURS or name != OWN:
                    yield Row(
                        part=part,
                        model=model,
                        method=name,
                        seed=seed,
                        weights=weights.get(model, "trained here"),
                        numbers={},
                    )


def _chosen(names: Sequence[str]) -> _Chosen:
    """Of the names of models and explainers; all of a kind if none of it is named."""
    unknown = [name for name in names if name not in (*MODELS, *EXPLAINERS)]
    if unknown:
        raise UsageError(f"methods: expected some of {', '.join((*MODELS, *EXPLAINERS))}, got {unknown[0]!r}")
    models, methods = ([name for name in known if name in names] or list(known) for known in (MODELS, EXPLAINERS))
    return _Chosen(models=models, methods=methods)


class _Book:
    """The rows so far, those of an earlier file included, and what belongs beside them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.table = read_table(request.data)
        self.protocol = protocol_of(request.protocol, describe_data(self.table)["digest"], request.block_epochs)
        path = request.json_path
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.rows = rows_of(before, self.protocol)
        self.context: dict[str, Any] = before.get("context", {}) if self.rows else {}
        self.pictures: list[Any] = []

    def note(self, name: str, key: str, value: Any) -> None:
        """Something beside the rows, by model or seed."""
        self.context.setdefault(name, {})[key] = value

    def has(self, row: Row) -> bool:
        """Whether it was measured before."""
        return row.key in {known.key for known in self.rows}

    def add(self, row: Row) -> None:
        """Keep it, in the place of one with other weights, and write."""
        self.rows = [known for known in self.rows if known.key[:-1] != row.key[:-1]] + [row]
        self.write()

    def write(self, *, figure: bool = False) -> None:
        """The files."""
        content = to_json(self.request.command, self.protocol, self.context, self.rows)
        write_text(self.request.json_path, json_text(content) + "\n")
        write_text(self.request.markdown_path, to_markdown(content))
        if figure:
            draw(self.rows, self.pictures, self.request.figure)


def _measure_photographs(request: Request, chosen: _Chosen, seed: int, book: _Book, say: Callable[[str], None]) -> None:
    """Every row of this seed. iFAM is there in any case: the areas are its."""
    folders = {slug: _run(request, slug, seed, say) for slug in dict.fromkeys((OURS, *chosen.models))}
    ours = load(folders[OURS]).to(request.device)
    assert isinstance(ours, IFAM)
    photographs = _photographs(request, ours, book)
    book.note("kept", str(seed), float(photographs.areas.double().mean() / photographs.tokens(ours)))
    rows = list(chosen.rows("photographs", seed, {slug: _digest(folder) for slug, folder in folders.items()}))
    for slug, folder in folders.items():
        missing = [row for row in rows if row.model == slug and not book.has(row)]
        if not missing:
            continue
        model = ours if slug == OURS else load(folder).to(request.device)
        subjects = prepare(model, photographs, request.protocol)
        book.note("deep_lift_gap", f"{slug}-{seed}", deep_lift_note(subjects, photographs))
        for row in missing:
            explainer = EXPLAINERS[row.method]
            say(f"seed {seed}, {MODELS[slug]}: {explainer.title}")
            progress = show_progress(explainer.title)
            book.add(replace(row, **measure_row(subjects, explainer, photographs, request.protocol, progress)))


def _photographs(request: Request, ours: IFAM, book: _Book) -> Photographs:
    table = sample(book.table, request.protocol.images, request.protocol.seed)
    images, masks = read_photographs(table, ours.preprocessing)
    book.context["num_images"] = len(images)
    book.pictures = book.pictures or [to_photograph(image, ours.preprocessing) for image in images[:EXAMPLES]]
    images = images.to(request.device)
    areas = areas_of(ours, images, request.protocol)
    return Photographs(images=images, areas=areas, masks=None if masks is None else masks.to(request.device))


def _measure_blocks(request: Request, chosen: _Chosen, seed: int, book: _Book, say: Callable[[str], None]) -> None:
    """The same on block images, whose models are trained here."""
    missing = [row for row in chosen.rows("blocks", seed, {}) if not book.has(row)]
    if not missing:
        return
    epochs = request.block_epochs
    say(f"seed {seed}, block images: training the plain transformer and iFAM")
    blocks = draw_blocks(seed)
    train, test = blocks.split()
    plain = train_plain(train, seed, epochs)
    models: Mapping[str, Classifier] = {OURS: train_ifam(train, plain, seed, epochs), PLAIN: plain}
    for slug, model in models.items():
        book.note("block_accuracy", f"{slug}-{seed}", accuracy(model, test))
    book.note("block_mask_on_digit", str(seed), mask_on_digit(models[OURS], test))
    for row in missing:
        say(f"seed {seed}, block images, {MODELS[row.model]}: {EXPLAINERS[row.method].title}")
        found = measure_blocks(models[row.model], EXPLAINERS[row.method], blocks, seed)
        book.add(replace(row, numbers=found))


def _run(request: Request, slug: str, seed: int, say: Callable[[str], None]) -> Path:
    """The folder of a run that is complete, trained if need be."""
    benchmark = BENCHMARKS[TABLE]
    (row,) = chosen_rows(benchmark, [slug])
    folder = request.options.runs / f"{slug}/setting0-seed{seed}"
    config = configuration_of(benchmark, row, row.tries[0], request.options)
    take_or_train(seeded(config, seed), seed, request.data, folder, say)
    return folder


def _digest(folder: Path) -> str:
    return sha256(folder / WEIGHTS)[:16]
