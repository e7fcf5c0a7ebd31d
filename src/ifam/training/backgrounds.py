"""Photographs whose background is another's: what surrounds an object then says nothing of its class."""

import torch
from torch import Tensor

from ifam.processes import WHOLE, Share


def borrow_backgrounds(images: Tensor, inside: Tensor, share: Share = WHOLE) -> Tensor:
    """``images`` (B, 3, H, W) with another photograph of the batch outside ``inside`` (B, H, W) bool, their objects.

    Only the background of that photograph comes along: where its own object lies, a third photograph fills in. Who
    lends to whom is drawn from torch's generator, never an image to itself unless it is alone. Of a batch that several
    processes ``share``, all of it lends.
    """
    everyone, objects = share.in_order(images), share.in_order(inside)
    order = torch.randperm(len(everyone))
    lenders, third = (torch.empty_like(order) for _ in range(2))
    lenders[order], third[order] = order.roll(-1), order.roll(-2)
    lenders, third = (share.own(each).to(images.device) for each in (lenders, third))
    background = torch.where(objects[lenders, None], everyone[third], everyone[lenders])
    return torch.where(inside[:, None], images, background)
