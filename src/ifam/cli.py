"""The command line: arguments in, one line of error out."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from ifam import benchmarks, commands
from ifam.config import MaskGradient, MethodName, Precision, SelectBy
from ifam.errors import IfamError, UsageError
from ifam.recipes import DEFAULT, DEFAULT_WITHOUT_DATA, RECIPES

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Errors as one line and exit status 2; no abbreviations, which a new option could make ambiguous."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is unknown here, where the command is known, and not at the end."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            nearest = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser().parse_args(arguments)
        options.run(options)
    except IfamError as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        if debug:
            raise
        message = " ".join(str(error).split()) or "no message"
        print(f"error: {type(error).__name__}: {message}; add --debug to see where", file=sys.stderr)
        return 1
    return 0


def parser() -> Parser:
    """All commands."""
    top = Parser(
        prog="ifam",
        description="Image classifiers that see only the parts they name.",
        epilog="Each command has --help with an example.",
    )
    top.add_argument("--version", action="version", version=_version())
    subparsers = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_demo, _doctor, _train, _evaluate, _calibrate, _intervene, _predict, _verify, _import, _benchmark):
        add(subparsers)
    return top


def _command(subparsers: Any, name: str, run: Callable[..., None], help: str, example: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=help, epilog=f"example: {example}"
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=lambda options: run(options))
    return command


def _demo(subparsers: Any) -> None:
    command = _command(
        subparsers, "demo", commands.demo, "train on a small generated data set, offline", "ifam demo --out demo"
    )
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to write (default demo)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of data and training (default 0)")


def _doctor(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "doctor",
        commands.doctor,
        "say what is understood of this machine and of a data set",
        "ifam doctor photographs/",
    )
    command.add_argument("data", nargs="?", type=Path, metavar="DATA", help="folder, .csv or .parquet")


def _train(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "train",
        commands.train,
        "train on a data set, from image labels alone",
        "ifam train photographs/ --out run --backbone vit_small_patch14_reg4_dinov2",
    )
    _data(command)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for the run")
    default = RECIPES[DEFAULT]("ifam").optimizer
    command.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help=f"configuration to start from (default {DEFAULT}; without DATA {DEFAULT_WITHOUT_DATA})",
    )
    command.add_argument("--method", choices=get_args(MethodName), help="what to train (default ifam)")
    command.add_argument(
        "--backbone",
        metavar="NAME|PATH",
        help="timm model name, or a .safetensors file that names one (default ifam-nano, which needs no network)",
    )
    command.add_argument("--num-parts", type=int, metavar="K", help="foreground parts")
    command.add_argument(
        "--masks",
        metavar="SOURCE",
        help="of early_mask and late_mask: annotated, boxes, tokencut or a folder of PNG files (default annotated)",
    )
    command.add_argument("--image-size", type=int, metavar="N", help="pixels (default: that of the data)")
    command.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help=f"passes over the training images (default: the recipe's; {DEFAULT} {default.epochs})",
    )
    command.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"images per batch (default: the recipe's; {DEFAULT} {default.batch_size})",
    )
    command.add_argument("--lr", type=float, metavar="X", help="learning rate of the stage-2 transformer")
    command.add_argument("--device", metavar="D", help="auto, cpu, cuda, mps (default auto)")
    command.add_argument(
        "--precision", choices=get_args(Precision), help="auto: bfloat16 where fast (default: the recipe's)"
    )
    command.add_argument("--workers", type=int, metavar="N", help="loader processes")
    command.add_argument("--seed", type=int, metavar="N", help="of splits, weights and views (default 0)")
    command.add_argument(
        "--mask-gradient", choices=get_args(MaskGradient), help="gradient of the stage-2 loss into stage 1"
    )
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. losses.entropy=0.5")
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML file to start from instead of a recipe")
    command.add_argument(
        "--skip-unreadable", action="store_true", default=None, help="go on without images that cannot be read"
    )
    command.add_argument("--logger", choices=("tensorboard", "wandb"), help="write there too (needs the extra)")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint of RUN")


def _evaluate(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "evaluate",
        commands.evaluate,
        "score a run on a split, by group",
        "ifam evaluate run photographs/ --remove-parts 0 2",
    )
    command.add_argument("run_folder", metavar="RUN")
    _data(command)
    command.add_argument("--split", choices=("train", "val", "test"), default="test", help="default test")
    _interventions(command)
    command.add_argument(
        "--masks", metavar="SOURCE", help="of an early or late masking run: another source than in its training"
    )
    command.add_argument(
        "--temperature-split",
        choices=("train", "val", "test"),
        help="fit a temperature on this split, and report the calibration error with it",
    )
    command.add_argument(
        "--class-map", type=Path, metavar="FILE", help="in_to_in9.json: an ImageNet model on data of ImageNet-9"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    command.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be read")
    _resources(command)


def _calibrate(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "calibrate",
        commands.calibrate,
        "store the token thresholds of every part, from the training split",
        "ifam calibrate run photographs/",
    )
    command.add_argument("run_folder", metavar="RUN")
    _data(command)
    command.add_argument("--quantiles", type=float, nargs="+", metavar="Q", help="default 0.9 0.95 0.97 0.99")
    _resources(command)


def _intervene(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "intervene",
        commands.intervene,
        "find what to switch off: tried on the validation split, reported on test",
        "ifam intervene run photographs/ --json interventions.json",
    )
    command.add_argument("run_folder", metavar="RUN")
    _data(command)
    command.add_argument(
        "--select-by",
        choices=[name for name in get_args(SelectBy) if name != "last"],
        default="auto",
        help="what is best on the validation split (default auto: worst-group accuracy, accuracy without groups)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    command.add_argument("--figure", type=Path, metavar="FILE", help="a picture: each part, and the score without it")
    _resources(command)


def _predict(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "predict",
        commands.predict,
        "predict files, folders and globs, with the parts that each prediction rests on",
        "ifam predict run photographs/*.jpg --out predictions.parquet --overlays pictures/",
    )
    _run_and_images(command)
    command.add_argument("--out", type=Path, metavar="FILE", help=".parquet or .jsonl (default: a table on the screen)")
    command.add_argument("--overlays", type=Path, metavar="DIR", help="pictures of the parts over the photographs")
    command.add_argument("--min-kept", type=float, default=0.0, metavar="X", help="abstain below this share of tokens")
    _interventions(command)
    _resources(command)


def _verify(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "verify",
        commands.verify,
        "check the guarantee: pixels outside the mask change no bit; how much the mask alone tells",
        "ifam verify run photographs/test/ --json certificate.json",
    )
    _run_and_images(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="with the hashes of model and images")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default 0)")
    _resources(command)


def _import(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "import",
        commands.import_reference,
        "convert a checkpoint of the method's authors",
        "ifam import snapshot_best.pt --backbone vit_base_patch14_reg4_dinov2 --out model",
    )
    command.add_argument("snapshot", type=Path, metavar="SNAPSHOT")
    command.add_argument("--backbone", required=True, metavar="NAME", help="timm architecture of the checkpoint")
    command.add_argument("--image-size", type=int, metavar="N", help="that it was trained at (default: the backbone's)")
    command.add_argument("--class-names", nargs="+", metavar="NAME")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")


def _benchmark(subparsers: Any) -> None:
    command = _command(
        subparsers,
        "benchmark",
        commands.benchmark,
        "a table over methods and seeds, the paper's numbers beside ours",
        "ifam benchmark waterbirds --data waterbird_complete95_forest2water2 --runs runs",
    )
    names = (*benchmarks.NAMES, benchmarks.SPEED)
    command.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    command.add_argument("--data", type=Path, metavar="DIR", help="the data set (scenes draws its own)")
    command.add_argument("--imagenet9", type=Path, metavar="DIR", help="of in9: the folder of the variants")
    command.add_argument("--class-map", type=Path, metavar="FILE", help="of in9: in_to_in9.json")
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder of the runs; complete ones are taken (default benchmark-NAME)"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default 0 1 2")
    command.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="ROW",
        help="rows of the table, or cases of speed (default: all)",
    )
    command.add_argument("--reference", type=Path, metavar="DIR", help="of speed: a checkout of the authors' code")
    command.add_argument("--rounds", type=int, default=7, metavar="N", help="of speed: default 7")
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


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        nargs="?",
        type=Path,
        metavar="DATA",
        help="folder, .csv or .parquet; see ifam doctor (default: scenes, a generated data set)",
    )


def _run_and_images(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", metavar="RUN")
    command.add_argument("images", nargs="*", metavar="IMAGES", help="default: the test images of scenes")


def _interventions(command: argparse.ArgumentParser) -> None:
    command.add_argument("--remove-parts", type=int, nargs="+", default=[], metavar="K", help="parts to switch off")
    command.add_argument("--token-quantile", type=float, metavar="Q", help="remove tokens beyond this quantile")


def _resources(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per batch (default 32)")
    command.add_argument("--workers", type=int, default=0, metavar="N", help="loader processes")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps (default auto)")
    command.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="32-true",
        help="auto: bfloat16 where fast (default 32-true)",
    )


def _version() -> str:
    from ifam import __version__

    return f"ifam {__version__}"


if __name__ == "__main__":
    sys.exit(main())
