"""Every number of the paper's tables, written here a second time, in the paper's own order and words."""

import pytest

from ifam.benchmarks.paper import MASKS_THERE, PAPER, PUBLISHED_ONLY
from ifam.benchmarks.suite import BENCHMARKS

# method | K | AA | WGA on MetaShift || K | AA | WGA on Waterbird
TABLE_1A = """
Early mask gt         | - | -    | -    || 1  | 99.2 | 97.2
Late mask gt          | - | -    | -    || 1  | 95.7 | 84.0
ResNet50 ERM          | - | 72.9 | 62.1 || -  | 97.0 | 63.7
ViT-B ERM             | - | 75.8 | 62.5 || -  | 95.0 | 80.7
ViT-B DinoV2 frozen   | - | 83.2 | 72.6 || -  | 95.9 | 88.5
ViT-B DinoV2 PCA      | - | -    | -    || -  | 97.4 | 94.0
ViT-B DinoV2 tuned    | - | 84.7 | 76.8 || -  | 98.6 | 95.8
ResNet50 MaskTune     | - | -    | -    || -  | 93.0 | 86.4
ResNet50 GroupDRO     | - | 73.6 | 66.0 || -  | 91.8 | 90.6
ResNet50 DISC         | - | 75.5 | 73.5 || -  | 93.8 | 88.7
PDiscoFormer          | 2 | 86.9 | 81.0 || 4  | 96.0 | 87.4
PDiscoFormer          | 4 | 83.2 | 75.5 || 8  | 94.2 | 84.3
PDiscoFormer          | 8 | 88.7 | 83.6 || 16 | 95.9 | 85.1
Late mask FOUND       | 1 | 82.3 | 73.5 || 1  | 95.3 | 83.3
Early mask FOUND      | 1 | 84.5 | 77.1 || 1  | 98.6 | 95.2
iFAM                  | 1 | 88.5 | 86.9 || 1  | 98.7 | 95.8
iFAM                  | 2 | 89.1 | 86.3 || 4  | 98.7 | 96.4
iFAM                  | 4 | 88.7 | 88.6 || 8  | 99.0 | 97.0
iFAM                  | 8 | 84.5 | 78.8 || 16 | 98.8 | 97.0
iFAM + X              | 8 | 84.8 | 83.0 || 16 | 98.8 | 97.4
"""
# method | K | IN-1K (? where the copy cannot be read) | IN-9 original | mixed-same | mixed-rand
TABLE_1B = """
ResNet50 ERM          | - | 81.2 | 96.4 | 90.0 | 84.6
ResNet-152 ERM        | - | 83.5 | 97.3 | 92.1 | 87.4
ViT-B ERM             | - | 83.8 | 97.9 | 92.5 | 87.9
ViT-L ERM             | - | ?    | 98.0 | 93.0 | 89.4
ViT-B DinoV2          | - | ?    | 98.1 | 93.1 | 87.1
ViT-L DinoV2          | - | ?    | 98.3 | 95.5 | 90.2
ResNet50 MaskTune     | - | ?    | 95.6 | 91.1 | 78.6
ResNet50 LLE          | - | ?    | 95.5 | 88.3 | 83.4
ViT-B SWAG+LLE        | - | ?    | 98.0 | 92.4 | 87.9
ViT-B MAE+LLE         | - | 83.7 | 97.4 | 92.5 | 88.3
ViT-L MAE+LLE         | - | 85.8 | 97.4 | 93.5 | 89.8
PDiscoFormer          | 1 | 83.3 | 98.4 | 93.9 | 88.6
iFAM                  | 1 | 84.3 | 97.5 | 93.5 | 91.1
iFAM + X              | 1 | 83.1 | 97.3 | 94.0 | 91.6
"""
BG_GAPS = (5.4, 4.7, 4.6, 3.6, 6.0, 5.3, 12.5, 4.9, 4.5, 4.2, 3.7, 5.3, 2.4, 2.4)
# method | K | CUB | Waterbird200
TABLE_2A = """
Early mask seg frozen | 1  | 90.1 | 86.9
Early mask seg tuned  | 1  | 91.4 | 88.8
Late mask seg frozen  | 1  | 88.6 | 76.6
Late mask seg tuned   | 1  | 90.7 | 74.8
ViT-B DinoV2 frozen   | -  | 89.2 | 76.6
ViT-B DinoV2 tuned    | -  | 91.6 | 68.4
PDiscoFormer          | 4  | 89.1 | 76.0
PDiscoFormer          | 8  | 88.8 | 76.8
PDiscoFormer          | 16 | 88.7 | 75.8
iFAM                  | 1  | 89.0 | 84.2
iFAM                  | 4  | 90.1 | 86.1
iFAM                  | 8  | 90.4 | 86.2
iFAM                  | 16 | 90.6 | 86.2
iFAM + X              | 16 | 90.5 | 87.3
"""
# method | K | average AUC | WG AUC
TABLE_2B = """
BBox-ERM              | - | 92.4 | 72.0
Segmentation-ERM      | - | 93.3 | 82.0
ResNet50 ERM          | - | 90.9 | 45.5
ResNet50 JTT          | - | 92.6 | 55.9
ResNet50 GEORGE       | - | 92.0 | 63.4
ViT-B DinoV2 frozen   | - | 90.6 | 40.6
ViT-B DinoV2 tuned    | - | 92.6 | 54.3
PDiscoFormer          | 8 | 92.6 | 46.7
iFAM                  | 8 | 92.1 | 65.9
iFAM + X              | 8 | 91.1 | 69.0
"""
# rows: none, q = 97 %, q = 99 %; of the last two the differences
TABLE_3 = {
    ("metashift", "ifam-8"): ((84.5, 78.8), (0.2, 0.3), (0.2, 1.3)),
    ("waterbirds", "ifam-16"): ((98.8, 97.0), (-0.1, -0.4), (0.0, 0.4)),
    ("siim_acr", "ifam-8"): ((92.1, 65.9), (-0.1, 0.1), (0.1, 0.5)),
}
TABLE_3_WATERBIRD200 = {4: (86.1, 0.7, 0.5), 8: (86.2, 0.5, 0.7), 16: (86.2, 1.1, 0.7)}
# rows: none, LOO, LOO and q = 97 %, LOO and q = 99 %; of the last three the differences
TABLE_4 = {
    ("metashift", "pdiscoformer-4"): ((83.2, 75.5), (2.0, 1.3), (2.0, 0.3), (2.2, 1.3)),
    ("siim_acr", "pdiscoformer-8"): ((92.6, 48.1), (0.0, 0.0), (0.0, 0.1), (0.0, 0.1)),
    ("metashift", "ifam-8"): ((84.5, 78.8), (0.2, 2.9), (0.2, 3.2), (0.3, 4.2)),
    ("siim_acr", "ifam-8"): ((92.1, 65.9), (-1.5, 1.4), (-1.3, 2.8), (-1.0, 3.1)),
}
# CUB, Waterbird200 (no row here), then AA and WGA on MetaShift
TABLE_5 = {
    "full": (88.7, 88.6),
    "no-second-stage": (83.2, 75.5),
    "soft-masks": (88.0, 86.3),
    "no-shaping": (85.4, 79.1),
    "no-stage1-classification": (86.9, 82.3),
    "frozen-stage2": (85.0, 85.0),
    "dropout-0.5": (87.1, 84.3),
    "dropout-0.1": (84.1, 82.0),
    "dropout-0.0": (86.5, 86.0),
}
# K -> Kp, Fg. MIoU, top-1: none, q = 97 %, q = 99 %
TABLE_6 = {
    4: ((10.3, 63.7, 86.1), (8.4, 65.2, 86.8), (9.2, 65.9, 86.6)),
    8: ((9.3, 68.6, 86.2), (6.7, 71.4, 86.7), (7.3, 72.4, 86.9)),
    16: ((8.0, 70.2, 86.2), (6.2, 72.9, 87.3), (6.5, 73.1, 86.9)),
}
OURS = {
    "Early mask gt": "early-annotated", "Late mask gt": "late-annotated", "ResNet50 ERM": "resnet50-erm",
    "Early mask seg frozen": "early-annotated-frozen", "Early mask seg tuned": "early-annotated",
    "Late mask seg frozen": "late-annotated-frozen", "Late mask seg tuned": "late-annotated",
    "ViT-B ERM": "vit-b-imagenet-erm", "ViT-B DinoV2 frozen": "erm-frozen", "ViT-B DinoV2 PCA": "dinov2-pca",
    "ViT-B DinoV2 tuned": "erm", "ResNet50 MaskTune": "resnet50-masktune", "ResNet50 GroupDRO": "resnet50-group-dro",
    "ResNet50 DISC": "resnet50-disc", "ResNet50 JTT": "resnet50-jtt", "ResNet50 GEORGE": "resnet50-george",
    "Late mask FOUND": "late-tokencut", "Early mask FOUND": "early-tokencut", "BBox-ERM": "bbox-erm",
    "Segmentation-ERM": "segmentation-erm", "ResNet-152 ERM": "resnet152-erm", "ViT-L ERM": "vit-l-imagenet-erm",
    "ViT-B DinoV2": "vit-b-dinov2", "ViT-L DinoV2": "vit-l-dinov2", "ResNet50 LLE": "resnet50-lle",
    "ViT-B SWAG+LLE": "vit-b-swag-lle", "ViT-B MAE+LLE": "vit-b-mae-lle", "ViT-L MAE+LLE": "vit-l-mae-lle",
}  # fmt: skip
PARTS = {"PDiscoFormer": "pdiscoformer-{}", "iFAM": "ifam-{}", "iFAM + X": "ifam-{}-intervened"}
ALL = ("accuracy", "worst_group_accuracy")
Rows = dict[str, dict[str, float]]


