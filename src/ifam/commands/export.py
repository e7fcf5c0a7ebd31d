"""``ifam export``."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command
from ifam.commands.inputs import read_data
from ifam.console import print_accuracy_change, print_export, show_progress


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "export",
        run,
        "write the model as one ONNX or torch.export file, which is compared with the model first",
        "ifam export run --format onnx --out model.onnx",
    )
    command.add_argument("run_folder", metavar="RUN")
    command.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="default onnx")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=".onnx, or .pt2 for torch")
    command.add_argument(
        "--int8",
        action="store_true",
        help="round the transformers' weights to 8 bits (onnx), and say what that changes",
    )
    command.add_argument("--data", type=Path, metavar="DATA", help="count right answers of both on its test split")


def run(options: Namespace) -> None:
    """``ifam export``."""
    from ifam.exporting.accuracy import accuracy_change, check_scorable
    from ifam.exporting.export import export
    from ifam.exporting.formats import FORMATS
    from ifam.storage import load

    model = load(options.run_folder)
    table = None
    if options.data is not None:
        check_scorable(model)
        table = read_data(options)
    print_export(export(model, options.out, options.format, int8=options.int8))
    if table is not None:
        exported = FORMATS[options.format].open(options.out)
        print_accuracy_change(accuracy_change(model, exported, table, progress=show_progress("counting")))
    elif options.int8:
        print("accuracy: not measured; --data DATA counts right answers before and after")
