"""Does the exact gradient of the stage-2 loss through the mask help? On and cut, K = 1 and 4.

A fixed small protocol: 112 px (8×8 tokens), 4 epochs, the recipe "staged" otherwise. "joint" trains both stages
together from the first epoch; "stage 1 first" trains stage 1 alone for two epochs and both together for two more.

    python benchmarks/mask_gradient.py DATA --backbone WEIGHTS --runs DIR --json FILE --seeds 0 1 [--methods exact cut]
"""

import itertools
from pathlib import Path
from typing import Any

import protocol
import torch
import torch.nn.functional as F
from torch import Tensor

from ifam.config import TrainingConfig, override
from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.model.two_stage import IFAM
from ifam.recipes import staged
from ifam.storage import load

ORDERS = {"joint": 0, "stage 1 first": 2}


def make_config(order: str, num_parts: int, gradient: str, backbone: str, seed: int) -> TrainingConfig:
    changes = {
        "model.backbone": backbone,
        "model.image_size": 112,
        "model.num_parts": num_parts,
        "model.mask_gradient": gradient,
        "optimizer.stage1_epochs": ORDERS[order],
        "optimizer.freeze_stage1": False,
        "seed": seed,
    }
    return override(staged("ifam", epochs=4), changes)


@torch.no_grad()
def log_ratio_quantiles(folder: Path, data: Path, images: int = 64) -> dict[str, float]:
    """Quantiles of log(e^{s_ij} / Z_i) of unselected keys j, over all heads and blocks of stage 2."""
    model = load(folder)
    assert isinstance(model, IFAM)
    assert model.stage2 is not None
    table = read_table(data)
    loaders = ImageDataModule(table, model.preprocessing, augmentation="none", batch_size=images, workers=0, seed=0)
    batch = next(iter(loaders.val_dataloader()))
    mask = model.select(model.discover(batch.images)).mask
    backbone = model.stage2.backbone
    visible = F.pad(mask.flatten(1), (backbone.num_prefix_tokens, 0), value=True)
    found: list[Tensor] = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        log_z = scores.masked_fill(~visible[:, None, None, :], -torch.inf).logsumexp(-1, keepdim=True)
        queries, keys = visible[:, None, :, None], ~visible[:, None, None, :]
        found.append((scores - log_z)[(queries & keys).expand_as(scores)])
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None, :])

    backbone._encode(torch.cat(backbone.embed(batch.images), dim=1), attend)
    values = torch.cat(found).sort().values
    return {str(q): float(values[int(q * (len(values) - 1))]) for q in (0.5, 0.99, 0.999, 1.0)}


def main() -> None:
    options = protocol.arguments(__doc__ or "", methods=["exact", "cut", "bounded"])
    rows: dict[str, Any] = protocol.measured_before(options.json, "rows")
    for order, gradient, num_parts in itertools.product(ORDERS, ("exact", "cut", "bounded"), (1, 4)):
        name = f"{order.replace(' ', '')}-K{num_parts}-{gradient}"
        if name in rows or gradient not in options.methods:
            continue
        results = [
            protocol.test_once(
                make_config(order, num_parts, gradient, options.backbone, seed),
                options.data,
                options.runs / f"{name}-seed{seed}",
            )
            for seed in options.seeds
        ]
        ratios = log_ratio_quantiles(options.runs / f"{name}-seed{options.seeds[0]}", options.data)
        rows[name] = {
            "order": order,
            "num_parts": num_parts,
            "mask_gradient": gradient,
            "test": protocol.summary(results),
            "log_ratio_quantiles_of_unselected_keys": ratios,
            "config": protocol.settings(make_config(order, num_parts, gradient, options.backbone, 0)),
            "results": results,
        }
        command = "python benchmarks/mask_gradient.py DATA --backbone WEIGHTS --runs DIR --json FILE --seeds 0 1"
        protocol.save(options.json, (__doc__ or "").splitlines()[0], command, {"rows": rows})
        print(name, rows[name]["test"], flush=True)


if __name__ == "__main__":
    main()
