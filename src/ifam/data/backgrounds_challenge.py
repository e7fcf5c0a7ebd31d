"""The adversarial Backgrounds Challenge on ImageNet-9: foregrounds with masks, and backgrounds to paste them onto.

Source, citation and licence: see `ifam.data.imagenet9`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ifam.data.folders import images_of, subfolders
from ifam.data.imagenet9 import CLASSES
from ifam.data.walk import Walk
from ifam.errors import DataError, first_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreground:
    """An image of the challenge with the mask of its foreground."""

    image: Path
    mask: Path
    label: int  # index into CLASSES


def read_foregrounds(root: str | Path) -> list[Foreground]:
    """The foregrounds of the challenge: ``fg_mask/val/<class>/<name>.npy``, of ``original/val/<class>/<name>.JPEG``."""
    masks, images = Path(root) / "fg_mask/val", Path(root) / "original/val"
    folders = subfolders(masks) if masks.is_dir() else []
    other = [folder.name for folder in folders if folder.name not in CLASSES]
    found = [
        Foreground(image=images / folder.name / f"{path.stem}.JPEG", mask=path, label=CLASSES.index(folder.name))
        for folder in folders
        if not other
        for path in sorted(folder.glob("*.npy"))
    ]
    if not found:
        raise DataError(
            f"{root}: expected the Backgrounds Challenge with fg_mask/val/{CLASSES[0]}/….npy and the other classes, "
            f"got {other[0] if other else 'no such masks'}; name the folder that holds fg_mask, original and only_bg_t"
        )
    return found


def read_backgrounds(root: str | Path) -> list[Path]:
    """The backgrounds of the challenge, of every class, in order: ``only_bg_t/val/<class>/….JPEG``."""
    folder = Path(root) / "only_bg_t/val"
    found = [image.path for image in images_of(Walk(folder), folder, "test")] if folder.is_dir() else []
    if not found:
        raise DataError(f"{root}: expected the backgrounds of the challenge, only_bg_t/val/{CLASSES[0]}/…, got none")
    return found


def open_foreground_mask(path: Path) -> NDArray[np.bool_]:
    """(h, w), true on the foreground."""
    try:
        with path.open("rb") as file:  # np.load would open archives too
            values = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected a mask as a NumPy array, got one that cannot be read ({first_line(error)})"
        ) from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{path}: expected a mask (height, width) of true and false, got another array; take the challenge's"
        )
    mask: NDArray[np.bool_] = values.astype(bool)
    return mask
