"""Every case of every kind."""

from collections.abc import Callable, Iterator

from hostile.case import Case
from hostile.commands import command_cases
from hostile.images import image_cases
from hostile.models import model_cases
from hostile.settings import settings_cases
from hostile.tables import table_cases

KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "images": image_cases,
    "tables": table_cases,
    "settings": settings_cases,
    "models": model_cases,
    "commands": command_cases,
}


def corpus(only: str = "", every: int = 1) -> list[Case]:
    """Those whose name begins with ``only``, or each ``every``-th of them."""
    kind = only.partition("/")[0]
    made = [case for name, make in KINDS.items() if name.startswith(kind) or not kind for case in make()]
    return [case for case in made if case.name.startswith(only)][::every]
