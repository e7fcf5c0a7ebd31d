"""What a folder of shards is a prediction of: asked once, and the same whenever it goes on."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ifam.data.find import TARS_AND_IMAGES, find_images
from ifam.errors import DataError, UsageError
from ifam.files import make_folder, read_json, remove_leftovers, sha256, write_text
from ifam.model.base import Classifier
from ifam.predict import PredictionSettings
from ifam.processes import Processes
from ifam.sharding.image_list import ImageList, write_image_list
from ifam.storage import model_sha256

FORMAT = 1
# whoever reads the folder as one table leaves out what begins with an underscore or a dot
MANIFEST, IMAGES, SUCCESS = "_manifest.json", "_images.parquet", "_SUCCESS"
WAIT_SECONDS = 1.0


def asked_for(
    model: Classifier, patterns: Sequence[str], settings: PredictionSettings, shard_size: int
) -> dict[str, Any]:
    """All that decides what the shards hold, as plain values."""
    if shard_size < 1:
        raise UsageError(f"shard size: expected at least 1, got {shard_size}")
    plain = asdict(settings) | {"remove_parts": list(settings.remove_parts)}
    return {"model": model_sha256(model), "images": list(patterns), "shard_size": shard_size} | plain


def agreed_list(folder: Path, asked: Mapping[str, Any], processes: Processes) -> ImageList:
    """The images that the folder's manifest fixes; the first process makes it, the others wait until it is there.

    Raises:
        UsageError: the folder holds the prediction of something else, or other files.
        DataError: the manifest is damaged, or there are no images.
    """
    if not (folder / MANIFEST).exists():
        if processes.is_first:
            _make(folder, asked)
        else:
            _wait_for(folder / MANIFEST)
    manifest = _read(folder / MANIFEST)
    _check_same(folder, manifest["asked"], asked)
    if sha256([folder / IMAGES]) != manifest["images_sha256"]:
        raise DataError(
            f"{folder / IMAGES}: expected the list that {MANIFEST} names, got another; begin anew elsewhere"
        )
    return ImageList(folder / IMAGES)


def _make(folder: Path, asked: Mapping[str, Any]) -> None:
    """List the images, which may take long, and then name them: a folder without a manifest is begun anew."""
    make_folder(folder)
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", IMAGES)))
    if others:
        raise UsageError(
            f"{folder}: expected an empty folder or one with a {MANIFEST}, got one with {others[0]}; choose another"
        )
    for name in (IMAGES, MANIFEST):
        remove_leftovers(folder / name)
    write_image_list(folder / IMAGES, find_images(asked["images"], TARS_AND_IMAGES), asked["shard_size"])
    content = {"format": FORMAT, "asked": asked, "images_sha256": sha256([folder / IMAGES])}
    write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def _wait_for(path: Path) -> None:
    print(f"waiting for {path}, which the process of rank 0 writes", file=sys.stderr)
    while not path.exists():
        time.sleep(WAIT_SECONDS)


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
                f"got {_shown(value)}; choose another folder"
            )


def _shown(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
