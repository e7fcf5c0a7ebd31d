"""Waterbird200: the birds of Waterbirds, which are those of CUB, with their 200 species as classes.

Source: https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz, unpacked into CUB_200_2011.
Citation: S. Sagawa, P. W. Koh, T. B. Hashimoto and P. Liang, Distributionally Robust Neural Networks for Group Shifts,
ICLR 2020; for the species as classes: A. Aniraj et al., arXiv 2506.08915, 2025.
Licence: none given; birds of CUB-200-2011 before scenes of Places, for research.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ifam.data.cub import is_complete_cub, read_cub
from ifam.data.delimited import read_csv
from ifam.data.metadata import METADATA, read_metadata
from ifam.data.table import ImageTable, Sample
from ifam.data.tree import incomplete
from ifam.errors import DataError

LAYOUT = "Waterbird200"
_SPECIES = re.compile(r"\d{3}\..+")
_TREE = f"{METADATA} with img_id, img_filename, y, split and perhaps place; <species>/<image>.jpg as in CUB-200-2011"
_TYPES, _PLACES = ("landbird", "waterbird"), {"0": "land", "1": "water"}
# seabirds and waterfowl; a species is one if its name contains one of the words
_WATER = (
    "albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin",
    "tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "pacific_loon",
)  # fmt: skip


def is_waterbird200(root: Path) -> bool:
    """Whether ``y`` numbers the species: more than two values, one for each species folder of ``img_filename``."""
    path = root / METADATA
    if not path.is_file():
        return False
    pairs = {
        (row.get("y"), _species(row.get("img_filename", "")))
        for row in read_csv(path, required=(), optional=("y", "img_filename"))
    }
    numbers, species = ({pair[side] for pair in pairs} for side in (0, 1))
    return None not in species and len(pairs) == len(numbers) == len(species) > 2


def waterbird200(folder: str | Path) -> ImageTable:
    """The species as classes, read from the folder of each image, whatever ``y`` says; groups are type × place.

    Classes are named as CUB's, so a model of CUB can be evaluated. Types follow the published rule, a part of the name:
    by "tern" it takes Western Meadowlark, Western Wood-Pewee and Eastern Towhee for water birds, as the published ``y``
    does. Where the folder lies in CUB_200_2011, masks, parts and boxes come from there: the birds lie as they do there.
    """
    root = Path(folder)
    if not (root / METADATA).is_file():
        raise incomplete(root, LAYOUT, _TREE, f"no {METADATA}")
    table = read_metadata(root)
    species = [_species(sample.name) for sample in table.samples]
    named = {name for name in species if name}
    if len(table) > sum(name is not None for name in species):
        other = table.samples[species.index(None)].name
        raise incomplete(root, LAYOUT, _TREE, f"{other}, whose folder names no species")
    class_names = sorted(named)
    places = list(dict.fromkeys(name.rsplit("/", 1)[1] for name in table.group_names))
    labels = {name: index for index, name in enumerate(class_names)}

    def sample(old: Sample, name: str) -> Sample:
        is_water = any(word in name.lower() for word in _WATER)
        group = None if old.group is None else is_water * len(places) + old.group % len(places)
        return replace(old, label=labels[name], group=group)

    relabelled = replace(
        table,
        layout=LAYOUT,
        class_names=tuple(class_names),
        group_names=tuple(f"{kind}/{_PLACES.get(place, place)}" for kind in _TYPES for place in places),
        samples=tuple(sample(old, name) for old, name in zip(table.samples, species, strict=True) if name),
    )
    return _with_annotations(relabelled, read_cub(root.parent)) if is_complete_cub(root.parent) else relabelled


def _with_annotations(table: ImageTable, cub: ImageTable) -> ImageTable:
    """Masks, parts and boxes of the same birds, where the table has none of its own."""
    birds = {sample.name.removeprefix("images/"): sample for sample in cub.samples}
    unknown = [sample.name for sample in table.samples if sample.name not in birds]
    if unknown:
        raise DataError(
            f"{table.root}: expected birds of {cub.root}, got {len(unknown)} others, the first is {unknown[0]}; "
            "move the folder out of it"
        )
    own_points = table.has_keypoints
    return replace(
        table,
        keypoint_names=table.keypoint_names if own_points else cub.keypoint_names,
        samples=tuple(
            replace(
                sample,
                mask=sample.mask or birds[sample.name].mask,
                keypoints=sample.keypoints if own_points else birds[sample.name].keypoints,
                box=sample.box or birds[sample.name].box,
            )
            for sample in table.samples
        ),
    )


def _species(filename: str) -> str | None:
    folder = PurePosixPath(filename).parent.name
    return folder if _SPECIES.fullmatch(folder) else None
