"""``ifam app``."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command
from ifam.commands.inputs import load_with_parts, read_data


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "app",
        run,
        "a local page: switch parts off, paint a mask, watch the prediction",
        "ifam app run photographs/",
    )
    command.add_argument("run_folder", metavar="RUN")
    command.add_argument(
        "data", nargs="?", type=Path, metavar="DATA", help="for example images, groups and the part gallery"
    )
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="who may connect (default 127.0.0.1: you)")
    command.add_argument("--port", type=int, default=7860, metavar="N", help="default 7860")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps (default auto)")


def run(options: Namespace) -> None:
    """``ifam app``."""
    from ifam.app.address import is_open
    from ifam.app.serve import require_free_port, require_gradio, serving, until_stopped, wait
    from ifam.device import pick_device

    require_gradio()
    require_free_port(options.host, options.port)
    device = pick_device(options.device)
    model = load_with_parts(options.run_folder).to(device)
    table = None if options.data is None else read_data(options).align(model.class_names)
    if is_open(options.host):
        print(
            f"warning: on {options.host} whoever reaches this machine can use the page; there is no password",
            file=sys.stderr,
        )
    folder = Path(options.run_folder)
    with until_stopped(), serving(model, folder, table, host=options.host, port=options.port, device=device) as address:
        print(f"{address} (stop with Ctrl-C)", flush=True)
        wait()
