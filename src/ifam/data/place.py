"""How a class follows the place that it stands in, as far as the names of groups say it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ifam.data.table import ImageTable

IMAGES_PER_PLACE = 10
"""on average, from which on the parts of group names are taken for places and not, say, for patients"""
_AROUND = " \t/\\_-|,;:()[]"


@dataclass(frozen=True, kw_only=True)
class ClassByPlace:
    """How surely the place of an image tells its class; shares in 0–1."""

    share: float
    """images whose class is the most frequent one of their place"""
    largest_class: float
    """images of the most frequent class: what knowing no place gives"""
    places: tuple[str, ...]
    num_images: int


def place_of(group: str, class_name: str) -> str:
    """What the name of a group adds to that of its class; empty where it adds nothing.

    >>> place_of("gull/land", "gull"), place_of("cat/cat(sofa)", "cat"), place_of("at sea", "gull")
    ('land', 'sofa', 'at sea')
    """
    place = group
    while class_name and place.startswith(class_name) and not place[len(class_name) :][:1].isalnum():
        place = place[len(class_name) :].strip(_AROUND)
    return place


def class_of(group: str, class_names: Sequence[str]) -> str | None:
    """The class whose name the name of a group begins with, the longest; None where there is none."""
    fitting = [name for name in class_names if name and place_of(group, name) != group]
    return max(fitting, key=len, default=None)


def usual_classes(group_sizes: Mapping[str, int], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Place -> class -> images, from the sizes of groups that are named ``class/place`` or so."""
    found: dict[str, dict[str, int]] = {}
    for group, size in group_sizes.items():
        class_name = class_of(group, class_names)
        if class_name is not None and size:
            classes = found.setdefault(place_of(group, class_name), {})
            classes[class_name] = classes.get(class_name, 0) + size
    return found


def class_by_place(table: ImageTable, training: ImageTable) -> ClassByPlace | None:
    """How far the class follows the place in the ``training`` images of a ``table``.

    None where groups name no places: none is known, or no class shares its place with another in the whole table, as
    where every class has folders of its own, or there are nearly as many as images.
    """
    pairs, everywhere = _placed(training), _placed(table)
    places = {place for place, _ in pairs}
    shared = len(set(everywhere)) > len({place for place, _ in everywhere})
    if not shared or len(places) < 2 or len(pairs) < IMAGES_PER_PLACE * len(places):
        return None
    classes = Counter(name for _, name in pairs)
    by_place = {place: Counter(name for where, name in pairs if where == place) for place in places}
    return ClassByPlace(
        share=sum(max(counts.values()) for counts in by_place.values()) / len(pairs),
        largest_class=max(classes.values()) / len(pairs),
        places=tuple(sorted(places)),
        num_images=len(pairs),
    )


def _placed(table: ImageTable) -> list[tuple[str, str]]:
    """(place, class) of every image whose group names a place."""
    names = [(sample.group, table.class_names[sample.label]) for sample in table.samples]
    pairs = [(place_of(table.group_names[group], name), name) for group, name in names if group is not None]
    return [(place, name) for place, name in pairs if place]
