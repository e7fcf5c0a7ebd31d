"""What a stored model may hold: refused where it is read, so that nothing odd is met where it is used."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ifam.errors import CheckpointError, UsageError
from ifam.model.backbone import Backbone
from ifam.model.base import Classifier
from ifam.model.origin import Origin
from ifam.model.two_stage import IFAM

SWITCHES = ("soft_masks", "second_stage")
"""options that are true or false"""


def check_description(description: Mapping[str, Any]) -> None:
    """Refuse what Python would take until somebody uses it.

    Raises:
        ValueError: see above.
    """
    names, sizes = description["class_names"], description["training_group_sizes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names that are no list of names")
    if not isinstance(sizes, dict) or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise ValueError("training_group_sizes that are no numbers of images by group")
    options = description.get("options", {})
    odd = [name for name in SWITCHES if not isinstance(options.get(name, True), bool)]
    if odd:
        raise ValueError(f"the option {odd[0]} that is neither true nor false")
    origin = description.get("backbone_origin", {})
    if not isinstance(origin, dict) or Origin.of_metadata(origin).known() != origin:
        raise ValueError("a backbone_origin that is not title, source and license as texts")


def check_thresholds(model: Classifier) -> None:
    """Refuse thresholds that are not one squared distance for each part, by quantile.

    Raises:
        ValueError: see above.
    """
    if not isinstance(model, IFAM):
        return
    for quantile, values in model.token_thresholds.items():
        if not 0 <= quantile <= 1:
            raise ValueError(f"token_thresholds of {quantile}, which is no quantile from 0 to 1")
        if len(values) != model.num_parts or not all(0 <= value < math.inf for value in values):
            raise ValueError(f"token_thresholds that are not {model.num_parts} squared distances by quantile")


def check_image_size(model: Classifier) -> None:
    """Refuse preprocessing to another grid of patches than the model has positions for: it would be interpolated.

    Raises:
        UsageError: see above.
    """
    backbone, wanted = model.backbone, model.preprocessing.image_size
    if isinstance(backbone, Backbone) and backbone.grid(wanted) != backbone.grid(backbone.image_size):
        (height, width), (own_height, own_width) = wanted, backbone.image_size
        raise UsageError(
            f"image size: expected preprocessing to the model's own {own_height} × {own_width} pixels, got {height} × "
            f"{width}; call model.set_image_size(({height}, {width}))"
        )


def check_one_type(state: Mapping[str, Tensor], source: object) -> None:
    """Refuse floating-point weights of several types: a model is saved in one.

    Raises:
        CheckpointError: see above.
    """
    types: dict[torch.dtype, str] = {}
    for name, value in state.items():
        if value.is_floating_point():
            types.setdefault(value.dtype, name)
    if len(types) > 1:
        found = " and ".join(f"{str(dtype).removeprefix('torch.')} ({name})" for dtype, name in list(types.items())[:2])
        raise CheckpointError(f"{source}: expected weights of one floating-point type, got {found}; save it anew")
