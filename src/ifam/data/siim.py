"""SIIM-ACR pneumothorax: chest X-rays, with and without a chest drain that gives the disease away.

Source: https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation (``train-rle.csv`` and DICOM files). Drains: see
``cxr_tube_dict.pkl`` of https://github.com/khaledsaab/spatial_specificity, which makes ``tubes.csv`` here.
Citation: A. Zawacki et al., SIIM-ACR Pneumothorax Segmentation, Kaggle, 2019; K. Saab et al., Reducing Reliance on
Spurious Features in Medical Image Classification with Spatial Specificity, MLHC 2022.
Licence: the rules of the competition; not for redistribution.
"""

from pathlib import Path

from ifam.data.delimited import read_csv
from ifam.data.dicom import DICOM_SUFFIX, require_pydicom
from ifam.data.masks import has_foreground
from ifam.data.run_lengths import RunLengths
from ifam.data.splits import SPLITS
from ifam.data.table import ImageTable, Sample
from ifam.data.tree import incomplete
from ifam.data.walk import Walk
from ifam.errors import DataError

LAYOUT = "SIIM-ACR pneumothorax"
_CODES, _TUBES, _IMAGES = "train-rle.csv", "tubes.csv", "dicom-images-train"
_TREE = (
    f"{_CODES} with ImageId, EncodedPixels or masks/<ImageId>.png; <ImageId>.dcm in folders of any depth; "
    f"perhaps {_TUBES} with image_id, tube, and train.csv, val.csv, test.csv with image_id"
)
CLASSES = ("no pneumothorax", "pneumothorax")
_TUBE = {"0": False, "1": True, "false": False, "true": True}
_GROUPS = tuple(f"{disease}/{tube}" for disease in CLASSES for tube in ("no tube", "tube"))

Mask = Path | RunLengths


def is_siim(root: Path) -> bool:
    """Whether a folder has the competition's table, or its folder of DICOM files."""
    return (root / _CODES).is_file() or (root / _IMAGES).is_dir()


def read_siim(root: Path) -> ImageTable:
    """Every DICOM file that ``train-rle.csv`` knows; without that table, every one that has a mask.

    An image is positive where its mask has a pixel; several annotations are united, and a negative has an empty mask. A
    mask of ``masks/`` goes before the code. (The masks that the published ``prepare_siim_acr.py`` writes lie
    mirrored at the diagonal, so they have another folder name here.) ``tubes.csv`` makes groups, disease × tube; images
    without a line have no group. Where there are lists of splits, images in none of them are left out. Where there are
    none, the split is the published one: test is what has a line in ``tubes.csv``, train the rest.
    """
    files = {path.stem: path for path in reversed(list(Walk(root).images(root))) if path.suffix.lower() == DICOM_SUFFIX}
    masks_folder = root / "masks"
    pictures = {path.stem: path for path in Walk(masks_folder).images(masks_folder)} if masks_folder.is_dir() else {}
    if not files or not ((root / _CODES).is_file() or pictures):
        raise incomplete(root, LAYOUT, _TREE, "no DICOM file" if not files else f"neither {_CODES} nor masks")
    require_pydicom(root)
    masks: dict[str, Mask] = {**_codes(root / _CODES), **pictures}
    labels = {image: _is_positive(mask) for image, mask in masks.items()}
    absent = [image for image in masks if image not in files]
    if absent:
        raise DataError(
            f"{root}: expected a DICOM file for every image of {_CODES} and masks, got none for {len(absent)} of "
            f"{len(masks)}, the first is {absent[0]}; add the files or take the rows out"
        )
    tubes = _tubes(root / _TUBES)
    splits = _splits(root, labels) or _published_split(labels, tubes)
    samples = tuple(
        Sample(
            path=files[image],
            name=files[image].relative_to(root).as_posix(),
            label=int(label),
            split=splits.get(image),
            group=2 * label + tubes[image] if image in tubes else None,
            mask=masks[image],
        )
        for image, label in sorted(labels.items())
        if image in splits or not splits
    )
    return ImageTable(
        root=root, layout=LAYOUT, class_names=CLASSES, group_names=_GROUPS if tubes else (), samples=samples
    )


def _is_positive(mask: Mask) -> bool:
    return bool(mask.codes) if isinstance(mask, RunLengths) else has_foreground(mask)


def _codes(path: Path) -> dict[str, RunLengths]:
    codes: dict[str, list[str]] = {}
    for row in read_csv(path, required=("ImageId", "EncodedPixels")) if path.is_file() else []:
        found = codes.setdefault(row["ImageId"], [])
        if row["EncodedPixels"] not in ("-1", ""):
            found.append(row["EncodedPixels"])
    return {image: RunLengths(f"{path}, {image}", tuple(found)) for image, found in codes.items()}


def _tubes(path: Path) -> dict[str, bool]:
    pickled = path.with_name("cxr_tube_dict.pkl")
    if not path.is_file() and pickled.is_file():
        raise DataError(
            f"{pickled}: expected {_TUBES} with image_id, tube (0 or 1), got a pickle, which can run code; "
            "write its entries to that table"
        )
    tubes = {}
    for number, row in enumerate(read_csv(path, required=("image_id", "tube")) if path.is_file() else [], start=1):
        value = row["tube"].lower()
        if value not in _TUBE:
            raise DataError(f"{path}, row {number}: expected a tube of 0 or 1, got {row['tube']!r}")
        tubes[row["image_id"]] = _TUBE[value]
    return tubes


def _published_split(labels: dict[str, bool], tubes: dict[str, bool]) -> dict[str, str]:
    """None where every image has a tube label, or none has."""
    split = {image: "test" if image in tubes else "train" for image in labels}
    return split if len(set(split.values())) == 2 else {}


def _splits(root: Path, labels: dict[str, bool]) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}.csv"
        for number, row in enumerate(read_csv(path, required=("image_id",)) if path.is_file() else [], start=1):
            image = row["image_id"]
            if image not in labels:
                raise DataError(
                    f"{path}, row {number}: expected an image with a label, got {image!r}; take the row out"
                )
            if splits.setdefault(image, split) != split:
                raise DataError(f"{path}, row {number}: expected each image in one split, got {image!r} in two")
    return splits
