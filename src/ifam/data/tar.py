"""Images inside tar files, such as WebDataset's shards, which are read where they lie and never unpacked."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ifam.data.folders import IMAGE_SUFFIXES
from ifam.errors import DataError

TAR_SUFFIX = ".tar"


@dataclass(frozen=True, kw_only=True, slots=True)
class TarImage:
    """Where an image lies in a tar file."""

    tar: Path
    name: str
    offset: int
    size: int
    fault: str | None = None
    """in the place of images that cannot be found, since the tar file itself is damaged: how"""

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}" if self.name else str(self.tar)  # not joined: the name may be absolute

    @property
    def suffix(self) -> str:
        """Of its name, with the dot."""
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BytesIO:
        """Its bytes.

        Raises:
            DataError: the tar file is damaged.
        """
        if self.fault is not None:
            raise DataError(self.fault)
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


ImageFile = Path | TarImage
"""an image, wherever it lies"""


def images_in_tar(path: Path) -> list[TarImage]:
    """The images of a tar file in its order, without hidden ones; of those of one name the last, as in unpacking.

    Only headers are read. A file that is damaged, or ends early, gives what comes before that and one more with the
    `fault`.
    """
    images: dict[str, TarImage] = {}
    try:
        for image in _members(path):
            images[image.name] = image
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fault = f"{path}: expected a whole tar file that is not compressed, got: {reason}; make it again"
        images[""] = TarImage(tar=path, name="", offset=0, size=0, fault=fault)
    return list(images.values())


def _members(path: Path) -> Iterator[TarImage]:
    with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        while member := file.next():
            file.members = []  # type: ignore[attr-defined]  # else it keeps them all
            name = PurePosixPath(member.name)
            hidden = any(part.startswith(".") and part != ".." for part in name.parts)
            if member.isreg() and not member.issparse() and not hidden and name.suffix.lower() in IMAGE_SUFFIXES:
                yield TarImage(tar=path, name=name.as_posix(), offset=member.offset_data, size=member.size)
        # a header that is cut off or damaged ends the loop as zeros do, which end a whole file
        stream.seek(file.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("one that ends early")