def rows(table: str, columns: tuple[str, ...], half: int | None = None) -> Rows:
    """By our name of the row; ``half`` of a table with two."""
    found: Rows = {}
    for line in table.strip().splitlines():
        name, cells = (text.strip() for text in line.split("|", 1))
        k, *values = (cell.strip() for cell in (cells if half is None else cells.split("||")[half]).split("|"))
        slug = PARTS[name].format(k) if name in PARTS else OURS[name]
        numbers = {c: float(v) for c, v in zip(columns, values, strict=True) if v not in ("-", "?")}
        if numbers:
            assert slug not in found
            found[slug] = numbers
    return found


def removals(
    plain: tuple[float, ...], *differences: tuple[float, ...], columns: tuple[str, ...] = ALL
) -> list[dict[str, float]]:
    return [
        dict(zip(columns, (p + d for p, d in zip(plain, difference, strict=True)), strict=True))
        for difference in differences
    ]


def expected() -> dict[str, Rows]:
    """All tables, by benchmark."""
    in9 = rows(TABLE_1B, ("imagenet_accuracy", "original_accuracy", "mixed_same_accuracy", "mixed_rand_accuracy"))
    for numbers, gap in zip(in9.values(), BG_GAPS, strict=True):
        numbers["bg_gap"] = gap
    tables = {
        "metashift": rows(TABLE_1A, ALL, 0),
        "waterbirds": rows(TABLE_1A, ALL, 1),
        "in9": in9,
        "cub": rows(TABLE_2A, ("accuracy", "waterbird200_accuracy")),
        "siim_acr": rows(TABLE_2B, ("auc", "worst_group_auc")),
        "ablation": {slug: dict(zip(ALL, values, strict=True)) for slug, values in TABLE_5.items()},
    }
    for (name, slug), (plain, *more) in TABLE_3.items():
        columns = ("auc", "worst_group_auc") if name == "siim_acr" else ALL
        assert tables[name][slug] == dict(zip(columns, plain, strict=True)), (
            "table 3 begins with the row of table 1 or 2"
        )
        for q, numbers in zip((97, 99), removals(plain, *more, columns=columns), strict=True):
            tables[name][f"{slug}-q{q}"] = numbers
    for (name, slug), (plain, *more) in TABLE_4.items():
        columns = ("auc", "worst_group_auc") if name == "siim_acr" else ALL
        for kind, numbers in zip(("", "-q97", "-q99"), removals(plain, *more, columns=columns), strict=True):
            tables[name][f"{slug}-leave-one-out{kind}"] = numbers
    names = ("waterbird200_keypoint_error_published", "waterbird200_foreground_iou", "waterbird200_accuracy")
    for k, triples in TABLE_6.items():
        for kind, triple in zip(("", "-q97", "-q99"), triples, strict=True):
            tables["cub"].setdefault(f"ifam-{k}{kind}", {}).update(zip(names, triple, strict=True))
    return tables


