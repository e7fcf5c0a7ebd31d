"""What inputs are given to: the command line, and what the local page does with a file or a run folder."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ifam.cli import main
from ifam.errors import IfamError


def _upload(arguments: Sequence[str]) -> None:
    from ifam.app.photographs import ask_file
    from ifam.model.two_stage import IFAM
    from ifam.storage import load

    model = load(arguments[0])
    assert isinstance(model, IFAM)
    print(ask_file(model, Path(arguments[1])).whole.label)


def _summary(arguments: Sequence[str]) -> None:
    from ifam.app.run_folder import run_summary
    from ifam.model.two_stage import IFAM
    from ifam.storage import load

    model = load(arguments[0])
    assert isinstance(model, IFAM)
    print(run_summary(model, Path(arguments[0])))


def _as_command(run: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], int]:
    def command(arguments: Sequence[str]) -> int:
        try:
            run(arguments)
        except IfamError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_status
        return 0

    return command


SURFACES: dict[str, Callable[[Sequence[str]], int]] = {
    "ifam": main,
    "upload": _as_command(_upload),
    "summary": _as_command(_summary),
}
