"""What a run settles before it starts: what is done to an image, and where the prototypes begin."""

from dataclasses import replace
from typing import Any

import torch
from timm.models.vision_transformer import Block

from ifam.config import NO_SCORES, SelectBy, TrainingConfig
from ifam.data.images import BITS, has_16_bits, image_size, open_image, too_dark
from ifam.data.module import ImageDataModule
from ifam.data.table import ImageTable, evenly_spaced
from ifam.device import arithmetic
from ifam.errors import DataError, UsageError
from ifam.files import printable
from ifam.model.base import Classifier
from ifam.model.parts import lean_to_centre, lean_to_object
from ifam.model.two_stage import IFAM

XRAY_MEAN, XRAY_STD = 0.48865, 0.24621
IMAGENET_CROP_RATIO = 224 / 256
"""of the published code, at test time"""
INITIAL_IMAGES = 96
FEWEST_PATCHES, GOOD_PATCHES = 3, 8
"""on each side of an image: what the losses of the parts need, and what leaves them some room"""
SEEN = 20
"""images that are looked at before a training for the bits that they use"""
FEW_VALIDATION_IMAGES = 20
"""fewer, and a single image moves the score that chooses the best epoch by more than 5 points"""


def fit_preprocessing(model: Classifier, table: ImageTable, config: TrainingConfig) -> list[str]:
    """Set image size and statistics: as configured, else after the images and the backbone.

    Returns:
        Lines that the user should read: that images are enlarged, that 16-bit images are very dark.

    Raises:
        UsageError: the configured size has too few patches.
    """
    size, said = config.model.image_size, []
    if size is None:
        said += _fit_image_size(model, image_size_of(table))
    else:
        model.set_image_size((size, size) if isinstance(size, int) else size)
        _check_grid(model, config)
    if config.augmentation == "xray":
        model.preprocessing = replace(model.preprocessing, resize="squash", mean=(XRAY_MEAN,) * 3, std=(XRAY_STD,) * 3)
    if config.augmentation == "imagenet":
        model.preprocessing = replace(model.preprocessing, crop_ratio=IMAGENET_CROP_RATIO)
    return said + [f"warning: {line}" for line in too_dark(_bits_of_16(table))]


def _fit_image_size(model: Classifier, found: tuple[int, int]) -> list[str]:
    """The images' size in whole patches, at most the backbone's own; its own where it takes no such images.

    Images of fewer than three patches on a side are enlarged, as they lie, until the shorter side has eight. The line
    that says so is returned.
    """
    largest, patch = model.backbone.image_size, model.backbone.patch_size
    fewest = min(pixels / side for pixels, side in zip(found, patch, strict=True))
    scale = GOOD_PATCHES / fewest if round(fewest) < FEWEST_PATCHES else 1.0
    height, width = (
        min(most, max(1, round(scale * pixels / side)) * side)
        for pixels, side, most in zip(found, patch, largest, strict=True)
    )
    try:
        model.set_image_size((height, width))
    except UsageError:
        model.set_image_size(largest)
    if scale == 1:
        return []
    height, width = model.preprocessing.image_size
    return [
        f"images of {found[1]} × {found[0]} pixels are enlarged to {width} × {height}: the backbone's patches have "
        f"{patch[1]} × {patch[0]}; --image-size chooses another size"
    ]


def _check_grid(model: Classifier, config: TrainingConfig) -> None:
    """Refuse a size under the `FEWEST_PATCHES` where the losses or the first prototypes need them."""
    size, patch, losses = model.preprocessing.image_size, model.backbone.patch_size, config.losses
    needed = (
        losses.foreground_presence
        or losses.background_presence
        or losses.object_presence
        or config.model.prototype_init != "random"
    )
    if not (isinstance(model, IFAM) and needed) or min(grid := model.stage1.grid(size)) >= FEWEST_PATCHES:
        return
    raise UsageError(
        f"image size: expected a token grid of at least {FEWEST_PATCHES}×{FEWEST_PATCHES}, got {grid[0]}×{grid[1]} of "
        f"patches of {patch[1]} × {patch[0]} pixels; use --image-size {GOOD_PATCHES * max(patch)} (at least "
        f"{FEWEST_PATCHES * max(patch)}), or a smaller patch"
    )


