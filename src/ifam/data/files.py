"""Batches of image files of which nothing is known but where they are, as many as there may be."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from ifam.data.batch import Batch, Item, Unreadable
from ifam.data.images import open_image
from ifam.data.loader import Loader
from ifam.data.tar import ImageFile
from ifam.data.transforms import test_transform
from ifam.errors import DataError, UsageError
from ifam.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Asked:
    """An image to be read, and its place in the batch."""

    index: int
    image: ImageFile


class FileDataset(Dataset[Item | Unreadable]):
    """Reads what it is asked for; it holds no list of the images."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.transform = test_transform(preprocessing)

    def __getitem__(self, asked: Asked) -> Item | Unreadable:
        try:
            image = open_image(asked.image)
        except DataError as error:
            return Unreadable.of(error, asked.index)
        return Item(image=self.transform(image), label=-1, group=-1, index=asked.index)


def read_batches(
    batches: Iterable[Sequence[ImageFile]], preprocessing: Preprocessing, *, workers: int
) -> Iterator[tuple[Sequence[ImageFile], Batch]]:
    """Each batch of files with what was read of it, as the model sees it at test time; indices count within it.

    ``batches`` is iterated as it is needed: of it, only what the loader processes read ahead is held.
    """
    read: deque[Sequence[ImageFile]] = deque()

    def asked() -> Iterator[list[Asked]]:
        for images in batches:
            read.append(images)
            yield [Asked(index, image) for index, image in enumerate(images)]

    loader = Loader(FileDataset(preprocessing), asked(), workers=workers)
    for batch in loader:
        yield read.popleft(), batch


def batched(images: Iterable[ImageFile], size: int) -> Iterator[list[ImageFile]]:
    """``size`` at a time, the last ones fewer."""
    if size < 1:
        raise UsageError(f"batch size: expected at least 1, got {size}")
    batch: list[ImageFile] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
