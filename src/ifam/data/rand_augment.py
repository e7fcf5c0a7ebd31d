"""timm's RandAugment as a torchvision transform that draws from torch's generator."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL.Image import Image, Resampling
from timm.data.auto_augment import rand_augment_transform
from torchvision import tv_tensors
from torchvision.transforms import v2

from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing

STRENGTH = "rand-m6-mstd0.5"
"""of the published code, in timm's words"""


class RandAugment(v2.Transform):
    """Two random operations on a PIL image, of `STRENGTH`; refuses annotations, which stay behind.

    Cubuk et al., "RandAugment", CVPR Workshops 2020.
    """

    _transformed_types = (Image,)

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        fill = tuple(round(255 * mean) for mean in preprocessing.mean)
        self.augment = rand_augment_transform(
            STRENGTH,
            {
                "img_mean": fill,
                "translate_const": int(0.45 * min(preprocessing.image_size)),
                "interpolation": Resampling.BICUBIC,
            },
        )

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Images only."""
        if any(isinstance(value, (tv_tensors.Mask, tv_tensors.KeyPoints)) for value in flat_inputs):
            raise UsageError(
                "augmentation imagenet: expected images alone, got masks or keypoints; choose light or no annotations"
            )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """A seed for the generators that timm draws from."""
        return {"seed": int(torch.randint(2**32, ()))}

    def transform(self, inpt: Image, params: dict[str, Any]) -> Image:
        """An image of the same size."""
        with _seeded(params["seed"]):
            image: Image = self.augment(inpt)
        return image


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators of Python and NumPy, newly seeded here and as before afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
