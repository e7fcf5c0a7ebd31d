"""Images inside tar files, such as WebDataset's shards, which are read where they lie and never unpacked."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ifam.data.bounded import BoundedFile
from ifam.data.suffixes import IMAGE_SUFFIXES
from ifam.data.system_files import is_system
from ifam.errors import DataError, UnavailableError, is_passing
from ifam.files import MIB

TAR_SUFFIX = ".tar"
LARGEST = 256 * MIB
"""bytes of an image, which are read at once"""
HEADER = MIB
"""bytes of all that a tar file says of one member: long names, extended attributes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TarImage:
    """Where an image lies in a tar file."""

    tar: Path
    name: str
    offset: int
    size: int
    fault: str | None = None
    """in the place of images that cannot be found, since the tar file itself is damaged or cannot be read: how"""
    transient: bool = False
    """of a `fault`: whether the system did not give the tar file just now"""

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}" if self.name else str(self.tar)  # not joined: the name may be absolute

    @property
    def suffix(self) -> str:
        """Of its name, with the dot."""
        return PurePosixPath(self.name).suffix

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """Its bytes, as a path opens a file to be read.

        Raises:
            DataError: the tar file is damaged, or the image larger than any.
            UnavailableError: it could not be read just now.
        """
        if self.fault is not None:
            raise (UnavailableError if self.transient else DataError)(self.fault)
        if self.size > LARGEST:
            raise DataError(
                f"{self}: expected an image of at most {LARGEST // MIB} MiB, got {self.size // MIB:,} MiB; take it out"
            )
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
    except DataError as error:
        images[""] = _fault(path, str(error))
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason, transient = getattr(error, "strerror", None) or str(error), is_passing(error)
        remedy = "check its disk or try again" if transient else "make it again"
        line = f"{path}: expected a whole tar file that is not compressed, got: {reason}; {remedy}"
        images[""] = _fault(path, line, transient=transient)
    return list(images.values())


def _fault(path: Path, line: str, *, transient: bool = False) -> TarImage:
    return TarImage(tar=path, name="", offset=0, size=0, fault=line, transient=transient)


def _members(path: Path) -> Iterator[TarImage]:
    with (
        BoundedFile(path.open("rb", buffering=0), path, HEADER) as stream,
        tarfile.open(fileobj=stream, mode="r:") as file,
    ):
        while member := file.next():
            stream.allow_only(HEADER)  # for the next one
            file.members = []  # type: ignore[attr-defined]  # else it keeps them all
            name = PurePosixPath(member.name)
            hidden = any(is_system(part) and part != ".." for part in name.parts)
            if member.isreg() and not member.issparse() and not hidden and name.suffix.lower() in IMAGE_SUFFIXES:
                yield TarImage(tar=path, name=name.as_posix(), offset=member.offset_data, size=member.size)
        # a header that is cut off or damaged ends the loop as zeros do, which end a whole file
        stream.seek(file.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("one that ends early")
