"""What the folder of a run remembers of its training, for the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ifam.errors import DataError
from ifam.files import last_name, parse_json
from ifam.model.two_stage import IFAM
from ifam.training.folder import METRICS, RESULT


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """A group in training and validation; None where the run does not say."""

    name: str
    training_images: int | None
    validation_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A model and, where its folder is that of a run, the epoch that was kept."""

    name: str
    backbone: str
    num_parts: int
    num_classes: int
    image_size: tuple[int, int]
    is_faithful: bool
    epochs: int
    best_epoch: int | None
    """from 0; None where the folder holds no run"""
    groups: tuple[GroupSummary, ...]


def run_summary(model: IFAM, folder: Path) -> RunSummary:
    """The model, its training groups, and their validation accuracy in the epoch that was kept.

    Raises:
        DataError: a damaged file in the folder.
    """
    result, epochs = _read(folder / RESULT), _read(folder / METRICS)
    best = result[0].get("best_epoch") if result else None
    kept = next((epoch for epoch in epochs if epoch.get("epoch") == best), {})
    found = kept.get("val/groups")
    validation: Mapping[str, float | None] = found if isinstance(found, dict) else {}
    names = dict.fromkeys([*model.training_group_sizes, *validation])
    return RunSummary(
        name=folder.resolve().name,
        backbone=last_name(model.backbone_title),
        num_parts=model.num_parts,
        num_classes=model.num_classes,
        image_size=model.preprocessing.image_size,
        is_faithful=model.is_faithful,
        epochs=len(epochs),
        best_epoch=best if kept else None,
        groups=tuple(
            GroupSummary(
                name=name,
                training_images=model.training_group_sizes.get(name),
                validation_accuracy=validation.get(name),
            )
            for name in names
        ),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON or of JSON lines; none where there is no file."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected JSON, got a damaged file ({error}); delete it") from None
    return [parse_json(line, path) for line in (text.splitlines() if path.suffix == ".jsonl" else [text]) if line]
