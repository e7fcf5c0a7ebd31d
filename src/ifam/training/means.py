"""Mean losses of an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Means:
    """Sums over the images of an epoch so far, which a run that goes on within it needs. Lightning saves none."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    images: int = 0

    def update(self, means: Mapping[str, Tensor], images: int) -> None:
        """Add the means of a batch."""
        for name, value in means.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float() * images
        self.images += images

    def values(self) -> dict[str, Tensor]:
        """By name; none where no image could be read."""
        return {name: total / self.images for name, total in self.sums.items()}
