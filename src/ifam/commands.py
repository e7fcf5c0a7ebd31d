"""What each command does with its parsed arguments. Heavy imports happen inside, so that --help stays fast."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam import benchmarks
from ifam.console import print_certificate, print_evaluation, print_row, print_study, show_progress
from ifam.device import pick_device
from ifam.errors import DataError, UsageError, VerificationError

if TYPE_CHECKING:
    from ifam.config import TrainingConfig
    from ifam.data.table import ImageTable
    from ifam.intervene import Study
    from ifam.model.two_stage import IFAM

FLAGS = {
    "method": "method",
    "model.backbone": "backbone",
    "model.num_parts": "num_parts",
    "model.image_size": "image_size",
    "model.mask_gradient": "mask_gradient",
    "model.masks": "masks",
    "optimizer.epochs": "epochs",
    "optimizer.batch_size": "batch_size",
    "optimizer.lr_stage2": "lr",
    "device": "device",
    "precision": "precision",
    "workers": "workers",
    "seed": "seed",
    "skip_unreadable": "skip_unreadable",
}
"""settings that ``ifam train`` has an option of their own for"""


def demo(options: Namespace) -> None:
    """``ifam demo``."""
    from ifam.demo import run_demo

    run_demo(options.out, seed=options.seed)


def doctor(options: Namespace) -> None:
    """``ifam doctor``."""
    from ifam.doctor import diagnose_data, diagnose_machine

    for line in diagnose_machine().lines():
        print(line)
    if options.data is not None:
        from ifam.data.read import read_table

        print()
        for line in diagnose_data(read_table(options.data), progress=show_progress("reading")).lines():
            print(line)


def data_path(options: Namespace) -> Path:
    """DATA, or the generated data set where none is given."""
    return _scenes() if options.data is None else Path(options.data)


def _scenes() -> Path:
    from ifam.scenes.dataset import cached_scenes

    path = cached_scenes(progress=show_progress("drawing scenes"))
    print(f"no DATA given: {path}, the generated data set scenes", file=sys.stderr)
    return path


def read_data(options: Namespace) -> "ImageTable":
    """DATA; where it came without splits and RUN was trained on it, with those that RUN made."""
    from ifam.data.read import read_table
    from ifam.storage import known_splits

    table, splits = read_table(data_path(options)), known_splits(options.run_folder)
    if not splits:
        return table
    known = table.with_known_splits(splits)
    new = sum(sample.split is None and sample.name not in splits for sample in table.samples)
    gone = len(splits.keys() - {sample.name for sample in table.samples})
    if known is not table and (new or gone):
        print(
            f"{new} images are new since the training: counted as test; {gone} of the training's are gone",
            file=sys.stderr,
        )
    return known


def train(options: Namespace) -> None:
    """``ifam train``."""
    config = training_config(options)
    from ifam.data.read import read_table
    from ifam.training.run import train as run

    path = data_path(options)
    result = run(config, read_table(path), options.out, resume=options.resume, logger=options.logger)
    print(f"best epoch {result.best_epoch + 1}, validation score {result.selection_score:.3f}, {result.seconds:.0f} s")
    print(f"next: ifam evaluate {options.out} {path}")


def training_config(options: Namespace) -> "TrainingConfig":
    """Recipe, file or, where neither is named, the run to resume; then flags, then ``--set``."""
    from ifam import config as configuration

    changes = {name: getattr(options, flag) for name, flag in FLAGS.items() if getattr(options, flag) is not None}
    given = {name: f"--{FLAGS[name].replace('_', '-')} ({name})" for name in changes}
    settings = _settings(options.set)
    try:
        return configuration.override(_base_config(options, changes | settings), changes | settings)
    except UsageError as error:
        name, colon, rest = str(error).partition(":")
        if name in settings or name not in given:
            raise
        raise UsageError(given[name] + colon + rest) from error


def _base_config(options: Namespace, changes: dict[str, Any]) -> "TrainingConfig":
    """What the changes start from; a recipe is made for the method and the epochs among them."""
    from ifam import config as configuration
    from ifam.recipes import DEFAULT, DEFAULT_WITHOUT_DATA, recipe

    if options.config is not None and options.recipe is not None:
        raise UsageError("recipe: expected either --recipe or --config, got both")
    if options.config is not None:
        return configuration.read(options.config)
    if options.resume and options.recipe is None:
        return configuration.read(_resumed_config(options.out))
    epochs = changes.get("optimizer.epochs")
    # another type is refused when the changes are made
    name = options.recipe or (DEFAULT_WITHOUT_DATA if options.data is None else DEFAULT)
    return recipe(name, changes.get("method", "ifam"), epochs if isinstance(epochs, int) else None)


def _settings(arguments: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` with values as in YAML."""
    import yaml

    changes: dict[str, Any] = {}
    for setting in arguments:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"set: expected NAME=VALUE such as losses.entropy=0.5, got {setting!r}")
        try:
            changes[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"set: expected a value such as 0.5, true or light, got {setting!r}") from error
    return changes


