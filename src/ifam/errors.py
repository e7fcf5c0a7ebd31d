"""What can go wrong, as one line each: what was expected, what came, what to do."""

import errno
from typing import ClassVar


class IfamError(Exception):
    """Root of every error that this package raises on purpose."""

    exit_status: ClassVar[int] = 1
    told: bool = False
    """whether another process has the line to print"""


class IfamWarning(UserWarning):
    """What this package warns of on purpose; the command line prints it as one line."""


class UsageError(IfamError, ValueError):
    """An argument that cannot be: the caller has to change the call."""

    exit_status = 2


class DataError(IfamError):
    """A data set, an image or a table that cannot be read as it should."""


class UnavailableError(DataError):
    """A file that the system could not read just now: its disk, its network or its permissions, not its content.

    Whether the file is in order is not known; another try may read it.
    """


class CheckpointError(IfamError):
    """A model file that is missing, damaged, or of another architecture."""


class TrainingError(IfamError):
    """A run that cannot go on, for instance because a loss is not finite."""


class ProcessError(IfamError):
    """A process with the same job that has failed or ended."""


class WorkerError(IfamError):
    """A process that reads images for this one and was killed, or cannot be started."""


class OutputError(IfamError):
    """A file that cannot be written, for instance because the disk is full."""


class MovedError(OutputError):
    """A folder that was deleted or moved away while it was written: what lies there now is not this run's."""


class VerificationError(IfamError):
    """A model whose prediction rests on more than its mask."""


class ExportError(IfamError):
    """An exported file that does not compute what the model computes."""


class HubError(IfamError):
    """A model hub that cannot be reached, or that refuses."""


_OF_THE_FILE = frozenset({errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EOVERFLOW})
"""what the system answers to a name or to a content that cannot be, and will answer again"""


def is_passing(error: BaseException) -> bool:
    """Whether the system itself refused to read (a disk, a network, a permission), so that it may not another time.

    Decoders raise ``OSError`` without a number for what is damaged.
    """
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILE


def first_line(error: BaseException) -> str:
    """What an error of another library says, or its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
