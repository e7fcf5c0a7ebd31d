"""What a loader yields: a typed batch, with the images that could not be read named."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ifam.errors import DataError, UnavailableError
from ifam.processes import Share

OFFER = ", or pass --skip-unreadable to go on without it"


@dataclass(kw_only=True)  # not frozen: Lightning sets fields when it casts a batch to half precision
class Batch:
    """B images of the table, those that could be read; annotations are ``None`` where the split has none."""

    images: Tensor  # (B, 3, H, W) float32, normalised; (0, 3, 0, 0) if none could be read
    labels: Tensor  # (B,) int64
    groups: Tensor  # (B,) int64, −1 where unknown
    indices: Tensor  # (B,) int64, rows of the table that the loader was made from
    masks: Tensor | None = None  # (B, H, W) bool
    given_masks: Tensor | None = None  # (B, H, W) bool, for models that are told where to look
    keypoints: Tensor | None = None  # (B, P, 2) float32, (x, y) in pixels of the images, 0 where not visible
    visible: Tensor | None = None  # (B, P) bool, false also where a point has left the frame
    boxes: Tensor | None = None  # (B, 4) float32, (x, y, width, height) in pixels; the image where there is no box
    unreadable: "tuple[Unreadable, ...]" = ()  # the images that are left out
    share: Share = field(default_factory=Share)  # of several processes

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; the loader calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {name: function(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a batch to be."""

    image: Tensor
    label: int
    group: int
    index: int
    mask: Tensor | None = None
    given_mask: Tensor | None = None
    keypoints: Tensor | None = None  # (P, 2), NaN where not visible
    box: Tensor | None = None  # (4,)


@dataclass  # not frozen, as a batch is not
class Unreadable:
    """In the place of an image that could not be read; an exception in a worker would arrive as a page of traceback."""

    message: str
    index: int
    transient: bool = False
    """whether the system did not give the file just now: nothing is known of the image, and another try may read it"""

    @classmethod
    def of(cls, error: DataError, index: int) -> "Unreadable":
        """What an error says of the image at ``index``."""
        return cls(str(error), index, transient=isinstance(error, UnavailableError))


def require_readable(batch: Batch, *, skip_unreadable: bool) -> None:
    """Stop at the first image that could not be read, unless asked to go on without such images.

    Raises:
        DataError: see above.
    """
    if batch.unreadable and not skip_unreadable:
        first = batch.unreadable[0]
        kind = UnavailableError if first.transient else DataError
        raise kind(first.message + OFFER)  # the message ends with what else to do


@contextmanager
def reading_all() -> Iterator[None]:
    """Around work that leaves no image out whatever is asked: what stops it does not offer to."""
    try:
        yield
    except DataError as error:
        error.args = (str(error).replace(OFFER, ""),)
        raise


def collate(items: Sequence[Item | Unreadable]) -> Batch:
    """One batch of the items that could be read; the messages of the others go along."""
    readable = [item for item in items if isinstance(item, Item)]
    keypoints = _stacked([item.keypoints for item in readable])
    images = _stacked([item.image for item in readable])
    return Batch(
        images=torch.empty(0, 3, 0, 0) if images is None else images,
        labels=torch.tensor([item.label for item in readable], dtype=torch.int64),
        groups=torch.tensor([item.group for item in readable], dtype=torch.int64),
        indices=torch.tensor([item.index for item in readable], dtype=torch.int64),
        masks=_stacked([item.mask for item in readable]),
        given_masks=_stacked([item.given_mask for item in readable]),
        keypoints=None if keypoints is None else keypoints.nan_to_num(),
        visible=None if keypoints is None else keypoints.isfinite().all(-1),
        boxes=_stacked([item.box for item in readable]),
        unreadable=tuple(item for item in items if isinstance(item, Unreadable)),
    )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None
