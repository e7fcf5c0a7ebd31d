"""Files and folders that systems, network drives and archives leave among photographs."""

import re

_SYSTEM = re.compile(
    r"""
    \..*                                    # hidden: .DS_Store, .thumbnails, .ipynb_checkpoints, ._x.jpg, .Trash-1000
    | @.*                                   # NAS: @eaDir, @Recycle, @tmp, @GMT-2026.01.01-00.00.00
    | [#~](recycle|snapshot|work).*         # NAS: #recycle, #snapshot, ~snapshot
    | \$[a-z].*                             # Windows: $RECYCLE.BIN, $WinREAgent
    | recycler | recycled | system\ volume\ information | found\.\d{3} | lost\+found
    | __macosx | __pycache__ | _gsdata_ | _vti_cnf | cvs
    | network\ trash\ folder | temporary\ items | thevolumesettingsfolder | icon\r
    | (eh)?thumbs(_vista)?\.db | desktop\.ini | picasa\.ini | zbthumbnail\.info
    | ~\$.*                                 # of an open document
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_system(name: str) -> bool:
    """Whether a file or folder belongs to a system, not to the data; all that is hidden does."""
    return _SYSTEM.fullmatch(name) is not None


def system_kind(name: str) -> str:
    """What such a file is counted as: its name, or one of ``._*`` and ``.*`` for the many hidden ones."""
    if name.startswith("._"):
        return "._*"
    return ".*" if name.startswith(".") and name != ".DS_Store" else name