def _resumed_config(folder: Path) -> Path:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder}: expected a run to resume, found none; start it without --resume")
    return path


def _resources(options: Namespace) -> dict[str, Any]:
    """How much of the machine a command may use, and in which precision."""
    return {
        "batch_size": options.batch_size,
        "workers": options.workers,
        "device": pick_device(options.device),
        "precision": options.precision,
    }


def _load_with_parts(folder: str) -> "IFAM":
    from ifam.model.two_stage import IFAM
    from ifam.storage import load

    model = load(folder)
    if not isinstance(model, IFAM):
        raise UsageError(f"{folder}: expected a model with parts, got a {type(model).__name__}, which has none")
    return model


def evaluate(options: Namespace) -> None:
    """``ifam evaluate``."""
    from ifam.data.imagenet9 import read_in9_mapping
    from ifam.evaluate import evaluate as run
    from ifam.files import make_room, write_text
    from ifam.storage import load

    if options.json is not None:
        make_room(options.json)
    result = run(
        load(options.run_folder),
        read_data(options),
        split=options.split,
        remove_parts=options.remove_parts,
        token_quantile=options.token_quantile,
        masks=options.masks,
        class_map=None if options.class_map is None else read_in9_mapping(options.class_map),
        temperature_split=options.temperature_split,
        **_resources(options),
        skip_unreadable=options.skip_unreadable,
        progress=show_progress("evaluating"),
    )
    if options.json is not None:
        write_text(options.json, json.dumps(result.to_dict(), indent=1) + "\n")
    print_evaluation(result)


def calibrate(options: Namespace) -> None:
    """``ifam calibrate``."""
    from ifam.calibrate import calibrate as run
    from ifam.config import QUANTILES
    from ifam.storage import save

    model = _load_with_parts(options.run_folder)
    thresholds = run(
        model,
        read_data(options),
        quantiles=options.quantiles or QUANTILES,
        **_resources(options),
    )
    save(model, Path(options.run_folder))
    for quantile, values in thresholds.items():
        print(f"q = {quantile:g}: squared distance at most {', '.join(f'{value:.1f}' for value in values)}")


def intervene(options: Namespace) -> None:
    """``ifam intervene``."""
    from ifam.files import make_room, write_text
    from ifam.intervene import intervene as run

    for path in (options.json, options.figure):
        if path is not None:
            make_room(path)
    model, table = _load_with_parts(options.run_folder), read_data(options)
    study = run(
        model,
        table,
        select_by=options.select_by,
        **_resources(options),
        progress=show_progress("trying interventions"),
    )
    if options.json is not None:
        write_text(options.json, json.dumps(study.to_dict(), indent=1) + "\n")
    if options.figure is not None:
        _draw_parts(options, model, table, study)
    print_study(study)


def _draw_parts(options: Namespace, model: "IFAM", table: "ImageTable", study: "Study") -> None:
    from ifam.explanations.figures import picture_file
    from ifam.explanations.part_gallery import gallery_figure, part_gallery

    gallery = part_gallery(model, table, **_resources(options), progress=show_progress("looking at parts"))
    with picture_file(options.figure) as temporary:
        gallery_figure(gallery, model.num_parts, study.notes()).savefig(temporary)


