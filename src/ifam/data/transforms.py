"""From a PIL image to normalised float32; masks, keypoints and boxes of the same sample move with it."""

from collections.abc import Callable
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from ifam.data.planckian import PlanckianJitter
from ifam.data.rand_augment import RandAugment
from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing


def test_transform(preprocessing: Preprocessing) -> v2.Transform:
    """What the model sees at test time: resize, centre crop, normalise.

    Takes a PIL image, an array (h, w, 3), a tensor (3, h, w), or a dict of one of them and ``tv_tensors``;
    images come back as (3, h, w) float32.
    """
    return v2.Compose(
        [v2.ToImage(), Resize(preprocessing), v2.CenterCrop(preprocessing.image_size), *_to_model(preprocessing)]
    )


test_transform.__test__ = False  # type: ignore[attr-defined]  # keeps pytest from taking it for a test


def train_transform(preprocessing: Preprocessing, augmentation: str) -> v2.Transform:
    """The random view of an image in training; draws from torch's CPU generator only.

    ``birds`` flips, changes the light, rotates, shifts and scales; ``light`` and ``xray`` flip and crop (a squashed
    image leaves nothing to crop); ``imagenet`` is for images alone; ``none`` is the test transform.
    """
    if augmentation not in AUGMENTATIONS:
        raise UsageError(f"augmentation: expected one of {', '.join(AUGMENTATIONS)}, got {augmentation!r}")
    return AUGMENTATIONS[augmentation](preprocessing)


# eight bits become [0, 1]; what is float already stays
_FLOAT = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)


class Resize(v2.Transform):
    """To ``image_size`` side by side ("squash"), or until it is covered with the aspect ratio kept ("crop").

    A ``crop_ratio`` under 1 covers so much more than ``image_size`` before the crop.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.image_size = preprocessing.image_size
        self.cover = preprocessing.resize == "crop"
        self.crop_ratio = preprocessing.crop_ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size to come."""
        if not self.cover:
            return {"size": list(self.image_size)}
        sides = v2.query_size(flat_inputs)
        covered = [int(target / self.crop_ratio) for target in self.image_size]
        scale = max(target / side for target, side in zip(covered, sides, strict=True))
        return {"size": [max(t, round(scale * side)) for t, side in zip(self.image_size, sides, strict=True)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Bicubic with antialiasing; a mask takes the nearest pixel."""
        # NEAREST would shift a mask by half a pixel against its image
        is_mask = isinstance(inpt, tv_tensors.Mask)
        mode = InterpolationMode.NEAREST_EXACT if is_mask else InterpolationMode.BICUBIC
        return F.resize(inpt, params["size"], interpolation=mode, antialias=True)


def _to_model(preprocessing: Preprocessing) -> list[v2.Transform]:
    return [_FLOAT, v2.Normalize(list(preprocessing.mean), list(preprocessing.std)), v2.ToPureTensor()]


def _birds(preprocessing: Preprocessing) -> v2.Transform:
    affine = v2.RandomAffine(
        degrees=(-90, 90),
        translate=(0.2, 0.2),
        scale=(0.8, 1.2),
        interpolation=InterpolationMode.BILINEAR,
        # what the rotation uncovers is 0 after normalisation
        fill={tv_tensors.Image: list(preprocessing.mean), tv_tensors.Mask: 0},
    )
    light = v2.RandomApply([PlanckianJitter()], p=0.8)
    crop = v2.RandomCrop(preprocessing.image_size)
    view = [Resize(preprocessing), v2.RandomHorizontalFlip(), _FLOAT, light, affine, crop]
    return v2.Compose([v2.ToImage(), *view, *_to_model(preprocessing)])


def _flip_and_crop(preprocessing: Preprocessing) -> v2.Transform:
    crop = v2.RandomCrop(preprocessing.image_size)
    return v2.Compose([v2.ToImage(), Resize(preprocessing), v2.RandomHorizontalFlip(), crop, *_to_model(preprocessing)])


def _imagenet(preprocessing: Preprocessing) -> v2.Transform:
    crop = v2.RandomResizedCrop(preprocessing.image_size, interpolation=InterpolationMode.BICUBIC)
    view = [v2.ToPILImage(), crop, v2.RandomHorizontalFlip(), RandAugment(preprocessing)]
    return v2.Compose([*view, v2.ToImage(), *_to_model(preprocessing)])


AUGMENTATIONS: dict[str, Callable[[Preprocessing], v2.Transform]] = {
    "birds": _birds,
    "xray": _flip_and_crop,
    "imagenet": _imagenet,
    "light": _flip_and_crop,
    "none": test_transform,
}

# augmentations that would leave masks and keypoints behind
IMAGE_ONLY = frozenset({"imagenet"})