def _bits_of_16(table: ImageTable) -> list[int]:
    """Of some training images of 16 bits, how many of them they use; of images of 8 bits only headers are read."""
    bits = []
    for sample in evenly_spaced(table.select("train").samples, SEEN):
        try:
            if has_16_bits(sample.path):
                bits.append(open_image(sample.path).info[BITS])
        except DataError:
            continue
    return bits


def image_size_of(table: ImageTable, sample: int = 50) -> tuple[int, int]:
    """(height, width) of the training images, from the headers of ``sample`` of them; a square where they differ."""
    samples = table.select("train").samples
    samples = samples[:: max(1, len(samples) // sample)]
    sizes = set()
    for item in samples:
        try:
            width, height = image_size(item.path)
        except DataError:
            continue
        sizes.add((height, width))
    if not sizes:
        raise DataError(f"{table.root}: expected images that can be read, got none among {len(samples)} of them")
    if len(sizes) == 1:
        return sizes.pop()
    side = sorted(min(size) for size in sizes)[len(sizes) // 2]
    return side, side


def doubts(model: Classifier) -> str:
    """What is odd about a model that can be trained all the same; empty if nothing is."""
    if not isinstance(model, IFAM):
        return ""
    rows, columns = model.stage1.grid(model.preprocessing.image_size)
    if model.num_parts <= rows * columns:
        return ""
    return f"warning: {model.num_parts} parts for {rows} × {columns} tokens of an image: some will stay empty"


def few_to_choose_by(table: ImageTable, select_by: SelectBy) -> str:
    """How little the choice of the best epoch rests on; empty where it is enough, or where nothing is chosen."""
    validation = table.select("val")
    groups = {} if select_by in ("accuracy", "auc", *NO_SCORES) else validation.group_counts()
    counts = {f" of {name}": count for name, count in groups.items() if count} or {"": len(validation)}
    of_what, fewest = min(counts.items(), key=lambda item: item[1])
    if select_by == "last" or not 0 < fewest < FEW_VALIDATION_IMAGES:
        return ""
    images = f"{fewest} validation image{'' if fewest == 1 else 's'}{of_what}"
    return printable(f"warning: the best epoch was chosen on {images}: each is worth {100 / fewest:.0f} points")


def checkpoint_activations(model: Classifier) -> None:
    """Have every backbone of ``model`` compute its activations again in the backward pass.

    Raises:
        UsageError: timm cannot do that with this one.
    """
    for module in model.modules():
        enable: Any = getattr(module, "set_grad_checkpointing", None)
        if enable is not None:
            try:
                enable()
            except AssertionError as error:
                name = type(module).__name__
                raise UsageError(
                    f"activation_checkpointing: expected a backbone that timm can do it with, got {name}"
                ) from error


def compile_blocks(model: Classifier) -> None:
    """Have torch.compile fuse the norms and MLP of every block; attention, which follows the selection, stays as it is.

    Raises:
        UsageError: there is no vision transformer.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if not blocks:
        raise UsageError("compile: expected a vision transformer as backbone, got another network; leave it false")
    for block in blocks:
        for layer in (block.norm1, block.norm2, block.mlp):
            layer.compile(dynamic=True)  # the tokens of stage 2 are never the same number


@torch.no_grad()
def initialise_prototypes(model: Classifier, table: ImageTable, config: TrainingConfig, device: torch.device) -> None:
    """Turn random prototypes towards the object of the training images, where the configuration asks for it."""
    if config.model.prototype_init == "random" or not isinstance(model, IFAM):
        return
    samples = table.select("train").samples
    some = replace(table, samples=samples[:: max(1, len(samples) // INITIAL_IMAGES)])
    data = ImageDataModule.at_test_time(some, model.preprocessing, batch_size=16)
    model.to(device)
    tokens = []
    for batch in data.loader("train"):
        if len(batch):
            with arithmetic(config.precision, device):
                encoded = model.stage1(batch.images.to(device))
            tokens.append(model.stage1.split(encoded, model.preprocessing.image_size)[1])
    if not tokens:
        raise DataError(f"{table.root}: expected training images that can be read, got none; see ifam doctor")
    lean = config.model.centre_lean or (12.0 if model.num_parts == 1 else 24.0)
    leaning = lean_to_centre if config.model.prototype_init == "centre" else lean_to_object
    model.prototypes.copy_(leaning(model.prototypes, torch.cat(tokens), lean))
