"""``ifam verify``."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command, add_resources, add_run_and_images
from ifam.commands.inputs import images_or_scenes, load_with_parts, resources, table_of_run
from ifam.console import print_certificate, show_progress
from ifam.data.splits import SPLITS
from ifam.errors import UsageError, VerificationError


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "verify",
        run,
        "check the guarantee: pixels outside the mask change no bit; how much the mask alone tells",
        "ifam verify run photographs/ --json certificate.json",
    )
    add_run_and_images(command)
    command.add_argument(
        "--split",
        choices=SPLITS,
        help="IMAGES is a data set, as of ifam evaluate: this split of it (default: all images)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="with the hashes of model and images")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default 0)")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam verify``."""
    from ifam.files import make_room, sha256, write_text
    from ifam.storage import weights_sha256
    from ifam.verify import verify

    model = load_with_parts(options.run_folder)
    paths = images_or_scenes(options) if options.split is None else _of_split(options)
    if options.json is not None:
        make_room(options.json, suffix=".json")
    progress = show_progress("verifying")
    certificate = verify(model, paths, seed=options.seed, progress=progress, **resources(options))
    print_certificate(certificate)
    if options.json is not None:
        hashes = {"model_sha256": weights_sha256(options.run_folder), "images_sha256": sha256(paths)}
        write_text(options.json, json.dumps(certificate.to_dict() | hashes, indent=1) + "\n")
    if not certificate.holds:
        raise VerificationError("verify: the prediction does not rest on the mask alone; see above")


def _of_split(options: Namespace) -> list[Path]:
    if len(options.images) != 1:
        raise UsageError(f"split: expected one folder or table of data for IMAGES, got {len(options.images)}")
    table = table_of_run(options.run_folder, Path(options.images[0]))
    return [sample.path for sample in table.select(options.split).samples]
