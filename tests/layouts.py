"""The data sets of the paper in the layouts that they are published in, small."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from ifam.data.imagenet9 import CLASSES as NINE

BIRDS = ("001.Black_footed_Albatross/a.jpg", "001.Black_footed_Albatross/b.jpg", "002.Crow/c.jpg", "002.Crow/d.jpg")
SPECIES = ("001.Black_footed_Albatross", "002.Crow", "003.Western_Meadowlark", "004.Pacific_Loon")
METADATA_COLUMNS = "img_id,img_filename,y,split,place,place_filename\n"
CONTEXTS = {
    "train": {"cat(sofa)": 3, "cat(bed)": 2, "dog(bench)": 2, "dog(bike)": 4},
    "test": {"cat(shelf)": 2, "dog(shelf)": 1},
}
# two annotations of the first image, none of the second and third; of a fifth there is no row, as in the test stage
CHESTS = "ImageId, EncodedPixels\n1.1, 0 2\n1.1, 4 1\n1.2, -1\n1.3, -1\n1.4, 11 1\n"
FISH, CRANE_BIRD, CRANE = "n01440764", "n02012849", "n03126707"
VARIANTS = {"original": 2, "mixed_same": 1, "mixed_rand": 1, "only_bg_b": 1}


def draw(path: Path, size: tuple[int, int] = (8, 6), color: object = (90, 120, 40), mode: str = "RGB") -> Path:
    """An image of one colour, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]
    return path


def write_cub(root: Path, birds: Sequence[str] = BIRDS) -> Path:
    """Images of 20 × 10, every other one for training, with two parts, boxes, and masks beside the folder."""
    numbers = range(1, len(birds) + 1)
    classes = list(dict.fromkeys(bird.partition("/")[0] for bird in birds))
    for number, bird in zip(numbers, birds, strict=True):
        draw(root / "images" / bird, size=(20, 10), color=(12 * number, 0, 0))
        draw((root.parent / "segmentations" / bird).with_suffix(".png"), size=(20, 10), mode="L", color=255)
    files = {
        "images.txt": [f"{i} {bird}" for i, bird in zip(numbers, birds, strict=True)],
        "classes.txt": [f"{i} {name}" for i, name in enumerate(classes, 1)],
        "image_class_labels.txt": [f"{i} {classes.index(birds[i - 1].partition('/')[0]) + 1}" for i in numbers],
        "train_test_split.txt": [f"{i} {i % 2}" for i in numbers],
        "bounding_boxes.txt": [f"{i} 5.0 1.0 10.0 {i % 5 + 4}.0" for i in numbers],
        "parts/parts.txt": ["1 beak", "2 left eye"],
        "parts/part_locs.txt": [f"{i} {part} {5 + part}.0 4.5 {int(i + part > 2)}" for i in numbers for part in (1, 2)],
    }
    (root / "parts").mkdir()
    for name, lines in files.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def write_waterbirds(
    root: Path, copies: Sequence[tuple[int, int]] = ((0, 0), (1, 2)), *, numbered: bool = False
) -> Path:
    """Every species once for each (place, split); y as published, water birds 1, or ``numbered`` as the species are."""
    rows = []
    for number, species in enumerate(SPECIES):
        y = number if numbered else int(species != SPECIES[1])
        for copy, (place, split) in enumerate(copies):
            draw(root / species / f"{copy}.jpg", color=(30 * number, 90 * place, 40 * copy))
            rows.append(f"{len(rows)},{species}/{copy}.jpg,{y},{split},{place},/f/x.jpg")
    (root / "metadata.csv").write_text(METADATA_COLUMNS + "\n".join(rows))
    return root


def write_metashift(root: Path, contexts: Mapping[str, Mapping[str, int]] = CONTEXTS) -> Path:
    """So many images of each context in each split."""
    shade = 0
    for split, counts in contexts.items():
        for context, count in counts.items():
            for i in range(count):
                shade += 5
                draw(root / split / context[:3] / context / f"{context[4:7]}{i}.jpg", color=(shade, 0, 0))
    return root


def write_siim(root: Path, table: str = CHESTS, count: int = 5) -> Path:
    """X-rays 1.1, 1.2, … of 3 × 4 in folders of three levels."""
    for number in range(1, count + 1):
        values = np.full((4, 3), 10 * number, np.uint8)
        write_dicom(root / f"dicom-images-train/study{number}/series/1.{number}.dcm", values)
    (root / "train-rle.csv").write_text(table)
    return root


def write_imagenet(root: Path, per_class: int = 2) -> Path:
    """Three classes, so many images of each for training and one for validation."""
    for number, synset in enumerate((CRANE, FISH, CRANE_BIRD)):
        for i in range(per_class):
            draw(root / f"train/{synset}/{synset}_{i}.JPEG", color=(50 * number, 50 * i, 0))
        draw(root / f"val/{synset}/ILSVRC2012_val_0000000{number}.JPEG", color=(50 * number, 0, 200))
    return root


def write_imagenet9(root: Path, variants: Mapping[str, int] = VARIANTS) -> Path:
    """So many images of each of the nine classes in each variant, and a folder of masks, which are arrays."""
    for variant, count in variants.items():
        for number, name in enumerate(NINE):
            for i in range(count):
                draw(root / variant / "val" / name / f"{i}.JPEG", color=(20 * number, 90 * i, 0))
    (root / "fg_mask/val/00_dog").mkdir(parents=True)
    return root


def write_dicom(path: Path, values: Any, **tags: Any) -> Path:
    """Grey values (h, w) of 8 or 16 bits as a DICOM file, with its folders; further tags by keyword."""
    values = np.asarray(values)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = values.shape[-2:] if "NumberOfFrames" in tags else values.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
