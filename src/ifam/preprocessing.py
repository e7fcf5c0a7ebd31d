"""What is done to a photograph before the model sees it; saved with every model."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ifam.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The test-time view of an image.

    ``resize="crop"`` scales until the image covers ``image_size`` and cuts the centre;
    ``resize="squash"`` scales each side on its own (chest X-rays). ``image_size`` is (height, width) in pixels.
    ``crop_ratio`` is the share of the covering size that "crop" keeps: 0.875 scales until 256 pixels are covered and
    cuts 224 of them, as is usual on ImageNet.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resize: Literal["crop", "squash"] = "crop"
    crop_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not all(type(side) is int and side >= 1 for side in self.image_size):
            raise UsageError(f"image size: expected two positive whole numbers of pixels, got {self.image_size}")
        if self.resize not in ("crop", "squash"):
            raise UsageError(f"resize: expected crop or squash, got {self.resize!r}")
        if not 0 < self.crop_ratio <= 1:
            raise UsageError(f"crop ratio: expected a share in (0, 1], got {self.crop_ratio}")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(f"std: expected positive values, got {self.std}")
        if not all(-math.inf < value < math.inf for value in self.mean):
            raise UsageError(f"mean: expected finite values, got {self.mean}")

    def whole(self) -> "Preprocessing":
        """The same without cutting a border off: for pictures that are cut already, as those of ImageNet-9 are."""
        return replace(self, crop_ratio=1.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of ``to_dict``."""
        height, width = values["image_size"]
        red, green, blue = values["mean"]
        std_red, std_green, std_blue = values["std"]
        return cls(
            image_size=(height, width),
            mean=(red, green, blue),
            std=(std_red, std_green, std_blue),
            resize=values["resize"],
            crop_ratio=values.get("crop_ratio", 1.0),  # models saved before have none
        )
