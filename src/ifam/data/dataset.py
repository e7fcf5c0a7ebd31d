"""A table as a torch data set: decoding, annotations, one random view for each draw."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from ifam.data.batch import Item, Unreadable
from ifam.data.images import open_image
from ifam.data.masks import open_mask
from ifam.data.rows import Box
from ifam.data.run_lengths import RunLengths
from ifam.data.table import ImageTable, Sample
from ifam.errors import DataError


@dataclass(frozen=True, slots=True)
class Draw:
    """An image to be read, and the seed of its random view."""

    index: int
    seed: int = 0


class ImageDataset(Dataset[Item | Unreadable]):
    """Images of a table after a transform that maps a dict of ``tv_tensors`` to a dict of tensors.

    With ``annotations``, masks are read where every image of the table has one (otherwise for none of them), keypoints
    where the table has any, and boxes always; given masks are read in any case where every image has one. The view
    depends on the draw alone, not on the process or the order: an index without a seed gives the same view every time.
    """

    def __init__(self, table: ImageTable, transform: Callable[[Any], Any], *, annotations: bool = False) -> None:
        self.table = table
        self.transform = transform
        self.annotations = annotations
        self._has_masks = annotations and table.has_masks
        self._has_given_masks = bool(table.samples) and all(sample.given_mask for sample in table.samples)
        self._has_keypoints = annotations and table.has_keypoints

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, draw: int | Draw) -> Item | Unreadable:
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        sample = self.table.samples[draw.index]
        try:
            image = open_image(sample.path)
            fields = {"image": image, **(self._annotated(sample, image) if self.annotations else {})}
            if self._has_given_masks and sample.given_mask:
                fields["given_mask"] = _mask(sample.given_mask, image)
        except DataError as error:
            return Unreadable.of(error, draw.index)
        with _seeded(draw.seed):
            view = self.transform(fields)
        return Item(
            image=view["image"],
            label=sample.label,
            group=-1 if sample.group is None else sample.group,
            index=draw.index,
            mask=view["mask"].bool() if self._has_masks else None,
            given_mask=view["given_mask"].bool() if self._has_given_masks else None,
            keypoints=_visible_only(view["keypoints"], view["image"]) if self._has_keypoints else None,
            box=_box(view) if self.annotations else None,
        )

    def _annotated(self, sample: Sample, image: Image) -> dict[str, Tensor]:
        size = (image.height, image.width)
        fields: dict[str, Tensor] = {}
        if self._has_masks and sample.mask:
            fields["mask"] = _mask(sample.mask, image)
        if self._has_keypoints:
            points = sample.keypoints or {}
            # NaN moves with the others and is never in the frame
            rows = [points.get(name, (torch.nan, torch.nan)) for name in self.table.keypoint_names]
            fields["keypoints"] = tv_tensors.KeyPoints(torch.tensor(rows), canvas_size=size)
        if sample.box:
            # not clamped: a box cut by the crop would change the unit of the keypoint error
            fields["box"] = tv_tensors.BoundingBoxes(
                torch.tensor([sample.box]), format="XYWH", canvas_size=size, clamping_mode=None
            )
        return fields


def _mask(mask: Path | RunLengths | Box, image: Image) -> Tensor:
    return tv_tensors.Mask(torch.from_numpy(open_mask(mask, size=image.size)).to(torch.uint8))


def _box(view: dict[str, Tensor]) -> Tensor:
    """(x, y, width, height) of the box, or of the image where there is none."""
    if "box" in view:
        return view["box"][0].float()
    height, width = view["image"].shape[-2:]
    return torch.tensor([0, 0, width, height], dtype=torch.float32)


def _visible_only(keypoints: Tensor, image: Tensor) -> Tensor:
    """(P, 2) with NaN where a point lies outside the image (3, H, W)."""
    height, width = image.shape[-2:]
    inside = ((keypoints >= 0) & (keypoints < torch.tensor([width, height]))).all(-1, keepdim=True)
    return keypoints.where(inside, torch.nan)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator newly seeded, and as before afterwards; the generators of devices are left alone."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
