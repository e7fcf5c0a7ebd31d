"""For mkdocs: the examples of docstrings, ``>>>`` without a fence, as blocks of code."""

import re
from typing import Any

from griffe import Extension, Module, Object

EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n\1\S.*)*)", re.M)


class Doctests(Extension):
    """Puts fences around every paragraph that begins with ``>>>``."""

    def on_object(self, *, obj: Object, **others: Any) -> None:
        """Called for each object that was read, but for the package itself."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1```pycon\n\1\2\n\1```", obj.docstring.value)

    def on_package(self, *, pkg: Module, **others: Any) -> None:
        """Called for the package."""
        self.on_object(obj=pkg)
