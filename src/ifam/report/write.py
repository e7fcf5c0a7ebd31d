"""One self-contained HTML file: it needs no network, and nothing beside it."""

from collections.abc import Callable
from pathlib import Path

import torch

from ifam.config import Precision
from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.files import write_text
from ifam.model.two_stage import IFAM
from ifam.outputs import containing, make_room_for
from ifam.report.collect import Source, collect_report
from ifam.report.content import Report
from ifam.report.page import page

TEMPLATE = "page.html.j2"


def write_report(
    model: IFAM,
    table: ImageTable,
    path: str | Path,
    *,
    run: str | Path = "a model in memory",
    data: str | Path | None = None,
    split: str = "test",
    command: str | None = None,
    with_keypoint_error: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    skip_unreadable: bool = False,
    as_read: ImageTable | None = None,
    progress: Callable[[str], Callable[[int, int], None]] = lambda what: lambda done, total: None,
) -> Report:
    """Measure ``model`` on a split and write what was found to ``path``, whole or not at all.

    ``run``: the folder that the model was loaded from, for its hash, configuration and name. ``data``: what the table
    was read from, for its name; None for the folder that the table names. The report says nothing of where either lies.
    ``with_keypoint_error``: where there are keypoints; it takes a pass over the training split, which nothing else
    needs. ``as_read``: the data before it got the splits that the run made of it, to tell whether it is that of the
    training. ``progress``: from what is being done to a function of (images done, images in all).

    Raises:
        UsageError: a model without parts, a ``path`` that cannot be, or Jinja2 is not installed.
        DataError: classes that the model does not know, no such split, or an unreadable image.
    """
    require_possible(Path(path))
    report = collect_report(
        model,
        table,
        Source(run=Path(run), split=split, command=command, as_read=as_read, data=None if data is None else str(data)),
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        with_keypoint_error=with_keypoint_error,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    write_text(path, render(report))
    return report


def render(report: Report) -> str:
    """The page as HTML; whatever comes from the data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ifam", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(page(report)).lstrip()


def require_possible(path: Path) -> None:
    """Refuse before the work, not after it.

    Raises:
        UsageError: Jinja2 is not installed, or there can be no file at ``path``.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise UsageError("report: expected Jinja2, found none; pip install 'ifam[report]'") from error
    make_room_for(path, containing('<meta name="generator" content="ifam '))
