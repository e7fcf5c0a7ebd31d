"""Where the images of a benchmark come from, and how a model is scored on them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ifam.data.imagenet9 import imagenet9_variants, read_in9_mapping
from ifam.data.read import read_table
from ifam.data.table import ImageTable
from ifam.data.waterbirds import waterbird200
from ifam.errors import DataError, UsageError
from ifam.evaluate import evaluate
from ifam.imagenet9 import adversarial_backgrounds, evaluate_imagenet9
from ifam.interventions import Intervention
from ifam.model.base import Classifier
from ifam.scenes.dataset import variant_folder
from ifam.storage import known_splits
from ifam.training.folder import describe_data

WATERBIRD200 = "waterbird_complete95_forest2water2"
CHALLENGE_FOREGROUNDS = 450
"""of 4,050, evenly spread: each is tried on up to 4,050 backgrounds"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a benchmark reads its images."""

    data: Path
    """of training, selection and test"""
    imagenet9: Path | None = None
    class_map: Path | None = None
    """ImageNet class to one of the nine"""
    run: Path | None = None
    """whose splits count, where the data came without"""

    def table(self) -> ImageTable:
        """The data, split as the run has split it."""
        table = read_table(self.data)
        splits = {} if self.run is None else known_splits(self.run)
        return table.with_known_splits(splits) if splits else table

    def digest(self) -> str:
        """What tells these images from others, without their pixels."""
        table, seen = self.table(), hashlib.sha256()
        folders = [self.imagenet9] if self.imagenet9 else []
        folders += [folder for folder in (self.data / WATERBIRD200,) if folder.is_dir()]
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                seen.update(f"{path.relative_to(folder)}\n".encode())
        if self.class_map is not None:
            seen.update(self.class_map.read_bytes())
        further = seen.hexdigest() if folders or self.class_map else ""
        return f"{describe_data(table)['digest']}{further}"


Numbers = dict[str, Any]
Score = Callable[[Classifier, Source, Intervention, Mapping[str, Any]], Numbers]
"""Of a model on the test images of a source, under an intervention, with resources of `ifam.evaluate.evaluate`."""


def score_test(model: Classifier, source: Source, intervention: Intervention, resources: Mapping[str, Any]) -> Numbers:
    """The test split."""
    return evaluate(model, source.table(), **asdict(intervention), **resources).to_dict()


def score_cub(model: Classifier, source: Source, intervention: Intervention, resources: Mapping[str, Any]) -> Numbers:
    """CUB's test split, and the same birds before other backgrounds (Waterbird200), in the folder that holds them.

    As in the published code, the keypoints of both are regressed on CUB's training split.
    """
    table, shifted = source.table(), waterbird200(source.data / WATERBIRD200)
    fitted = table.select("train").align(shifted.class_names) if table.has_keypoints else shifted.select("train")
    shifted = replace(
        shifted,
        samples=(
            *(replace(sample, group=None) for sample in fitted.samples),
            *(sample for sample in shifted.samples if sample.split == "test"),
        ),
    )
    found = evaluate(model, shifted, **asdict(intervention), **resources).to_dict()
    return score_test(model, source, intervention, resources) | {f"waterbird200_{k}": v for k, v in found.items()}


def score_scenes(
    model: Classifier, source: Source, intervention: Intervention, resources: Mapping[str, Any]
) -> Numbers:
    """The test split, and the test images before backgrounds of their class and of any."""
    same, rand = (
        evaluate(
            model,
            read_table(variant_folder(source.data, variant)).select("test"),
            **asdict(intervention),
            **resources,
        ).accuracy
        for variant in ("mixed_same", "mixed_rand")
    )
    test = score_test(model, source, intervention, resources)
    return test | {"mixed_same_accuracy": same, "mixed_rand_accuracy": rand, "bg_gap": same - rand}


def score_imagenet9(
    model: Classifier, source: Source, intervention: Intervention, resources: Mapping[str, Any]
) -> Numbers:
    """ImageNet's validation images, every variant of ImageNet-9 that is there, and the adversarial challenge.

    As in the literature, the epoch was chosen on the same validation images; the variants took no part in it.
    """
    assert source.imagenet9 is not None
    table = source.table()
    split = "test" if "test" in table.splits else "val"
    plain = evaluate(model, table, split=split, **asdict(intervention), **resources)
    found = evaluate_imagenet9(model, source.imagenet9, class_map=source.class_map, **asdict(intervention), **resources)
    accuracies = {f"{name}_accuracy": each.accuracy for name, each in found.evaluations.items()}
    scores = {"imagenet_accuracy": plain.accuracy, "num_samples": plain.num_samples, "bg_gap": found.bg_gap}
    if (source.imagenet9 / "fg_mask").is_dir():
        challenge = adversarial_backgrounds(
            model,
            source.imagenet9,
            source.class_map,
            max_foregrounds=CHALLENGE_FOREGROUNDS,
            **asdict(intervention),
            **{name: value for name, value in resources.items() if name != "workers"},
        )
        scores |= {"challenge_accuracy": challenge.accuracy, "challenge_foregrounds": challenge.num_foregrounds}
    return scores | accuracies


def check_cub(source: Source) -> None:
    """Refuse data without Waterbirds inside."""
    folder = source.data / WATERBIRD200
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected Waterbirds, unpacked inside CUB_200_2011, found none")
    waterbird200(folder)


def check_imagenet9(source: Source) -> None:
    """Refuse a lack of ImageNet-9, or a class map that is none."""
    if source.imagenet9 is None:
        raise UsageError("imagenet9: expected the folder of ImageNet-9, got none; name it with --imagenet9")
    if not imagenet9_variants(source.imagenet9):
        raise DataError(f"{source.imagenet9}: expected variants of ImageNet-9, <variant>/val/00_dog/…, got none")
    if source.class_map is not None:
        read_in9_mapping(source.class_map)
