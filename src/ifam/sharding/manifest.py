"""What a folder of shards is a prediction of: asked once, and the same whenever it goes on."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ifam.data.find import TARS_AND_IMAGES, ImageSearch
from ifam.errors import DataError, IfamError, ProcessError, UsageError, first_line
from ifam.files import check_name, listed, printable, read_json, sha256, to_json, write_text
from ifam.model.base import Classifier
from ifam.predict import PredictionSettings
from ifam.processes import Processes
from ifam.sharding.image_list import ImageList, write_image_list
from ifam.storage import model_sha256
from ifam.training.lock import is_locked

FORMAT = 2
# whoever reads the folder as one table leaves out what begins with an underscore or a dot
MANIFEST, IMAGES, SUCCESS = "_manifest.json", "_images.parquet", "_SUCCESS"
RUNNING = ".running"
"""where the locks of the processes lie"""
FAILED = f"{RUNNING}/failed.json"
"""what the first process said when it could not make the list"""
WAIT_SECONDS = 1.0
LONGEST_WAIT, LAST_WAIT = 600, 30
"""seconds without a first process at work; of those after a failure that was there before, when it may come again"""


def lock_of(folder: Path, rank: int) -> Path:
    """Held by the process of this rank while it writes into the folder."""
    return folder / RUNNING / f"rank-{rank}"


def asked_for(
    model: Classifier, patterns: Sequence[str], settings: PredictionSettings, shard_size: int
) -> dict[str, Any]:
    """All that decides what the shards hold, as plain values."""
    if shard_size < 1:
        raise UsageError(f"shard size: expected at least 1, got {shard_size}")
    plain = asdict(settings) | {"remove_parts": list(settings.remove_parts)}
    # names mean other files elsewhere, unless they begin at the root
    begun_in = "" if all(map(os.path.isabs, patterns)) else str(Path.cwd())
    named = {"images": list(patterns), "current_folder": begun_in}
    return {"model": model_sha256(model), **named, "shard_size": shard_size} | plain


def check_own(folder: Path) -> None:
    """Refuse a folder of something else, before anything is written there.

    Raises:
        UsageError: it holds other files.
    """
    check_name(folder / IMAGES)
    if (folder / MANIFEST).exists() or not folder.is_dir():
        return
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", IMAGES)))
    if others:
        raise UsageError(
            f"{folder}: expected an empty folder or one with a {MANIFEST}, got one with {others[0]}; choose another"
        )


def agreed_list(folder: Path, asked: Mapping[str, Any], processes: Processes) -> ImageList:
    """The images that the folder's manifest fixes; the first process makes it, the others wait until it is there.

    Raises:
        UsageError: the folder holds the prediction of something else.
        DataError: the manifest is damaged, or there are no images.
        ProcessError: the first process has failed, or does not come.
    """
    if not (folder / MANIFEST).exists():
        if processes.is_first:
            _make_or_tell(folder, asked)
        else:
            _wait_for_first(folder)
    manifest = _read(folder / MANIFEST)
    _check_same(folder, manifest["asked"], asked)
    if sha256(folder / IMAGES) != manifest["images_sha256"]:
        raise DataError(
            f"{folder / IMAGES}: expected the list that {MANIFEST} names, got another; begin anew elsewhere"
        )
    return ImageList(folder / IMAGES)


def _make_or_tell(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make the manifest; what prevents that the others get to know as well."""
    (folder / FAILED).unlink(missing_ok=True)
    try:
        _make(folder, asked)
    except BaseException as error:
        with suppress(IfamError, OSError):  # where that cannot be written either, they wait until their time is up
            write_text(folder / FAILED, to_json({"said": first_line(error)}) + "\n")
        raise


def _make(folder: Path, asked: Mapping[str, Any]) -> None:
    """List the images, which may take long, and then name them: a folder without a manifest is begun anew."""
    search = ImageSearch(asked["images"], TARS_AND_IMAGES)
    write_image_list(folder / IMAGES, search, asked["shard_size"])
    if search.account:
        print(printable(f"{listed(asked['images'], 2)}: {search.account.line()}"), file=sys.stderr)
    content = {"format": FORMAT, "asked": asked, "images_sha256": sha256(folder / IMAGES)}
    write_text(folder / MANIFEST, to_json(content, indent=1) + "\n")


def _wait_for_first(folder: Path) -> None:
    """While it works, which its lock shows, as long as that takes."""
    print(
        f"waiting for {folder / MANIFEST}, which the process of rank 0 writes (without one {LONGEST_WAIT} s at most)",
        file=sys.stderr,
    )
    before, seen = _failure(folder), time.monotonic()
    while not (folder / MANIFEST).exists():
        failure = _failure(folder)
        if is_locked(lock_of(folder, 0)):
            seen = time.monotonic()
        alone = time.monotonic() - seen
        if failure is not None and (failure != before or alone > LAST_WAIT):
            raise ProcessError(f"{folder}: expected the list of the process of rank 0, which failed: {failure[0]}")
        if alone > LONGEST_WAIT:
            raise ProcessError(
                f"{folder / MANIFEST}: expected the process of rank 0 to write it, saw none at work for {LONGEST_WAIT} "
                "s; start it, then this one again"
            )
        time.sleep(WAIT_SECONDS)


def _failure(folder: Path) -> tuple[str, int] | None:
    """What the first process said, and when; None where it has not failed."""
    try:
        return str(read_json(folder / FAILED).get("said")), (folder / FAILED).stat().st_mtime_ns
    except (DataError, OSError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except DataError as error:
        raise DataError(f"{error}; begin anew in another folder") from error
    if found.get("format") == FORMAT and isinstance(found.get("asked"), dict) and "images_sha256" in found:
        return found
    raise DataError(
        f"{path}: expected a manifest of format {FORMAT}, got {found.get('format')}; begin anew in another folder"
    )


def _check_same(folder: Path, before: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for name, value in asked.items():
        if before.get(name) != value:
            raise UsageError(
                f"{folder}: expected {name.replace('_', ' ')} {_shown(before.get(name))}, with which it was begun, "
                f"got {_shown(value)}; choose another folder for that"
            )


def _shown(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 or os.sep in text else f"{text[:12]}…"  # a hash
