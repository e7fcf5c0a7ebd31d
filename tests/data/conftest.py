from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import layouts
import pytest
from layouts import write_cub

from ifam.errors import DataError

Draw = Callable[..., Path]
Refuses = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def draw() -> Draw:
    return layouts.draw


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


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_cub(tmp_path / "CUB_200_2011")


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    return layouts.write_dicom
