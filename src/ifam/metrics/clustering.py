"""How well the discovered parts, taken as a clustering of the annotated keypoints, agree with the keypoints' identity.

The protocol on CUB of SCOPS, Choudhury et al. (2021) and PDiscoFormer: every visible keypoint of every image of the
split is one sample; its cluster is the part that wins at its position, the background being a part like the others;
its class is its own id (beak, tail, ...). One NMI and one ARI are taken over all samples of the data set together,
never per image. They are published in percent, here in 0–1.

>>> maps = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]]]])  # one image of two tokens: one part, and the background
>>> keypoints = torch.tensor([[[2.0, 3.0], [12.0, 3.0], [0.0, 0.0]]])
>>> visible = torch.tensor([[True, True, False]])
>>> parts = part_labels_at(maps, keypoints, image_size=(8, 16))[visible]
>>> ids = torch.arange(3).expand_as(visible)[visible]
>>> parts, ids, normalized_mutual_information(parts, ids), adjusted_rand_index(parts, ids)
(tensor([0, 1]), tensor([0, 1]), 1.0, 1.0)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.errors import UsageError


def part_labels_at(part_maps: Tensor, keypoints_xy: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The part that wins at each keypoint, (B, P) int64 from 0 to K, K being the background.

    ``part_maps`` (B, K+1, h, w); ``keypoints_xy`` (B, P, 2) as (x, y) in pixels, pixel i covering i to i + 1, with any
    position inside the image for keypoints that are not visible; ``image_size`` (height, width). The maps are upsampled
    bilinearly to the image, and the winner is that of the pixel that holds the keypoint.
    """
    height, width = image_size
    if part_maps.ndim != 4 or keypoints_xy.ndim != 3 or keypoints_xy.shape[::2] != (len(part_maps), 2):
        raise UsageError(
            f"keypoints: expected (B, P, 2) for part maps (B, K+1, h, w),"
            f" got {tuple(keypoints_xy.shape)} for {tuple(part_maps.shape)}"
        )
    size = keypoints_xy.new_tensor([width, height])
    if not bool(((keypoints_xy >= 0) & (keypoints_xy <= size)).all()):
        raise UsageError(
            f"keypoints: expected (x, y) within the image of {width}×{height} pixels, got some outside or NaN;"
            " set those that are not visible to 0"
        )
    pixels = keypoints_xy.floor().minimum(size - 1)
    # Reading the small maps at the centres of pixels is the bilinear upsampling, of the pixels that are needed only.
    places = (pixels + 0.5) / size * 2 - 1
    at_points = F.grid_sample(
        part_maps.float(), places[:, :, None].float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    return at_points[..., 0].argmax(1)


# torchmetrics has both indices, but its NMI of two single clusters is 0 where scikit-learn's is 1, and its ARI
# overflows int64 for some 100,000 samples: −0.89 instead of 0.25 in the case of tests/metrics/test_clustering.py.


def normalized_mutual_information(a: Tensor, b: Tensor) -> float | None:
    """Mutual information of two labelings over the arithmetic mean of their entropies; ``a``, ``b`` (N,) int.

    0 for independent labelings, 1 for the same up to names, two single clusters included. None where N = 0, for which
    scikit-learn says 1.
    """
    counts = _contingency(a, b)
    if not counts.numel():
        return None
    joint = counts.double() / counts.sum()
    entropy_a, entropy_b = _entropy(joint.sum(1)), _entropy(joint.sum(0))
    if entropy_a == entropy_b == 0:
        return 1.0
    return max(0.0, entropy_a + entropy_b - _entropy(joint)) / ((entropy_a + entropy_b) / 2)


def adjusted_rand_index(a: Tensor, b: Tensor) -> float | None:
    """Share of pairs that two labelings treat alike, corrected for chance (Hubert and Arabie); ``a``, ``b`` (N,) int.

    0 on average for random labelings, at times less; 1 for the same up to names. None where N = 0, for which
    scikit-learn says 1.
    """
    counts = _contingency(a, b)
    if not counts.numel():
        return None
    together, in_a, in_b = (_pairs(sizes) for sizes in (counts, counts.sum(1), counts.sum(0)))
    pairs = _pairs(counts.sum())
    spread = (in_a + in_b) * pairs - 2 * in_a * in_b
    return 2 * (together * pairs - in_a * in_b) / spread if spread else 1.0


def _contingency(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) int64: how many samples have the i-th label of ``a`` and the j-th of ``b``."""
    if a.shape != b.shape or a.ndim != 1 or a.is_floating_point() or b.is_floating_point():
        raise UsageError(
            f"labels: expected two (N,) of integers, got {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
        )
    names_a, index_a = torch.unique(a, return_inverse=True)
    names_b, index_b = torch.unique(b, return_inverse=True)
    cells = torch.bincount(index_a * len(names_b) + index_b, minlength=len(names_a) * len(names_b))
    return cells.view(len(names_a), len(names_b))


def _entropy(probabilities: Tensor) -> float:
    return float(torch.special.entr(probabilities).sum())


def _pairs(sizes: Tensor) -> int:
    """Pairs within clusters; a Python integer, for the products of such numbers overflow int64."""
    return int((sizes * (sizes - 1) // 2).sum())
