"""Planckian jitter: the light of a random black body instead of a random tint."""

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

DAYLIGHT = 6500.0  # kelvin
_WAVELENGTHS = (612.0, 549.0, 464.0)  # nm: dominant wavelengths of the sRGB primaries
_C2 = 1.438777e7  # nm K: hc/k, the second radiation constant


def planckian_gains(kelvin: float) -> tuple[float, float, float]:
    """Factors on red, green and blue that turn daylight (6500 K) into the light of a black body; green stays 1.

    Planck's law, with each channel as a sensor at the dominant wavelength of its primary.
    """
    red, green, blue = (_radiance(length, kelvin) / _radiance(length, DAYLIGHT) for length in _WAVELENGTHS)
    return red / green, 1.0, blue / green


def _radiance(length: float, kelvin: float) -> float:
    # without λ⁻⁵, which cancels in the ratio of two temperatures
    return 1 / math.expm1(_C2 / (length * kelvin))


class PlanckianJitter(v2.Transform):
    """A temperature drawn uniformly for each image, in kelvin; on float images in [0, 1], never on masks.

    Zini et al., "Planckian Jitter", ICLR 2023. As there, the factors act on the encoded values.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, low: float = 3000.0, high: float = 15000.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Gains, one draw for all inputs."""
        return {"gains": planckian_gains(torch.empty(()).uniform_(self.low, self.high).item())}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """(3, h, w) -> the same, clamped to [0, 1]."""
        gains = torch.tensor(params["gains"], dtype=inpt.dtype, device=inpt.device)
        image: Tensor = tv_tensors.wrap((inpt * gains[:, None, None]).clamp(0, 1), like=inpt)
        return image
