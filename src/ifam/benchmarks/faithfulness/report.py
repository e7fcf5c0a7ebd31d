"""What was measured, as JSON and as Markdown: mean and range over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ifam.benchmarks.faithfulness.explainers import EXPLAINERS
from ifam.benchmarks.faithfulness.measures import SHARES, Protocol
from ifam.benchmarks.report import KNOWN_WEIGHTS, circumstances

PHOTOGRAPHS = {
    "photo_flips": "flips, other photograph",
    "noise_flips": "flips, noise",
    "photo_change": "change, other photograph",
    "noise_change": "change, noise",
    "insertion": "insertion ↑",
    "deletion": "deletion ↓",
    "pointing": "pointing ↑",
    "iou": "IoU ↑",
    "randomised": "randomised → 0",
    "seconds": "s per image",
}
BLOCKS = {
    "difference": "top − bottom ↑",
    "top": "top",
    "bottom": "bottom",
    "null_share": "on the null block ↓",
}
MODELS = {"ifam-1": "iFAM", "erm": "plain ViT"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One explainer on one model of one seed."""

    part: str
    """photographs or blocks"""
    model: str
    method: str
    seed: int
    weights: str
    """digest of what was measured, so that a row of another model is not taken for this one"""
    numbers: Mapping[str, float | None]
    maps: Sequence[Sequence[Sequence[float]]] = ()
    """of the first photographs, each from 0 to 1"""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other rows."""
        return (self.part, self.model, self.method, str(self.seed), self.weights)


def to_json(
    command: str, protocol: Mapping[str, Any], context: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, Any]:
    """Everything, with its circumstances."""
    return {
        "benchmark": "faithfulness",
        "command": command,
        "circumstances": circumstances(),
        "protocol": dict(protocol),
        "context": dict(context),
        "rows": [asdict(row) for row in rows],
    }


def rows_of(content: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[Row]:
    """The rows of an earlier file that was made with the same protocol."""
    return [Row(**row) for row in content.get("rows", ())] if content.get("protocol") == protocol else []


def to_markdown(content: Mapping[str, Any]) -> str:
    """Both tables with how they were made."""
    rows = [Row(**row) for row in content["rows"]]
    where, protocol, context = content["circumstances"], content["protocol"], content["context"]
    weights = [f" `{name}` is {what}." for name, what in KNOWN_WEIGHTS.items() if name in content["command"]]
    lines = [
        "# Faithfulness: iFAM's map against maps made afterwards",
        f"Measured {where['date']} on {where['cpu']}, {where['threads']} threads, torch {where['versions']['torch']}: "
        f"`{content['command']}`. Mean (lowest–highest) over seeds; ↑ higher is better, ↓ lower.{''.join(weights)}",
    ]
    for part, title, columns, facts in (
        ("photographs", "## Photographs", PHOTOGRAPHS, _about_photographs(protocol, context)),
        ("blocks", "## Block images, trained anew", BLOCKS, _about_blocks(protocol, context)),
    ):
        of_part = [row for row in rows if row.part == part]
        if of_part:
            lines += [title, table(of_part, columns), facts]
    notes = [f"- {each.title}: {each.note}" for each in EXPLAINERS.values() if each.note]
    lines += ["## The methods", "\n".join([*notes, _about_deep_lift(context)])]
    return "\n\n".join(lines) + "\n"


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Markdown: a line for each model and method."""
    known = [name for name in columns if any(row.numbers.get(name) is not None for row in rows)]
    lines = [["model", "map", *(columns[name] for name in known)], ["---", "---", *["--:"] * len(known)]]
    for (model, method), group in grouped(rows).items():
        cells = [cell([row.numbers.get(name) for row in group]) for name in known]
        lines.append([MODELS.get(model, model), EXPLAINERS[method].title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of all seeds by model and method, in the order of the models and explainers."""
    order = [(model, method) for model in MODELS for method in EXPLAINERS]
    found = {key: [row for row in rows if (row.model, row.method) == key] for key in order}
    return {key: group for key, group in found.items() if group}


def cell(values: Sequence[float | None]) -> str:
    """Mean and range."""
    present = [value for value in values if value is not None]
    if not present:
        return "–"
    if len(present) == 1:
        return f"{present[0]:.3f}"
    return f"{fmean(present):.3f} ({min(present):.3f}–{max(present):.3f})"


def _about_photographs(protocol: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    kept = f"{fmean(context['kept'].values()):.1%}" if context.get("kept") else "–"
    return _PHOTOGRAPHS.format(
        images=context.get("num_images", protocol["images"]),
        kept=kept,
        shares=", ".join(f"{share:.0%}" for share in SHARES),
        curves=min(protocol["curve_images"], protocol["images"]),
        randomised=min(protocol["randomised_images"], protocol["images"]),
    )


def _about_blocks(protocol: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    accuracies = context.get("block_accuracy", {})
    of_model = {slug: [value for key, value in accuracies.items() if key.rpartition("-")[0] == slug] for slug in MODELS}
    known = "; ".join(f"{MODELS[slug]} {cell(values)}" for slug, values in of_model.items())
    on_digit = cell(list(context.get("block_mask_on_digit", {}).values()))
    return _BLOCKS.format(accuracies=known, on_digit=on_digit)


def _about_deep_lift(context: Mapping[str, Any]) -> str:
    gaps = list(context.get("deep_lift_gap", {}).values())
    measured = f" (its sum misses the difference by {fmean(gaps):.0%}, median over images)" if gaps else ""
    return _DEEP_LIFT.format(measured=measured)


_PHOTOGRAPHS = """\
{images} test photographs, drawn at random in each group, groups alike, the same for every row. Of each photograph a map
keeps as many tokens as iFAM of the same seed does, {kept} on average.

- Flips: share of the answers that change when all that a map does not keep is replaced in the pixels; iFAM chooses its
  mask anew. Change: of the log-odds of the answer, without sign.
- Insertion, deletion: area under the probability of the answer while tokens come or go in the order of the map, at
  {shares} of them. They are left out, not replaced; iFAM's mask is held. First {curves} photographs.
- Pointing, IoU: against the true masks; IoU is the mean over images.
- Areas are by absolute value where maps have signs; insertion and deletion go by the signed one.
- Randomised: rank correlation, over the tokens that the model reads, with the map of the same model after the values of
  every weight tensor have changed places. First {randomised} photographs."""

_BLOCKS = """\
Digits of scikit-learn left or right of a ring that is the same in every image, 1,198 to train and 599 to test. Top,
bottom: test accuracy of a multilayer perceptron trained on the quarter of the tokens that a map ranks highest or
lowest, by absolute value. On the null block: share of the map's absolute values there; half where a map says nothing.
The classifiers that are explained are tiny transformers from random weights, iFAM's second stage from where the plain
one ended; settings of iFAM were chosen on seed 0. Their test accuracy: {accuracies}. Share of the tokens in iFAM's mask
that lie in the digit's half: {on_digit}."""

_DEEP_LIFT = """\
- DeepLIFT has no row: its rules, in captum, are of single activations such as ReLU. Attention multiplies functions of
  the input, and GELU and LayerNorm have no rule either, so that here it is gradient × (input − baseline) and does not
  add up to the difference of logits that it promises{measured}"""


def protocol_of(protocol: Protocol, data_digest: str, epochs: int) -> dict[str, Any]:
    """What has to be the same for rows to stand in one table."""
    values = asdict(protocol)
    return {**values, "shares": list(SHARES), "data": data_digest, "block_epochs": epochs}
