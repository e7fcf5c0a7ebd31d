"""What one image costs in prediction beside the model: to be found, to be read, and as a row.

    python benchmarks/large_sets.py --json FILE

Generated photographs of 500 × 375 pixels, read as a model of 224 pixels sees them, by one process; processor seconds.
Rows are those of generated maps: `--parts` blobs on a grid.
"""

import argparse
import contextlib
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import protocol
from PIL import Image

from ifam.data.files import batched, read_batches
from ifam.data.find import find_images
from ifam.data.tar import images_in_tar
from ifam.predict import PredictionRow, writer
from ifam.preprocessing import Preprocessing
from ifam.sharding.image_list import write_image_list

PIXELS = Preprocessing(image_size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GRIDS = (16, 37)


def write_photographs(folder: Path, number: int) -> int:
    """Smooth colours with a little grain, of about the bytes of a photograph; returns the bytes of all."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.normal(0, 12, smooth.shape)
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:06d}.jpg", quality=90)
    return sum(path.stat().st_size for path in folder.iterdir())


def write_tar(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w") as out:
        for image in sorted(folder.iterdir()):
            out.add(image, image.name)


def cost(work: Callable[[], object]) -> float:
    """Processor seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row_bytes(grid: int, parts: int, number: int, folder: Path) -> float:
    """Of a row in a Parquet shard: round parts somewhere on the grid, the rest background."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:grid, :grid]
    path = folder / f"rows-{grid}.parquet"
    with writer(path) as write:
        for index in range(number):
            found = np.full((grid, grid), parts)
            for part in range(parts):
                top, left, radius = [*random.uniform(0, grid, 2).tolist(), random.uniform(0.05, 0.2) * grid]
                found[(rows - top) ** 2 + (columns - left) ** 2 < radius**2] = part
            write(
                PredictionRow(
                    path=f"photographs/{index // 1000:06d}/{index:09d}.jpg",
                    status="ok",
                    label=f"class {index % 1000}",
                    probability=float(random.random()),
                    kept=float((found < parts).mean()),
                    parts=found.tolist(),
                )
            )
    return path.stat().st_size / number


def write_names(number: int, folder: Path) -> list[Path]:
    """Files that hold nothing, of the sizes and times of photographs: names of 31 letters."""
    random = np.random.default_rng(0)
    paths = [folder / f"photographs/{index // 1000:06d}/{index:09d}.jpg" for index in range(number)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, int(random.normal(77_000, 15_000)))
        os.utime(path, (0, 1.7e9 + random.integers(0, 10**7)))
    return paths


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder, tar = place / "originals", place / "photographs.tar"
    size = write_photographs(folder, options.images)
    write_tar(folder, tar)
    members = images_in_tar(tar)

    def read(images: Any) -> Callable[[], object]:
        return lambda: list(iter_sizes(images))

    def iter_sizes(images: Any) -> Iterator[int]:
        for _, batch in read_batches(batched(images, 32), PIXELS, workers=0):
            yield len(batch)

    read(members[:32])()  # warms up
    listed = 100_000
    paths = [path.relative_to(place) for path in write_names(listed, place)]
    with contextlib.chdir(place):
        list_seconds = cost(lambda: write_image_list(place / "list.parquet", paths, 5000))
    each = options.images
    return {
        "bytes of an image": round(size / each),
        "microseconds to find an image in a folder": round(
            1e6 * cost(lambda: list(find_images([str(folder)]))) / each, 1
        ),
        "microseconds to find an image in a tar file": round(1e6 * cost(lambda: images_in_tar(tar)) / each, 1),
        "microseconds to list an image": round(1e6 * list_seconds / listed, 2),
        "bytes of an image in the list": round((place / "list.parquet").stat().st_size / listed, 2),
        "milliseconds to read an image from a folder": round(
            1e3 * cost(read(list(find_images([str(folder)])))) / each, 2
        ),
        "milliseconds to read an image from a tar file": round(1e3 * cost(read(members)) / each, 2),
        "bytes of a row, by grid": {str(grid): round(row_bytes(grid, options.parts, 2000, place)) for grid in GRIDS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="default 1000")
    parser.add_argument("--parts", type=int, default=8, help="default 8")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options)
    settings = {"images": options.images, "parts": options.parts}
    protocol.write_report(
        options.json,
        (__doc__ or "").splitlines()[0],
        "python benchmarks/large_sets.py --json FILE",
        {"settings": settings, "measured": found},
    )


if __name__ == "__main__":
    main()
