"""How well a linear classifier tells object from background patches, from the frozen tokens of a backbone.

A token is foreground where the mask covers at least half of its patch. The classifier is fitted on images of the
training split and scored on images of the test split.

    python benchmarks/token_separation.py DATA --backbones ifam-nano@112 WEIGHTS@168 WEIGHTS@196 --json FILE
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import protocol
import torch
import torch.nn.functional as F
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from ifam.data.module import ImageDataModule
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.model.two_stage import IFAM


@torch.inference_mode()
def tokens_of(model: IFAM, table: ImageTable, split: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Patch tokens (M, D) of evenly spaced images of a split, and whether each is foreground (M,)."""
    samples = table.select(split).samples
    chosen = ImageTable(**{**vars(table), "samples": samples[:: max(1, len(samples) // images)][:images]})
    data = ImageDataModule(
        chosen, model.preprocessing, augmentation="none", batch_size=32, workers=0, seed=0, annotations=True
    )
    tokens, labels = [], []
    for batch in track(list(data.loader(split)), description=split):
        _, grid = model.stage1.split(model.stage1(batch.images), model.preprocessing.image_size)
        cover = F.adaptive_avg_pool2d(batch.masks[:, None].float(), grid.shape[1:3])[:, 0]
        tokens.append(grid.flatten(0, 2).float().numpy())
        labels.append((cover >= 0.5).flatten().numpy())
    return np.concatenate(tokens), np.concatenate(labels)


def separate(backbone: str, size: int, table: ImageTable, images: int) -> dict[str, Any]:
    """Scores of the linear classifier on the test images."""
    model = IFAM(backbone, num_parts=1, num_classes=2, image_size=size, second_stage=False).eval()
    (train, train_labels), (test, test_labels) = (tokens_of(model, table, split, images) for split in ("train", "test"))
    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(max_iter=300, class_weight="balanced").fit(scaler.transform(train), train_labels)
    scores = probe.decision_function(scaler.transform(test))
    return {
        "backbone": Path(backbone).name,
        "image_size": size,
        "grid": model.stage1.grid((size, size)),
        "train_tokens": len(train),
        "test_tokens": len(test),
        "foreground_share": float(test_labels.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(test_labels, scores > 0)),
        "auc": float(roc_auc_score(test_labels, scores)),
        "average_precision": float(average_precision_score(test_labels, scores)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbones", nargs="+", required=True, metavar="NAME@PIXELS")
    parser.add_argument("--images", type=int, default=400, help="of each split")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    table, rows = read_table(options.data), []
    for backbone, _, size in (text.rpartition("@") for text in options.backbones):
        rows.append(separate(backbone, int(size), table, options.images))
        print(rows[-1], flush=True)
    command = "python benchmarks/token_separation.py DATA --backbones ifam-nano@112 WEIGHTS@168 WEIGHTS@196 --json FILE"
    protocol.save(options.json, (__doc__ or "").splitlines()[0], command, {"rows": rows})


if __name__ == "__main__":
    main()
