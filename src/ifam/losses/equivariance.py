"""The random rigid transform of the equivariance loss, applied to images and undone on maps."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ANGLE = 90.0
MAX_SHIFT = 0.11
SCALES = (0.8, 1.4)


@dataclass(frozen=True, kw_only=True)
class RigidTransform:
    """Scale and rotate about the centre, then shift. Works on any size: shifts are shares of width and height."""

    angle: float
    """degrees, clockwise on the screen"""
    shift: tuple[float, float]
    """(right, down), shares of the width and the height"""
    scale: float

    @classmethod
    def draw(cls) -> "RigidTransform":
        """Rotation ±90°, shift ±11 %, scale 0.8 to 1.4, from torch's generator."""
        angle, right, down, scale = torch.rand(4, dtype=torch.float64).tolist()
        return cls(
            angle=MAX_ANGLE * (2 * angle - 1),
            shift=(MAX_SHIFT * (2 * right - 1), MAX_SHIFT * (2 * down - 1)),
            scale=SCALES[0] + (SCALES[1] - SCALES[0]) * scale,
        )

    def apply(self, images: Tensor) -> Tensor:
        """Transform (B, C, H, W); what enters the frame is 0, the mean colour of normalised images."""
        linear, shift = self._matrix(images)
        inverse = linear.inverse()
        return _sample(images, inverse, -inverse @ shift)

    def undo(self, maps: Tensor) -> Tensor:
        """Move maps (B, K+1, h, w) of a transformed image back onto the original; 0 where they left the frame."""
        return _sample(maps, *self._matrix(maps))

    def _matrix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Original to transformed position, in half widths and half heights from the centre."""
        height, width = x.shape[-2:]
        radians = math.radians(self.angle)
        cosine, sine = self.scale * math.cos(radians), self.scale * math.sin(radians)
        aspect = height / width
        linear = torch.tensor([[cosine, -sine * aspect], [sine / aspect, cosine]], dtype=torch.float64)
        return linear, 2 * torch.tensor(self.shift, dtype=torch.float64)


def _sample(x: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Read ``x`` at linear · position + shift, bilinearly."""
    theta = torch.cat([linear, shift[:, None]], dim=1).to(x)
    grid = F.affine_grid(theta.expand(len(x), -1, -1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