@pytest.mark.parametrize("name", expected())
def test_every_number_stands_in_the_paper_and_none_is_missing(name: str) -> None:
    table = expected()[name]
    assert PAPER[name].keys() == table.keys()
    for slug, numbers in table.items():
        assert {column: 100 * value for column, value in PAPER[name][slug].items()} == pytest.approx(numbers), slug


def test_tables_3_and_6_agree() -> None:
    for k, (plain, *differences) in TABLE_3_WATERBIRD200.items():
        removed = [plain, *(plain + difference for difference in differences)]
        assert removed == pytest.approx([accuracy for _, _, accuracy in TABLE_6[k]])


def test_gaps_are_differences() -> None:
    for numbers in PAPER["in9"].values():
        assert numbers["bg_gap"] == pytest.approx(numbers["mixed_same_accuracy"] - numbers["mixed_rand_accuracy"])


def test_interventions_quote_metashift() -> None:
    for slug, numbers in PAPER["interventions"].items():
        same = {"ifam-8-tokens": "ifam-8-q99", "ifam-8-both": "ifam-8-leave-one-out-q99"}.get(slug, slug)
        assert numbers == PAPER["metashift"][same]


def test_the_order_on_waterbirds_is_as_the_documentation_tells_it() -> None:
    worst = {slug: 100 * numbers["worst_group_accuracy"] for slug, numbers in PAPER["waterbirds"].items()}
    assert worst["erm"] == worst["ifam-1"] == pytest.approx(95.8)
    assert worst["early-annotated"] > worst["ifam-8"] > worst["erm"] > worst["early-tokencut"] > worst["pdiscoformer-4"]
    assert worst["erm"] - worst["late-annotated"] == pytest.approx(11.8)


@pytest.mark.parametrize("name", PUBLISHED_ONLY)
def test_a_row_is_either_run_or_published_only(name: str) -> None:
    ran = {row.slug for row in BENCHMARKS[name].rows}
    assert not ran & PUBLISHED_ONLY[name].keys()
    assert PUBLISHED_ONLY[name].keys() <= PAPER[name].keys()


@pytest.mark.parametrize("name", MASKS_THERE)
def test_where_the_papers_masks_are_others_the_row_exists_and_the_note_says_so(name: str) -> None:
    assert MASKS_THERE[name].keys() <= {row.slug for row in BENCHMARKS[name].rows}
    for source in MASKS_THERE[name].values():
        assert source in BENCHMARKS[name].note


def test_no_row_is_told_the_masks_of_siim_acr() -> None:
    assert {row.method for row in BENCHMARKS["siim_acr"].rows} <= {"erm", "jtt", "pdiscoformer", "ifam"}
    assert {"bbox-erm", "segmentation-erm"} <= PUBLISHED_ONLY["siim_acr"].keys()
