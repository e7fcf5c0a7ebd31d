"""The whole story offline: a classifier that cheats, the map that shows it, and iFAM that does not."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ifam.config import MethodName, TrainingConfig
from ifam.console import print_comparison, show_progress
from ifam.data.batch import reading_all
from ifam.errors import UsageError
from ifam.files import to_json, write_text
from ifam.interventions import Intervention, choose, try_interventions
from ifam.outputs import mark_of
from ifam.recipes import scenes
from ifam.scenes.creatures import BEST_BY_ANIMAL
from ifam.scenes.dataset import ScenesConfig, cached_scenes, variant_folder

if TYPE_CHECKING:
    from ifam.data.table import ImageTable
    from ifam.model.base import Classifier

METHODS: dict[MethodName, str] = {
    "erm": "plain fine-tuning",
    "pdiscoformer": "late masking (stage 1 alone)",
    "ifam": "iFAM",
}
INTERVENED = "iFAM, as validation chose"
TITLE = (
    "test images whose backgrounds say nothing about the class; by the animal alone at best "
    f"{BEST_BY_ANIMAL:.0%} can be right"
)
COLUMNS = ("method", "worst group", "accuracy", "foreground IoU", "BG-GAP")
FIGURE, NUMBERS, REPORT = "figure.png", "demo.json", "report.md"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; shares in 0–1."""

    name: str
    worst_group: str
    worst_group_accuracy: float
    accuracy: float
    foreground_iou: float | None
    """None for a method without a map"""
    mixed_same: float
    mixed_rand: float
    mean_kept: float | None
    intervention: str | None = None

    @property
    def bg_gap(self) -> float:
        """Accuracy on backgrounds usual for the class, minus accuracy on random ones."""
        return self.mixed_same - self.mixed_rand

    def cells(self) -> tuple[str, ...]:
        """As text, under `COLUMNS`."""
        name = self.name if self.intervention is None else f"{self.name}: {self.intervention}"
        numbers = (self.worst_group_accuracy, self.accuracy, self.foreground_iou, self.bg_gap)
        return (name, *("–" if number is None else f"{number:.3f}" for number in numbers))


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo measured."""

    rows: Sequence[Row]
    seed: int
    num_test_images: int
    seconds: float


def demo_config(method: MethodName, seed: int) -> TrainingConfig:
    """The same recipe for every method."""
    return replace(scenes(method), seed=seed)


@reading_all()
def run_demo(folder: Path, *, seed: int = 0) -> DemoResult:
    """Draw the data, train three classifiers on it, compare them, and leave a report in ``folder``.

    Raises:
        UsageError: ``folder`` holds something already.
        KeyboardInterrupt: stopped by Ctrl-C; the message says how to begin again.
    """
    from ifam.data.read import read_table
    from ifam.storage import load
    from ifam.training.run import train

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: expected a new or empty folder, got one with files; delete it or choose another --out"
        )
    started = time.monotonic()
    root = cached_scenes(ScenesConfig(seed=seed), show_progress("drawing scenes"))
    table = read_table(root)
    print(f"{len(table)} scenes in {root}; in training 95 of 100 animals stand where their kind usually does")
    for number, (method, name) in enumerate(METHODS.items(), start=1):
        print(f"\n{number} of {len(METHODS)}: {name}")
        try:
            train(demo_config(method, seed), table, folder / method)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"interrupted; to begin again, delete {folder}") from stop
    models = {method: load(folder / method) for method in METHODS}
    rows = [_measure(METHODS[method], model, root) for method, model in models.items()]
    rows += _intervened(models["ifam"], table, root)
    result = DemoResult(
        rows=rows, seed=seed, num_test_images=len(table.select("test")), seconds=time.monotonic() - started
    )
    _save_figure(folder / FIGURE, table, models["erm"], models["ifam"])
    _save_report(folder, result)
    return result


def _choose(model: "Classifier", table: "ImageTable") -> Intervention:
    from ifam.model.two_stage import IFAM

    assert isinstance(model, IFAM)
    progress = show_progress("trying interventions")
    return choose(try_interventions(model, table, precision="auto", progress=progress)).intervention


def _intervened(model: "Classifier", table: "ImageTable", root: Path) -> list[Row]:
    """What the intervention that validation chose does, if it chose one."""
    best = _choose(model, table)
    if best == Intervention():
        print("interventions: none detectably helps on the validation split")
        return []
    return [_measure(INTERVENED, model, root, best)]


def _measure(name: str, model: "Classifier", root: Path, intervention: Intervention | None = None) -> Row:
    """Scores on the test split and on its variants."""
    from ifam.data.read import read_table
    from ifam.evaluate import evaluate

    changes = asdict(intervention or Intervention())
    test, same, rand = (
        evaluate(
            model,
            read_table(variant_folder(root, variant)).select("test"),
            precision="auto",
            progress=show_progress(f"{name}, {variant}"),
            **changes,
        )
        for variant in ("original", "mixed_same", "mixed_rand")
    )
    worst = min(test.groups, key=lambda group: test.groups[group].accuracy or 0)
    assert test.worst_group_accuracy is not None
    return Row(
        name=name,
        worst_group=worst,
        worst_group_accuracy=test.worst_group_accuracy,
        accuracy=test.accuracy,
        foreground_iou=test.foreground_iou,
        mixed_same=same.accuracy,
        mixed_rand=rand.accuracy,
        mean_kept=test.mean_kept,
        intervention=None if intervention is None else str(intervention),
    )


def three_sentences(result: DemoResult) -> list[str]:
    """What the numbers say, in plain words."""
    plain, late, ifam = result.rows[:3]
    gain = 100 * (ifam.worst_group_accuracy - plain.worst_group_accuracy)
    return [
        f"Plain fine-tuning is right on {plain.accuracy:.0%} of the test images, but on "
        f"{plain.worst_group_accuracy:.0%} of {plain.worst_group}, its worst group: when backgrounds stop agreeing "
        f"with the class it loses {100 * plain.bg_gap:.0f} points.",
        f"iFAM, whose second stage sees {ifam.mean_kept or 0:.0%} of an image on average, is right on "
        f"{ifam.worst_group_accuracy:.0%} of its worst group, {abs(gain):.0f} points "
        f"{'more' if gain >= 0 else 'less'}, and loses {100 * ifam.bg_gap:.0f}.",
        "Late masking has such a map too, but what it pools under the map has seen the whole image: "
        f"it is right on {late.worst_group_accuracy:.0%} of its worst group.",
    ]


def _save_figure(path: Path, table: "ImageTable", plain: "Classifier", model: "Classifier") -> None:
    """The first test image of each group: chosen by order, not by outcome."""
    from ifam.explanations.comparison import comparison_figure
    from ifam.explanations.figures import picture_file
    from ifam.model.two_stage import IFAM

    assert isinstance(model, IFAM)
    test = table.select("test").samples
    first = [next(sample for sample in test if sample.group == group) for group in range(len(table.group_names))]
    images = {name: sample.path for name, sample in zip(table.group_names, first, strict=True)}
    figure = comparison_figure(images, [table.class_names[sample.label] for sample in first], plain, model)
    with picture_file(path) as temporary:
        figure.savefig(temporary, dpi=130, **mark_of(temporary))


def _save_report(folder: Path, result: DemoResult) -> None:
    """The table on the screen, as Markdown and as JSON."""
    cells, sentences = [row.cells() for row in result.rows], three_sentences(result)
    print()
    print_comparison(TITLE, COLUMNS, cells)
    print("\n" + "\n".join(sentences))
    write_text(folder / NUMBERS, to_json(asdict(result) | {"sentences": sentences}, indent=1) + "\n")
    table = [COLUMNS, ("---", *["--:"] * (len(COLUMNS) - 1)), *cells]
    paragraphs = [
        f"# ifam demo, seed {result.seed}",
        f"{result.num_test_images} {TITLE}. {result.seconds:.0f} s in all.",
        "\n".join(f"| {' | '.join(line)} |" for line in table),
        *sentences,
        f"![the first test image of each group]({FIGURE})",
    ]
    write_text(folder / REPORT, "\n\n".join(paragraphs) + "\n")
    print(
        f"\n{folder / REPORT}, {folder / FIGURE}; {result.seconds:.0f} s; "
        f"next: ifam predict {quote(str(folder / 'ifam'))} IMAGES"
    )
