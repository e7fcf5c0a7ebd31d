from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from ifam.errors import DataError

Draw = Callable[..., Path]
Refuses = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def draw() -> Draw:
    """Writes an image of one colour, with its folders."""

    def write(path: Path, size: tuple[int, int] = (8, 6), color: object = (90, 120, 40), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, color).save(path)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def refuses(refuses_line: Refuses) -> Refuses:
    """`refuses_line` for errors in data."""
    return partial(refuses_line, error=DataError)


@pytest.fixture
def scenes(tmp_path: Path, draw: Draw) -> Path:
    """Two classes on two places in three splits: 12 images of 8 × 6 with masks, keypoints and one box."""
    rows = ["img_id,img_filename,y,split,place,place_name,y_name,box_x,box_y,box_w,box_h"]
    points = ["img_id,part,x,y"]
    for i in range(12):
        y, place, split = i % 2, i // 2 % 2, i // 4
        draw(tmp_path / f"images/{i}.jpg", color=(10 * i, 50, 200))
        draw(tmp_path / f"masks/images/{i}.png", mode="1", color=1)
        box = "0,1,7,4" if i == 0 else ",,,"
        rows.append(f"{i},images/{i}.jpg,{y},{split},{place},{('land', 'sea')[place]},{('finch', 'gull')[y]},{box}")
        points.append(f"{i},beak,{i % 8},2.5")
    points.append("0,tail,1,1")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    (tmp_path / "keypoints.csv").write_text("\n".join(points))
    return tmp_path


BIRDS = ("001.Black_footed_Albatross/a.jpg", "001.Black_footed_Albatross/b.jpg", "002.Crow/c.jpg", "002.Crow/d.jpg")


@pytest.fixture
def cub(tmp_path: Path, draw: Draw) -> Path:
    """Two classes, one image of each for training: 20 × 10, with two parts, boxes, and masks beside the folder."""
    root = tmp_path / "CUB_200_2011"
    for number, bird in enumerate(BIRDS):
        draw(root / "images" / bird, size=(20, 10), color=(40 * number, 0, 0))
        draw((tmp_path / "segmentations" / bird).with_suffix(".png"), size=(20, 10), mode="L", color=255)
    files = {
        "images.txt": [f"{i} {bird}" for i, bird in enumerate(BIRDS, 1)],
        "classes.txt": ["1 001.Black_footed_Albatross", "2 002.Crow"],
        "image_class_labels.txt": ["1 1", "2 1", "3 2", "4 2"],
        "train_test_split.txt": ["1 1", "2 0", "3 1", "4 0"],
        "bounding_boxes.txt": [f"{i} 5.0 1.0 10.0 {i + 4}.0" for i in range(1, 5)],
        "parts/parts.txt": ["1 beak", "2 left eye"],
        "parts/part_locs.txt": [
            f"{i} {part} {5 + part}.0 4.5 {int(i + part > 2)}" for i in range(1, 5) for part in (1, 2)
        ],
    }
    (root / "parts").mkdir()
    for name, lines in files.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


WriteDicom = Callable[..., Path]


@pytest.fixture
def write_dicom() -> WriteDicom:
    """Writes grey values (h, w) of 8 or 16 bits as a DICOM file, with its folders; further tags by keyword."""

    def write(path: Path, values: Any, **tags: Any) -> Path:
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

    return write
