"""The embedded backbone as the default of `ifam train`, beside its teacher: accuracy by group, and the time it takes.

Every backbone is trained by the default recipe as it stands, at the size that `ifam train` chooses by itself.

    python benchmarks/default_backbone.py DATA --backbones ifam-nano WEIGHTS --runs DIR --json FILE [--seeds 0 1 2]
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import protocol

from ifam.config import TrainingConfig, override
from ifam.recipes import DEFAULT, recipe
from ifam.storage import load


def make_config(backbone: str, seed: int) -> TrainingConfig:
    return override(recipe(DEFAULT, "ifam"), {"model.backbone": backbone, "seed": seed})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--runs", type=Path, required=True, help="those that exist are not repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for backbone in options.backbones:
        name = Path(backbone).name
        folders = {seed: options.runs / f"{name}-seed{seed}" for seed in options.seeds}
        results = [
            protocol.test_once(make_config(backbone, seed), options.data, folder) for seed, folder in folders.items()
        ]
        rows[name] = {
            "image_size": load(folders[options.seeds[0]]).preprocessing.image_size,
            "test": protocol.summary(results),
            "training_seconds": median(result["training_seconds"] for result in results),
            "config": protocol.settings(make_config(backbone, options.seeds[0])),
            "results": results,
        }
        print(name, rows[name]["image_size"], rows[name]["training_seconds"], rows[name]["test"], flush=True)
    command = (
        "python benchmarks/default_backbone.py DATA --backbones ifam-nano WEIGHTS --runs DIR --json FILE --seeds "
        + " ".join(map(str, options.seeds))
    )
    protocol.save(options.json, (__doc__ or "").splitlines()[0], command, {"backbones": rows})


if __name__ == "__main__":
    main()
