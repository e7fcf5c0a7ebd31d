"""The command line: arguments in, one line of error out."""

import argparse
import difflib
import io
import itertools
import re
import sys
import warnings
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
from ifam.device import arrange_memory
from ifam.errors import CheckpointError, DataError, IfamError, IfamWarning, UsageError
from ifam.files import ESCAPED, NO_ROOM, printable
from ifam.processes import ALONE, Processes, started
from ifam.signals import interrupting

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
LONGEST_LINE = 1500
_FORMAT = warnings.formatwarning


class Parser(argparse.ArgumentParser):
    """Errors as one line and exit status 2; no abbreviations, which a new option could make ambiguous."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is unknown here, where the command is known, and before what is missing: it may be misspelt."""
        if args is not None:
            is_top = self._subparsers is not None  # what follows the command is the command's
            mine = itertools.takewhile(lambda word: word != "--" and (word.startswith("-") or not is_top), args)
            self._refuse([word for word in mine if word.startswith("--") and not self._knows(word)])
        known, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return known, unknown

    def _knows(self, option: str) -> bool:
        return option.partition("=")[0] in self._option_string_actions

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            nearest = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arrange_memory()
    arguments, here = sys.argv[1:] if arguments is None else arguments, ALONE
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does by itself, for file names in another encoding
        sys.stdout.reconfigure(errors=ESCAPED)
    warnings.formatwarning = _warning_line
    try:
        here = started()
        _check_words(arguments)
        options = parser().parse_args(arguments)
        with interrupting():
            options.run(options)
    except KeyboardInterrupt as stop:
        if here.is_first:
            print(str(stop) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        if _has_the_say(error, here):
            print(f"error: {_line(error)}", file=sys.stderr)
        return error.exit_status if isinstance(error, IfamError) else 1
    return 0


def _warning_line(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """Our own without the line of code that it came from; those of others as ever."""
    if issubclass(category, IfamWarning):
        return f"warning: {printable(message)}\n"
    return _FORMAT(message, category, *where, **line)


def _has_the_say(error: Exception, here: Processes) -> bool:
    """Of several processes one says what is wrong with what all were given, and each what is its own trouble."""
    if not isinstance(error, IfamError):
        return True
    return not error.told and not (isinstance(error, GIVEN) and here.local_rank)


def _check_words(arguments: Sequence[str]) -> None:
    """Refuse what is no value: a path would take nothing for the current folder, and argparse ``--x=--`` for a list."""
    empty = next((word for word in arguments if not word or word.endswith("=--")), None)
    if empty is not None:
        raise UsageError(f"ifam {arguments[0]}: expected a value, got {empty!r}; is a variable of the shell unset?")


def _line(error: Exception) -> str:
    """What went wrong, as one line that fits a screen."""
    if isinstance(error, IfamError):
        line = printable(error)
    elif isinstance(error, OSError) and error.filename is not None:
        line = printable(f"{error.filename}: expected to read or write it, got: {error.strerror}; check the path")
    elif isinstance(error, OSError) and error.errno in NO_ROOM:  # without a name: the screen's stream, or a pipe's
        line = f"output: expected room for what is printed, got: {error.strerror}; make room where it goes"
    else:
        line = f"{type(error).__name__}: {printable(error) or 'no message'}; add --debug to see where"
    line = re.sub(r"\S{300,}", lambda word: f"{word[0][:100]}…{word[0][-100:]}", line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 300]} … {line[-300:]}"


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