def predict(options: Namespace) -> None:
    """``ifam predict``."""
    from contextlib import ExitStack

    from ifam.predict import UNREADABLE, find_images, writer
    from ifam.predict import predict as run
    from ifam.storage import load

    paths = find_images(options.images) if options.images else _test_images(_scenes())
    unreadable = 0
    with ExitStack() as stack:
        write = print_row if options.out is None else stack.enter_context(writer(options.out))
        rows = run(
            load(options.run_folder),
            paths,
            min_kept=options.min_kept,
            remove_parts=options.remove_parts,
            token_quantile=options.token_quantile,
            overlays=options.overlays,
            **_resources(options),
        )
        progress = show_progress("predicting")
        for done, row in enumerate(rows, start=1):
            write(row)
            if row.status == UNREADABLE:
                unreadable += 1
                print(row.message, file=sys.stderr)
            if options.out is not None:
                progress(done, len(paths))
    if options.out is not None:
        print(f"{len(paths) - unreadable} predictions in {options.out}")
    if unreadable:
        raise DataError(f"{unreadable} of {len(paths)} images could not be read, see above; the others are predicted")


def verify(options: Namespace) -> None:
    """``ifam verify``."""
    import hashlib

    from ifam.files import make_room, write_text
    from ifam.predict import find_images
    from ifam.storage import WEIGHTS
    from ifam.verify import verify as run

    model = _load_with_parts(options.run_folder)
    paths = find_images(options.images) if options.images else _test_images(_scenes())
    if options.json is not None:
        make_room(options.json)
    progress = show_progress("verifying")
    certificate = run(model, paths, seed=options.seed, progress=progress, **_resources(options))
    print_certificate(certificate)
    if options.json is not None:
        seen = hashlib.sha256()
        for path in paths:
            seen.update(path.read_bytes())
        weights = Path(options.run_folder) / WEIGHTS
        hashes = {
            "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None,
            "images_sha256": seen.hexdigest(),
        }
        write_text(options.json, json.dumps(certificate.to_dict() | hashes, indent=1) + "\n")
    if not certificate.holds:
        raise VerificationError("verify: the prediction does not rest on the mask alone; see above")


def _test_images(data: Path) -> list[Path]:
    from ifam.data.read import read_table

    return [sample.path for sample in read_table(data).select("test").samples]


def benchmark(options: Namespace) -> None:
    """``ifam benchmark``."""
    if options.name == benchmarks.SPEED:
        _benchmark_speed(options)
        return
    from ifam.benchmarks.run import Options, run_benchmark

    given = {name: getattr(options, flag, None) for name, flag in FLAGS.items() if flag != "epochs"}
    runs = options.runs or Path(f"benchmark-{options.name}")
    json_path = options.json or runs / f"{options.name}.json"
    markdown = options.markdown or runs / f"{options.name}.md"
    run_benchmark(
        options.name,
        options.data,
        Options(
            runs=runs,
            seeds=list(dict.fromkeys(options.seeds)),
            methods=options.methods,
            recipe=options.recipe,
            epochs=options.epochs,
            changes={name: value for name, value in given.items() if value is not None} | _settings(options.set),
            imagenet9=options.imagenet9,
            class_map=options.class_map,
        ),
        json_path=json_path,
        markdown_path=markdown,
        command=_as_typed(options),
    )
    print(markdown.read_text(encoding="utf-8"))
    print(f"{json_path}, {markdown}")


def _benchmark_speed(options: Namespace) -> None:
    from ifam.benchmarks.speed.cases import Bench
    from ifam.benchmarks.speed.run import run_speed
    from ifam.benchmarks.speed.theirs import Checkout

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
    if options.data is not None:
        words.append("--data DATA")
    if options.backbone is not None:
        words.append(f"--backbone {Path(options.backbone).name}")
    for flag in ("recipe", "image_size", "epochs", "precision"):
        if getattr(options, flag) is not None:
            words.append(f"--{flag.replace('_', '-')} {getattr(options, flag)}")
    words += [f"--set {setting}" for setting in options.set]
    if options.methods:
        words += ["--methods", *options.methods]
    return " ".join((*words, "--seeds", *map(str, options.seeds)))


def import_reference(options: Namespace) -> None:
    """``ifam import``."""
    from ifam.model.reference import load_reference
    from ifam.storage import save

    model = load_reference(options.snapshot, backbone=options.backbone, image_size=options.image_size)
    if options.class_names is not None:
        if len(options.class_names) != model.num_classes:
            raise UsageError(f"class names: expected {model.num_classes}, got {len(options.class_names)}")
        model.class_names = list(options.class_names)
    save(model, options.out)
    print(f"{options.out}: {model.num_parts} parts, {model.num_classes} classes")
