"""``ifam benchmark``."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ifam import benchmarks
from ifam.commands.arguments import add_command
from ifam.commands.settings import FLAGS, settings
from ifam.config import Precision
from ifam.device import pick_device
from ifam.errors import UsageError
from ifam.files import last_name
from ifam.recipes import RECIPES

if TYPE_CHECKING:
    from ifam.benchmarks.run import Options

SEEDS = (0, 1, 2)
IMAGES = 200
NOT_OF_SPEED = (
    "data", "imagenet9", "class_map", "runs", "seeds", "images", "markdown", "recipe", "backbone", "image_size",
    "epochs", "precision", "workers", "set",
)  # fmt: skip
"""options without a meaning there: each of its cases says what is timed"""


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "benchmark",
        run,
        "a table over methods and seeds, the paper's numbers beside ours",
        "ifam benchmark waterbirds --data waterbird_complete95_forest2water2 --runs runs",
    )
    names = (*benchmarks.NAMES, benchmarks.SPEED, benchmarks.FAITHFULNESS)
    command.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    command.add_argument("--data", type=Path, metavar="DIR", help="the data set (scenes draws its own)")
    command.add_argument("--imagenet9", type=Path, metavar="DIR", help="of in9: the folder of the variants")
    command.add_argument("--class-map", type=Path, metavar="FILE", help="of in9: in_to_in9.json")
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder of the runs; complete ones are taken (default benchmark-NAME)"
    )
    command.add_argument("--seeds", type=int, nargs="+", metavar="N", help=f"default {' '.join(map(str, SEEDS))}")
    command.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="ROW",
        help="rows of the table, cases of speed, or models and maps of faithfulness (default: all)",
    )
    command.add_argument("--reference", type=Path, metavar="DIR", help="of speed: a checkout of the authors' code")
    command.add_argument("--rounds", type=int, default=7, metavar="N", help="of speed: default 7")
    command.add_argument("--images", type=int, metavar="N", help=f"of faithfulness: default {IMAGES}")
    command.add_argument("--json", type=Path, metavar="FILE", help="default NAME.json in the folder of the runs")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="default NAME.md in the folder of the runs")
    command.add_argument("--recipe", choices=list(RECIPES), help="to start from (default: the benchmark's)")
    command.add_argument("--backbone", metavar="NAME|PATH", help="as for ifam train (default: the recipe's)")
    command.add_argument("--image-size", type=int, metavar="N", help="pixels (default: the recipe's)")
    command.add_argument("--epochs", type=int, metavar="N", help="default: the recipe's")
    command.add_argument("--device", metavar="D", help="auto, cpu, cuda, mps (default auto)")
    command.add_argument("--precision", choices=get_args(Precision), help="default: the recipe's")
    command.add_argument("--workers", type=int, metavar="N", help="loader processes")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. losses.entropy=0.5")


def run(options: Namespace) -> None:
    """``ifam benchmark``."""
    if options.name == benchmarks.SPEED:
        _benchmark_speed(options)
        return
    runs = options.runs or Path(f"benchmark-{options.name}")
    json_path = options.json or runs / f"{options.name}.json"
    markdown = options.markdown or runs / f"{options.name}.md"
    if options.name == benchmarks.FAITHFULNESS:
        written = _benchmark_faithfulness(options, runs, json_path, markdown)
    else:
        written = _benchmark_methods(options, runs, json_path, markdown)
    print(markdown.read_text(encoding="utf-8"))
    print(", ".join(map(str, written)))


def _benchmark_methods(options: Namespace, runs: Path, json_path: Path, markdown: Path) -> list[Path]:
    from ifam.benchmarks.run import run_benchmark

    run_benchmark(
        options.name,
        options.data,
        _runs_as_asked(options, runs),
        json_path=json_path,
        markdown_path=markdown,
        command=_as_typed(options),
    )
    return [json_path, markdown]


def _benchmark_faithfulness(options: Namespace, runs: Path, json_path: Path, markdown: Path) -> list[Path]:
    from ifam.benchmarks.faithfulness.measures import Protocol
    from ifam.benchmarks.faithfulness.run import Request, run_faithfulness

    images = IMAGES if options.images is None else options.images
    if images < 2:
        raise UsageError(f"images: expected 2 or more, since each lends another its background, got {images}")
    if options.data is None:
        raise UsageError("data: expected --data DIR for this benchmark, got none")
    request = Request(
        data=options.data,
        options=_runs_as_asked(options, runs),
        protocol=Protocol(images=images, precision=options.precision or "auto"),
        json_path=json_path,
        markdown_path=markdown,
        command=f"{_as_typed(options)} --images {images}",
        device=pick_device(options.device or "auto"),
    )
    return run_faithfulness(request)


def _runs_as_asked(options: Namespace, runs: Path) -> "Options":
    from ifam.benchmarks.run import Options

    given = {name: getattr(options, flag, None) for name, flag in FLAGS.items() if flag != "epochs"}
    return Options(
        runs=runs,
        seeds=list(dict.fromkeys(options.seeds or SEEDS)),
        methods=options.methods,
        recipe=options.recipe,
        epochs=options.epochs,
        changes={name: value for name, value in given.items() if value is not None} | settings(options.set),
        imagenet9=options.imagenet9,
        class_map=options.class_map,
    )


def _benchmark_speed(options: Namespace) -> None:
    from ifam.benchmarks.speed.cases import Bench
    from ifam.benchmarks.speed.run import run_speed
    from ifam.benchmarks.speed.theirs import Checkout

    ignored = [f"--{name.replace('_', '-')}" for name in NOT_OF_SPEED if getattr(options, name) not in (None, [])]
    if ignored:
        raise UsageError(
            f"speed: expected its own options alone, since each case says what it times, got {', '.join(ignored)}; "
            "leave them out, or choose cases by --methods"
        )
    if options.rounds < 1:
        raise UsageError(f"rounds: expected 1 or more, got {options.rounds}")
    words = ["ifam benchmark speed", *(["--reference DIR"] if options.reference else [])]
    words += [f"--rounds {options.rounds}", *(["--methods", *options.methods] if options.methods else [])]
    bench = Bench(
        device=pick_device(options.device or "auto"),
        rounds=options.rounds,
        checkout=None if options.reference is None else Checkout(options.reference),
    )
    written = run_speed(options.methods, bench, json_path=options.json or Path("speed.json"), command=" ".join(words))
    print(written[1].read_text(encoding="utf-8"))
    print(", ".join(map(str, written)))


def _as_typed(options: Namespace) -> str:
    """The command for the record, without the paths of this machine."""
    words = [f"ifam benchmark {options.name}"]
    for flag, stands_for in (("data", "DATA"), ("imagenet9", "DIR"), ("class_map", "FILE")):
        if getattr(options, flag) is not None:
            words.append(f"--{flag.replace('_', '-')} {stands_for}")
    if options.backbone is not None:
        words.append(f"--backbone {last_name(options.backbone)}")
    for flag in ("recipe", "image_size", "epochs", "precision"):
        if getattr(options, flag) is not None:
            words.append(f"--{flag.replace('_', '-')} {getattr(options, flag)}")
    words += [f"--set {setting}" for setting in options.set]
    if options.methods:
        words += ["--methods", *options.methods]
    return " ".join((*words, "--seeds", *map(str, options.seeds or SEEDS)))
