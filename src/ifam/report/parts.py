"""Areas of the parts by class and group, and which parts are dead, rare or double."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.metrics.accumulate import Accumulator
from ifam.model.two_stage import IFAM
from ifam.report.content import Amount, PartFacts
from ifam.report.tables import whole

RARE = 0.01
"""share of the images below which a part is called rare"""
DOUBLE = 0.95
"""cosine from which on two parts are called doubles"""


def part_facts(model: IFAM, records: Accumulator, group_names: Sequence[str]) -> list[PartFacts]:
    """``records`` hold ``share`` (N, K), ``label`` and ``group`` (N,) of every image."""
    shares, cosines = records["share"], prototype_cosines(model.prototypes)
    facts = []
    for part in range(model.num_parts):
        overall = _amount(shares[:, part])
        nearest, cosine = _nearest(cosines[part])
        facts.append(
            PartFacts(
                part=part,
                overall=overall,
                by_class=_by_name(shares[:, part], records["label"], model.class_names),
                by_group=_by_name(shares[:, part], records["group"], group_names),
                nearest=nearest,
                cosine=cosine,
                flags=_flags(overall, nearest, cosine),
            )
        )
    return facts


def prototype_cosines(prototypes: Tensor) -> Tensor:
    """Cosines (K, K) between the foreground prototypes (of (K+1, D), background last), seen from the background's.

    Not from the origin: all tokens of a transformer point much the same way. −1 on the diagonal.
    """
    directions = F.normalize((prototypes[:-1] - prototypes[-1]).detach().double().cpu(), dim=1)
    return (directions @ directions.T).fill_diagonal_(-1)


def _nearest(cosines: Tensor) -> tuple[int | None, float | None]:
    if len(cosines) < 2:
        return None, None
    return int(cosines.argmax()), float(cosines.max())


def _flags(overall: Amount, nearest: int | None, cosine: float | None) -> list[str]:
    flags = []
    if overall.presence == 0:
        flags.append("dead, in no image")
    elif overall.presence < RARE:
        flags.append(f"rare, in less than {whole(RARE)} of the images")
    if cosine is not None and cosine >= DOUBLE:
        flags.append(f"double of part {nearest}")
    return flags


def _amount(shares: Tensor) -> Amount:
    return Amount(area=float(shares.mean()), presence=float((shares > 0).double().mean()))


def _by_name(shares: Tensor, of: Tensor, names: Sequence[str]) -> Mapping[str, Amount]:
    present = set(torch.unique(of).tolist())
    return {name: _amount(shares[of == index]) for index, name in enumerate(names) if index in present}
