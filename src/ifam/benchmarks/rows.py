"""The methods that are compared, each a line of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ifam.config import MethodName

Settings = Mapping[str, Any]
"""changes to a recipe, by dotted name"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method with its settings."""

    slug: str
    """names the folder of its runs, and the row in `ifam.benchmarks.paper`"""
    name: str
    method: MethodName
    settings: Settings = field(default_factory=dict)
    tries: tuple[Settings, ...] = ({},)
    """settings that are tried with the first seed; the best on the validation split is taken for every seed"""
    intervened: bool = False
    """whether a second line shows the same runs with the interventions that validation chose"""
    families: tuple[str, ...] = ()
    """kinds of intervention, of `FAMILIES`, that have a line each, chosen on the validation split as well"""
    quantiles: tuple[float, ...] = ()
    """of token removal, that have a line each, whatever validation says of them"""


FAMILIES = {
    "leave-one-out": "one part left out",
    "tokens": "unsure tokens removed",
    "both": "both",
    "any": "all kinds",
    "leave-one-out-q97": "tokens beyond q = 0.97 removed, and one part",
    "leave-one-out-q99": "tokens beyond q = 0.99 removed, and one part",
}
"""kinds of intervention -> words; no intervention is one of every kind"""
FROZEN: Settings = {"optimizer.lr_stage2": 0.0}
RESNET_RATES: tuple[Settings, ...] = tuple({"optimizer.lr_stage2": rate} for rate in (1e-4, 1e-5, 1e-6))
"""1e-4 is that of the published baselines; 1e-6, that of the transformers, hardly moves a ResNet"""


def plain(**settings: Any) -> tuple[Row, ...]:
    """Fine-tuning of the classification layers alone, and of everything."""
    return (
        Row(slug="erm-frozen", name="plain, frozen backbone", method="erm", settings=FROZEN, **settings),
        Row(slug="erm", name="plain, fine-tuned", method="erm", **settings),
    )


def masked(*sources: str, **settings: Any) -> tuple[Row, ...]:
    """Late and early masking by each source of masks."""
    return tuple(
        Row(
            slug=f"{when}-{source}",
            name=f"{when} mask, {source}",
            method="early_mask" if when == "early" else "late_mask",
            settings={"model.masks": source},
            **settings,
        )
        for source in sources
        for when in ("late", "early")
    )


def parts(method: MethodName, *numbers: int, **settings: Any) -> tuple[Row, ...]:
    """iFAM or PDiscoFormer by number of parts."""
    name = {"ifam": "iFAM", "pdiscoformer": "PDiscoFormer"}[method]
    return tuple(
        Row(slug=f"{method}-{k}", name=f"{name}, K = {k}", method=method, settings={"model.num_parts": k}, **settings)
        for k in numbers
    )


def robust(*methods: MethodName, **settings: Any) -> tuple[Row, ...]:
    """Methods against shortcuts that train the same network on whole images."""
    names = {"group_dro": "group DRO", "jtt": "JTT", "masktune": "MaskTune", "dfr": "last layer re-trained (DFR)"}
    return tuple(
        Row(slug=method.replace("_", "-"), name=names[method], method=method, **settings) for method in methods
    )


def on_resnet50(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same with the convolutional network of the older literature, at the best of `RESNET_RATES`."""
    backbone = {"model.backbone": "resnet50.a1_in1k"}
    return tuple(
        replace(
            row,
            slug=f"resnet50-{row.slug}",
            name=f"{row.name}, ResNet-50",
            settings={**row.settings, **backbone},
            tries=RESNET_RATES,
        )
        for row in rows
    )


def frozen(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same with the transformer as it came."""
    return tuple(
        replace(row, slug=f"{row.slug}-frozen", name=f"{row.name}, frozen", settings={**row.settings, **FROZEN})
        for row in rows
    )


def intervened(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same, each followed by a line with interventions."""
    return tuple(replace(row, intervened=True) for row in rows)


def by_family(rows: tuple[Row, ...], *families: str) -> tuple[Row, ...]:
    """The same, each followed by a line for each kind of intervention."""
    return tuple(replace(row, families=families) for row in rows)


def without_tokens_beyond(rows: tuple[Row, ...], *quantiles: float) -> tuple[Row, ...]:
    """The same, each followed by a line for each quantile of token removal."""
    return tuple(replace(row, quantiles=quantiles) for row in rows)
