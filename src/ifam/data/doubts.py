"""Names of classes that may mean something else than was understood."""

from collections.abc import Iterator, Sequence

from ifam.data.masks_beside import is_mask_folder, masks_among
from ifam.data.names import look_alikes
from ifam.data.split_folders import split_of


def doubts_of_names(class_names: Sequence[str], group_names: Sequence[str] = ()) -> Iterator[str]:
    """A line for each: names alike but for case or spaces, a class called as a split, classes and groups as masks."""
    for names in (*look_alikes(class_names), *look_alikes(group_names)):
        alike = " and ".join(map(repr, names))
        yield f"{alike}: names that differ by case or spaces only are kept apart; rename one if they mean the same"
    for name in class_names:
        if split_of(name):
            yield f"class {name} is called as a split; if it is one, call the folders beside it train, val or test too"
    for name in masks_among(class_names):
        yield f"class {name} is called as the masks of another class; move it out of the data if it holds them"
    folders = [f"class {name}" for name in class_names if is_mask_folder(name)]
    folders += [f"group {name}" for name in group_names if "/" in name and is_mask_folder(name.rpartition("/")[2])]
    for name in folders:
        yield f"{name} is called as a folder of masks; move it out of the data if it holds them"
