"""The command line: arguments in, one line of error out."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ifam.commands import (
    app,
    benchmark,
    calibrate,
    demo,
    doctor,
    evaluate,
    export,
    import_,
    intervene,
    predict,
    report,
    train,
    verify,
)
from ifam.device import limit_kernel_caches
from ifam.errors import CheckpointError, DataError, IfamError, UsageError
from ifam.processes import started

COMMANDS = (
    demo,
    doctor,
    train,
    evaluate,
    calibrate,
    intervene,
    predict,
    verify,
    report,
    app,
    export,
    import_,
    benchmark,
)
INTERRUPTED = 130
GIVEN = (UsageError, DataError, CheckpointError)
"""what is wrong with a command line, with data or with a model"""


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
    limit_kernel_caches()
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser().parse_args(arguments)
        options.run(options)
    except IfamError as error:
        if debug:
            raise
        if _has_the_say(error):
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as stop:
        if started().is_first:
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


def _has_the_say(error: IfamError) -> bool:
    """Of several processes one says what is wrong with what all were given, and each what is its own trouble."""
    return not error.told and not (isinstance(error, GIVEN) and started().local_rank)


def parser() -> Parser:
    """All commands."""
    top = Parser(
        prog="ifam",
        description="Image classifiers that see only the parts they name.",
        epilog="Each command has --help with an example.",
    )
    top.add_argument("--version", action="version", version=_version())
    subparsers = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    return top


def _version() -> str:
    from ifam import __version__

    return f"ifam {__version__}"


if __name__ == "__main__":
    sys.exit(main())
