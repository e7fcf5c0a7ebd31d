"""Area under the ROC curve between groups of a two-class data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ifam.metrics.groups import binary_auc, check_groups


def group_auc(scores: Tensor, labels: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """(G, G) float64: entry (i, j) is the AUC of the positives of group i against the negatives of group j.

    ``scores`` (N,), higher for class 1; ``labels`` (N,) of 0 and 1; ``groups`` (N,) int, −1 where unknown: such images
    count for no group. Ties count one half. NaN where group i has no positive or group j no negative; the diagonal is
    the AUC within each group.
    """
    check_groups(groups, labels.shape, num_groups)
    binary_auc(scores, labels)  # refuses what is no score and no label, of images in no group too
    known = groups >= 0
    positive, negative = known & (labels == 1), known & (labels == 0)
    scores_of_positives, group_of_positives = scores[positive].double(), groups[positive]
    num_positive = torch.bincount(group_of_positives, minlength=num_groups)
    result = torch.full((num_groups, num_groups), torch.nan, dtype=torch.float64)
    for j in range(num_groups):
        rivals = scores[negative & (groups == j)].double().sort().values
        # Each positive wins against the rivals below it, and half against those that tie.
        below, up_to = (torch.searchsorted(rivals, scores_of_positives, right=right) for right in (False, True))
        wins = torch.bincount(group_of_positives, (below + up_to).double() / 2, minlength=num_groups)
        if len(rivals):
            result[:, j] = torch.where(num_positive > 0, wins / (num_positive * len(rivals)), torch.nan).cpu()
    return result


@dataclass(frozen=True, kw_only=True)
class WorstGroupAuc:
    """The lowest AUC, None where nothing could be compared, and the groups whose images gave it."""

    auc: float | None
    positive_group: int | None
    negative_group: int | None
    count: int
    """comparisons of which it is the lowest"""
    left_out: tuple[int, ...]
    """groups that took part in none: empty, or short of a class to compare with"""


def worst_group_auc(
    scores: Tensor, labels: Tensor, groups: Tensor, num_groups: int, *, within: bool = False
) -> WorstGroupAuc:
    """Lowest AUC of the positives of one group against the negatives of one group; arguments as for ``group_auc``.

    The robust AUC of Sohoni et al. (2020). Groups may cross both classes ("tube", "no tube") or hold one each
    ("pneumothorax, no tube", ...), with the same result. Saab et al. (2022) report one of these comparisons on
    SIIM-ACR, positives without a chest tube against negatives with one, and their rows stand in the iFAM paper's
    column "WG AUC"; its text says only "a curated subset without this artifact". That one number is the entry of
    ``group_auc`` for the two groups.

    ``within=True`` compares within each group only, and leaves out those with one class: a shortcut that shifts the
    scores of a whole group then goes unseen.

    >>> scores, labels = torch.tensor([0.9, 0.6, 0.5, 0.1]), torch.tensor([1, 0, 1, 0])
    >>> groups = torch.tensor([1, 1, 0, 0])  # tube, tube, no tube, no tube: right in each, but the tube decides
    >>> worst_group_auc(scores, labels, groups, 2, within=True).auc, worst_group_auc(scores, labels, groups, 2).auc
    (1.0, 0.0)
    """
    aucs = group_auc(scores, labels, groups, num_groups)
    if within:
        aucs = aucs.where(torch.eye(num_groups, dtype=torch.bool), torch.nan)
    known = ~aucs.isnan()
    left_out = tuple((~(known.any(0) | known.any(1))).nonzero()[:, 0].tolist())
    if not bool(known.any()):
        return WorstGroupAuc(auc=None, positive_group=None, negative_group=None, count=0, left_out=left_out)
    worst = int(aucs.nan_to_num(torch.inf).argmin())
    positive_group, negative_group = divmod(worst, num_groups)
    return WorstGroupAuc(
        auc=float(aucs[positive_group, negative_group]),
        positive_group=positive_group,
        negative_group=negative_group,
        count=int(known.sum()),
        left_out=left_out,
    )
