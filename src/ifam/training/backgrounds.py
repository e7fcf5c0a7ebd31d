"""Photographs whose background is another's: what surrounds an object then says nothing of its class."""

import torch
from torch import Tensor

from ifam.processes import WHOLE, Share

BLANK = 0.3
"""share of the images before none, where the model takes its evidence in pixels; more would teach the silhouette"""
UNCHANGED = 0.3
"""share of the images before their own, where stage 1 learns that others do not matter"""
SMALLEST_BOX = 0.3
"""share of an image"""


def borrow_backgrounds(
    images: Tensor, inside: Tensor, share: Share = WHOLE, *, blank: float = 0.0, unchanged: float = 0.0
) -> Tensor:
    """``images`` (B, 3, H, W) with another photograph of the batch outside ``inside`` (B, H, W) bool, their objects.

    Only the background of that photograph comes along: where its own object lies, a third photograph fills in. Who
    lends to whom is drawn from torch's generator, never an image to itself unless it is alone. Of a batch that several
    processes ``share``, all of it lends. ``blank``: probability with which an image gets no background but 0, the mean
    colour of normalised images, as at test time with evidence in pixels; ``unchanged``: with which it keeps its own.
    """
    everyone, objects = share.in_order(images), share.in_order(inside)
    order = torch.randperm(len(everyone))
    lenders, third = (torch.empty_like(order) for _ in range(2))
    lenders[order], third[order] = order.roll(-1), order.roll(-2)
    lenders, third = (share.own(each).to(images.device) for each in (lenders, third))
    background = torch.where(objects[lenders, None], everyone[third], everyone[lenders])

    def some(probability: float) -> Tensor:
        return share.own(torch.rand(len(everyone)) < probability).to(images.device)[:, None, None, None]

    if blank:
        background = background.masked_fill(some(blank), 0)
    if unchanged:
        background = torch.where(some(unchanged), images, background)
    return torch.where(inside[:, None], images, background)


def random_boxes(images: Tensor, share: Share = WHOLE) -> Tensor:
    """A box of each image, with its proportions, somewhere in it, of 30 to 100 % of its area: (B, H, W) bool.

    As in CutMix (S. Yun et al., ICCV 2019), which needs no mask either, but the box keeps its image's label whole.
    """
    count, (height, width) = share.total(len(images)), images.shape[2:]
    area, top, left = share.own(torch.rand(count, 3)).unbind(1)
    side = (SMALLEST_BOX + (1 - SMALLEST_BOX) * area).sqrt()

    def covered(start: Tensor, pixels: int) -> Tensor:
        place = (torch.arange(pixels) + 0.5) / pixels
        begin = (start * (1 - side))[:, None]
        return (place >= begin) & (place < begin + side[:, None])

    return (covered(top, height)[:, :, None] & covered(left, width)[:, None]).to(images.device)
