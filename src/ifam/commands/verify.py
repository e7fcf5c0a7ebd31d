"""``ifam verify``."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam.commands.arguments import add_command, add_resources, add_run_and_images
from ifam.commands.inputs import images_or_scenes, resources, table_of_run
from ifam.console import print_certificate, show_progress
from ifam.data.splits import SPLITS
from ifam.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from ifam.data.table import ImageTable
    from ifam.model.base import Classifier
    from ifam.verify import Certificate
    from ifam.verify.photographs import Photographs


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "verify",
        run,
        "check the guarantee: pixels outside the mask change no bit; what the mask alone decides",
        "ifam verify run photographs/ --json certificate.json",
    )
    add_run_and_images(command)
    command.add_argument(
        "--split",
        choices=SPLITS,
        help="IMAGES is a data set, as of ifam evaluate: this split of it (default: all images)",
    )
    command.add_argument(
        "--sample", type=int, metavar="N", help="at most N photographs, always the same; ifam report takes 200"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="the certificate, with hashes of model and images")
    command.add_argument(
        "--check", type=Path, metavar="FILE", help="repeat what this certificate says, with its seed and precision"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of noise and lenders (default 0)")
    add_resources(command)


def run(options: Namespace) -> None:
    """``ifam verify``."""
    from ifam.files import read_json
    from ifam.outputs import json_with, make_room_for
    from ifam.storage import load, model_files
    from ifam.verify import verify

    if options.json is not None:
        make_room_for(options.json, json_with("holds", "outside", "inside"), suffix=".json")
    record = None if options.check is None else read_json(options.check)
    asked = {"seed": options.seed, "sample": options.sample, **resources(options)}
    if record is not None:
        asked |= _as_certified(options.check, record)
    model = load(options.run_folder)
    table = _photographs(options, model)
    images = table if record is None else _certified(record, model, table)
    found = verify(model, images, progress=show_progress("verifying"), **asked)
    print_certificate(found)
    if options.json is not None:
        _write(options.json, found, model_files(options.run_folder, model), asked)
    if record is not None:
        _compare(record, found)
    if not found.holds:
        raise VerificationError("verify: the prediction does not rest on the mask alone; see above")
    if found.mask_decides:
        raise VerificationError("verify: the mask alone decides the prediction, whatever lies in it; see above")
    if found.background_decides:
        raise VerificationError("verify: the background decides the prediction, by way of the mask; see above")


def _photographs(options: Namespace, model: "Classifier") -> "ImageTable":
    """IMAGES; a data set where a split of it, or its masks, are needed."""
    from ifam.data.table import table_of_files
    from ifam.model.masked import MaskedClassifier

    given_masks = isinstance(model, MaskedClassifier) and model.selector is None
    if options.split is None and not given_masks:
        return table_of_files(images_or_scenes(options), model.class_names)
    if len(options.images) != 1:
        why = "split" if options.split is not None else "masks"
        raise UsageError(f"{why}: expected one folder or table of data for IMAGES, got {len(options.images)}")
    table = table_of_run(options.run_folder, Path(options.images[0]))
    return table if options.split is None else table.select(options.split)


def _as_certified(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    from ifam.verify.record import setting_of

    setting = setting_of(record, path)
    return {"seed": setting.seed, "precision": setting.precision, "batch_size": setting.batch_size, "sample": None}


def _certified(record: Mapping[str, Any], model: "Classifier", table: "ImageTable") -> "Photographs":
    from ifam.storage import description_sha256, weights_sha256
    from ifam.verify.record import photographs_of, require_same_model

    require_same_model(record, weights_sha256(model), description_sha256(model))
    chosen = photographs_of(record, table)
    if len(chosen) < len(table):
        print(f"left out: {len(table) - len(chosen)} images that the certificate does not name", file=sys.stderr)
    return chosen


def _write(path: Path, found: "Certificate", files: list[dict[str, Any]], asked: Mapping[str, Any]) -> None:
    from ifam.device import describe_machine
    from ifam.files import now, to_json, write_text
    from ifam.verify.record import to_record

    machine = describe_machine(asked["device"], asked["precision"])
    record = to_record(found, model_files=files, machine=machine, written=now())
    write_text(path, to_json(record, indent=1) + "\n")


def _compare(record: Mapping[str, Any], found: "Certificate") -> None:
    from ifam.verify.record import differences, require_same_findings

    changed = differences(record, found)
    require_same_findings(changed)
    rounding = f"; {len(changed)} numbers differ by rounding" if changed else ", every number"
    print(f"as certified: the same model, the same {found.num_images} photographs, the same findings{rounding}")
