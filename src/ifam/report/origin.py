"""Hashes, versions, configuration and date."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from ifam import __version__
from ifam.config import Precision
from ifam.data.table import ImageTable
from ifam.device import resolve_precision
from ifam.errors import DataError
from ifam.files import ESCAPED, read_json, sha256
from ifam.storage import CONFIG, DATA
from ifam.training.folder import describe_data

PACKAGES = ("torch", "torchvision", "timm")


def machine(device: str | torch.device, precision: Precision) -> Mapping[str, str]:
    """Versions of what computed it, and on what."""
    kind = torch.device(device).type
    return {
        "ifam": __version__,
        **{name: version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device)
        if kind == "cuda"
        else f"{kind}, {torch.get_num_threads()} threads",
        "precision": resolve_precision(precision, kind),
    }


def now() -> str:
    """Date, time and the zone's distance from UTC."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def listing(table: ImageTable, folder: Path) -> tuple[str, bool | None]:
    """The digest of the data's listing, and whether the run was trained on the same."""
    digest = str(describe_data(table)["digest"])
    path = folder / DATA
    if not path.is_file():
        return digest, None
    return digest, read_json(path).get("digest") == digest


def images_sha256(paths: Sequence[Path], progress: Callable[[int, int], None]) -> str:
    """Of the bytes of the files, one after another."""

    def reported() -> Iterator[Path]:
        for done, path in enumerate(paths, start=1):
            yield path
            progress(done, len(paths))

    try:
        return sha256(reported())
    except OSError as error:
        raise DataError(
            f"{error.filename}: expected a file that stays while the report is made, got: {error}"
        ) from error


def configuration(folder: Path) -> str | None:
    """The settings of the run as it wrote them down."""
    path = folder / CONFIG
    return path.read_text(encoding="utf-8", errors=ESCAPED) if path.is_file() else None
