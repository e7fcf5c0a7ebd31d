"""``ifam import``."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ifam.commands.arguments import add_command
from ifam.errors import UsageError


def add(subparsers: Any) -> None:
    """Its arguments."""
    command = add_command(
        subparsers,
        "import",
        run,
        "convert a checkpoint of the method's authors",
        "ifam import snapshot_best.pt --backbone vit_base_patch14_reg4_dinov2 --out model",
    )
    command.add_argument("snapshot", type=Path, metavar="SNAPSHOT")
    command.add_argument("--backbone", required=True, metavar="NAME", help="timm architecture of the checkpoint")
    command.add_argument("--image-size", type=int, metavar="N", help="that it was trained at (default: the backbone's)")
    command.add_argument("--class-names", nargs="+", metavar="NAME")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")


def run(options: Namespace) -> None:
    """``ifam import``."""
    from ifam.model.reference import load_reference
    from ifam.storage import CONFIG, DESCRIPTION, WEIGHTS, save

    held = [name for name in (CONFIG, WEIGHTS, DESCRIPTION) if (options.out / name).exists()]
    if held:
        what = "a run" if CONFIG in held else "a model"
        raise UsageError(f"{options.out}: expected a new folder, got one that holds {what}; choose another")
    model = load_reference(options.snapshot, backbone=options.backbone, image_size=options.image_size)
    if options.class_names is not None:
        if len(options.class_names) != model.num_classes:
            raise UsageError(f"class names: expected {model.num_classes}, got {len(options.class_names)}")
        model.class_names = list(options.class_names)
    save(model, options.out)
    print(f"{options.out}: {model.num_parts} parts, {model.num_classes} classes")
