"""Hashes, versions, configuration and date."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from ifam.config import parse_yaml
from ifam.data.table import ImageTable
from ifam.errors import DataError, UsageError
from ifam.files import ESCAPED, sha256, without_folders
from ifam.storage import CONFIG, remembered
from ifam.training.folder import describe_data


def listing(table: ImageTable, folder: Path) -> tuple[str, bool | None]:
    """The digest of the data's listing, and whether the run was trained on the same."""
    digest = str(describe_data(table)["digest"])
    before = remembered(folder).get("digest")
    return digest, None if before is None else before == digest


def images_sha256(paths: Sequence[Path], progress: Callable[[int, int], None]) -> str:
    """Of the digests of the files, one to a line, so that no other files have it."""
    seen = hashlib.sha256()
    try:
        for done, path in enumerate(paths, start=1):
            seen.update(f"{sha256(path)}\n".encode())
            progress(done, len(paths))
    except OSError as error:
        raise DataError(
            f"{error.filename}: expected a file that stays while the report is made, got: {error}"
        ) from error
    return seen.hexdigest()


def configuration(folder: Path) -> str | None:
    """The settings of the run as it wrote them down, but for the folders of its machine."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        values = parse_yaml(path.read_text(encoding="utf-8", errors=ESCAPED), CONFIG)
    except UsageError:  # not worth the report, which is measured by now
        return f"{CONFIG} of the run is no YAML"
    text: str = yaml.safe_dump(without_folders(values), sort_keys=False, allow_unicode=True)
    return text


def without_root(message: str, root: Path) -> str:
    """What is said about a file of the data, with its name below the root of the data."""
    for folder in (root.resolve(), root.absolute(), root):
        message = message.replace(f"{folder}{os.sep}", "")
    return message
