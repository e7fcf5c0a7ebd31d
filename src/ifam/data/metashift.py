"""MetaShift cat/dog: cats and dogs by what is beside them, dogs outdoors in training and indoors in test.

Source: https://github.com/Weixin-Liang/MetaShift (``domain_generalization_cat_dog.py`` makes the folders); the subset
of the group robustness papers, cat(sofa), cat(bed), dog(bench), dog(bike) against shelf, is the one of
https://github.com/Wuyxin/DISC.
Citation: W. Liang and J. Zou, MetaShift: A Dataset of Datasets for Evaluating Contextual Distribution Shifts and
Training Conflicts, ICLR 2022.
Licence: CC BY 4.0 (photographs of Visual Genome).
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path

from ifam.data.folders import read_folders, subfolders
from ifam.data.table import ImageTable
from ifam.data.tree import showing

LAYOUT = "MetaShift"
_TREE = "train/cat/cat(sofa)/….jpg, train/dog/dog(bench)/….jpg, test/cat/cat(shelf)/….jpg, test/dog/dog(shelf)/….jpg"


def is_metashift(root: Path) -> bool:
    """Whether class folders hold folders named as ``cat/cat(sofa)``; the first few are looked at."""
    above = [folder for folder in (root / "train", root / "test", root) if folder.is_dir()]
    classes = [folder for parent in above for folder in islice(subfolders(parent), 3)]
    return any(
        context.name.startswith(f"{folder.name}(") and context.name.endswith(")")
        for folder in classes
        for context in subfolders(folder)
    )


def read_metashift(root: Path) -> ImageTable:
    """Class folders with the contexts as groups.

    A photograph of two contexts, say a sofa and a bed, lies in both folders. Each copy is kept and counts in its group,
    as in the published protocol: the authors' script copies it to each, and both DISC's loader and that of iFAM read
    every file. No copy passes from train to test, nor any photograph of cat and dog together: the script leaves them
    out, and ``ifam doctor`` reports it if the folders say otherwise. (DISC validates on 15 % of test; here validation
    images are drawn from train, copies of one photograph together.)
    """
    with showing(LAYOUT, _TREE):
        return replace(read_folders(root), layout=LAYOUT)
