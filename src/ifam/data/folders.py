"""Class folders, with or without train, val and test folders above or below them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ifam.data.account import Account, Fate
from ifam.data.masks_beside import is_image_folder
from ifam.data.names import nfc, spelt
from ifam.data.split_folders import says_nothing, split_of, splits_of
from ifam.data.table import ImageTable, Sample
from ifam.data.walk import Walk
from ifam.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """An image and what its folders say about it."""

    path: Path
    split: str | None
    label: str
    group: str


def read_folders(root: Path) -> ImageTable:
    """A class per folder, sorted by name; images may lie at any depth below it.

    Where a class has subfolders, as in MetaShift, the first folder below the class is the group, named
    ``class/subfolder``, and images beside the subfolders form the group ``class``.
    """
    walk = Walk(root)
    found = [image for folder, split in _split_folders(walk, root) for image in images_of(walk, folder, split)]
    without = next((image for image in found if image.split is None), None)
    if without is not None and any(image.split for image in found):
        raise DataError(
            f"{root}: expected train, val or test below every class folder, or below none, got {without.path} without; "
            "move it"
        )
    return table_of(root, found, account=walk.account)


def table_of(root: Path, found: Sequence[FoundImage], *, account: Account, layout: str = "folders") -> ImageTable:
    """The table of the images found below ``root``, with groups where one of them differs from its class."""
    if not found:
        raise DataError(f"{root}: expected class folders with images, got none{_but(account)}; put images into them")
    class_names = sorted({image.label for image in found})
    has_groups = any(image.group != image.label for image in found)
    group_names = sorted({image.group for image in found}) if has_groups else []
    labels = {name: index for index, name in enumerate(class_names)}
    groups = {name: index for index, name in enumerate(group_names)}
    samples = tuple(
        Sample(
            path=image.path,
            name=image.path.relative_to(root).as_posix(),
            label=labels[image.label],
            split=image.split,
            group=groups.get(image.group),
        )
        for image in found
    )
    return ImageTable(
        root=root,
        layout=layout,
        class_names=tuple(class_names),
        group_names=tuple(group_names),
        samples=samples,
        account=account,
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without those of the system; see `Walk.folders`, which counts."""
    return Walk(folder).folders(folder)


def _split_folders(walk: Walk, root: Path) -> list[tuple[Path, str | None]]:
    """The folders that hold class folders, with their splits."""
    folders = walk.folders(root)
    only = folders[0] if len(folders) == 1 else None
    if only and _holds_images(only):
        return [(root, None)]  # one class, whatever it is called
    splits = splits_of([folder.name for folder in folders], root)
    if only and not splits and _wraps_all(only):
        return _split_folders(walk, only)
    for folder in folders:
        if splits and folder.name not in splits:
            walk.leave_out(folder, "without labels")
    found = [(folder, splits[folder.name]) for folder in folders if folder.name in splits]
    return [(_unwrapped(walk, folder, split), split) for folder, split in found] or [(root, None)]


def _wraps_all(only: Path) -> bool:
    """Whether the only folder of a data set is no class but holds all of it: ``images``, or one of split folders."""
    below = subfolders(only)
    if len(below) == 1 and not _holds_images(below[0]) and _wraps_all(below[0]):
        return True
    holds_splits = any(map(subfolders, below)) and splits_of([folder.name for folder in below], only)
    return bool(holds_splits) or (says_nothing(only.name) and bool(below))


def _unwrapped(walk: Walk, folder: Path, split: str) -> Path:
    """The folder of a split that holds the class folders: ``seg_train/seg_train``, ``train/images``."""
    below = subfolders(folder)
    only = below[0] if len(below) == 1 else None
    if only is None or _holds_images(only) or not subfolders(only):
        return folder
    if only.name != folder.name and not says_nothing(only.name) and split_of(only.name) != split:
        return folder
    walk.folders(folder)  # which counts what lies beside it
    return _unwrapped(walk, only, split)


def _holds_images(folder: Path) -> bool:
    """Whether images lie in a folder itself."""
    first = next(Walk(folder).images(folder), None)
    return first is not None and first.parent == folder


def images_of(walk: Walk, folder: Path, split: str | None) -> Iterator[FoundImage]:
    """The images of the class folders in a folder, class by class."""
    beside = "beside the class folders" if subfolders(folder) else f"in {folder.name}, which has no class folders"
    for class_folder in walk.folders(folder, beside):
        paths = list(walk.images(class_folder))
        if not paths:
            raise DataError(
                f"{class_folder}: expected images in every class folder, got none{_but(walk.account)}; "
                "fill or remove it"
            )
        yield from _images_of_class(walk, class_folder, paths, split)


def _images_of_class(walk: Walk, class_folder: Path, paths: Sequence[Path], split: str | None) -> Iterator[FoundImage]:
    splits = {} if split else splits_of([folder.name for folder in subfolders(class_folder)], class_folder)
    below = {path: path.relative_to(class_folder).parts for path in paths}
    if splits:
        below = {path: parts[1:] if parts[0] in splits else parts for path, parts in below.items()}
    inner = {parts[0] for parts in below.values() if len(parts) > 1}
    if len(inner) == 1 and is_image_folder(*inner):
        below = {path: parts[1:] if len(parts) > 1 else parts for path, parts in below.items()}
    for path, parts in below.items():
        names = (class_folder.name, *parts[:-1][:1])
        label, group = spelt(names[0]), "/".join(map(spelt, names))
        if group != "/".join(names):
            form = "composed Unicode" if nfc("/".join(names)) == group else "UTF-8"
            walk.count(Fate.RENAMED, f"to names in {form}", group)
        given = split or splits.get(path.relative_to(class_folder).parts[0])
        yield FoundImage(path=path, split=given, label=label, group=group)


def _but(account: Account) -> str:
    return f" ({account.line()})" if account else ""
