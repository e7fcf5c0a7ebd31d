"""README.md beside a model: what it is, what it was trained on, how good it is, what is guaranteed, how to load it.

Its front matter is read by model hubs. Local paths are not in it: of a path, the last name alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ifam import __version__
from ifam import config as configuration
from ifam.config import TrainingConfig
from ifam.data.table import ImageTable
from ifam.files import last_name, listed, printable, without_folders
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model.two_stage import IFAM

CARD = "README.md"
HERE = "path/of/this/folder"
"""what stands for the model's place in the card until it has one on a hub"""

READ = {
    "patches": "Given the mask, the logits are a function of the selected patches and their positions only",
    "pixels": (
        "Given the mask and the outline of the object in it, the logits are a function of the pixels inside that "
        "outline, and of the positions of their patches, only"
    ),
}
"""by what the evidence of a model is taken in"""
HELD = (
    ": changing any other pixel changes no bit of them. The mask itself is computed from the whole image: a change "
    "outside the mask can move it, and a mask can carry information by its shape. Where nothing was selected, nothing "
    "in the image supports the prediction."
)
GIVEN = ". The masks come from outside the model: what they tell about the class by their shape is not limited."
NONE = "None: the prediction can rest on any pixel of the image"


def guarantee(model: Classifier) -> str:
    """What limits the evidence of a prediction, and what does not."""
    if isinstance(model, IFAM):
        why = (
            "soft masks weigh patches and hide none"
            if model.soft_masks
            else "parts are pooled from tokens that read it"
        )
        return READ[model.evidence] + HELD if model.is_faithful else f"{NONE}; {why}."
    if isinstance(model, MaskedClassifier):
        return (
            READ[model.evidence] + GIVEN if model.is_faithful else f"{NONE}; the mask selects tokens that have read it."
        )
    return f"{NONE}."


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a run knows of how its model came about."""

    config: TrainingConfig
    data: str
    """name of the data set"""
    counts: Mapping[str, int]
    """images of each split"""
    validation: Mapping[str, Any]
    """numbers of the epoch that was kept, as in metrics.jsonl"""

    @classmethod
    def of_run(cls, config: TrainingConfig, table: ImageTable, validation: Mapping[str, Any]) -> "TrainingRecord":
        """Of a run on a table with splits."""
        counts = {split: len(table.select(split)) for split in table.splits}
        return cls(config=config, data=table.root.resolve().name, counts=counts, validation=validation)

    @property
    def scores(self) -> dict[str, float]:
        """The validation scores that matter, by name."""
        wanted = {
            "Accuracy": "val/accuracy",
            "Worst-group accuracy": "val/worst_group_accuracy",
            "AUC": "val/auc",
            "Foreground IoU": "val/foreground_iou",
            "Share of the image inside the mask": "val/mean_kept",
        }
        return {name: self.validation[key] for name, key in wanted.items() if self.validation.get(key) is not None}


def model_card(model: Classifier, record: TrainingRecord | None = None, *, license: str = "unknown") -> str:
    """Markdown with YAML front matter; without ``record``, what the model alone tells."""
    from huggingface_hub import ModelCard

    card = ModelCard.from_template(
        _front_matter(model, record, license),
        template_str=TEMPLATE,
        title=title(model),
        model=model,
        architecture=last_name(model.architecture_title),
        origin=printable(model.backbone_origin),
        height=model.preprocessing.image_size[0],
        width=model.preprocessing.image_size[1],
        classes=listed(model.class_names),
        groups=_counted(model.training_group_sizes),
        counts=_counted(record.counts) if record else "",
        parts=getattr(model, "num_parts", None),
        guarantee=guarantee(model),
        record=record,
        validated=dict(record.validation.get("val/groups", {})) if record else {},
        settings=_settings(record.config) if record else "",
        version=__version__,
        here=HERE,
    )
    return f"{card}\n"


def title(model: Classifier) -> str:
    """A few words for what it is."""
    kind = {IFAM: "iFAM", MaskedClassifier: "Masked classifier"}.get(type(model), "Plain classifier")
    if isinstance(model, IFAM):
        kind = "PDiscoFormer" if model.stage2 is None else kind
        kind += f" with {model.num_parts} part{'' if model.num_parts == 1 else 's'}"
    return f"{kind}, {model.num_classes} classes"


def _front_matter(model: Classifier, record: TrainingRecord | None, license: str) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=record.data,
            dataset_name=record.data,
            dataset_split="validation",
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(record.scores[name], 4),
        )
        for name in ("Accuracy", "Worst-group accuracy")
        if record and name in record.scores
    ]
    tags = ["image-classification", "vision-transformer", "interpretability"]
    return ModelCardData(
        license=license,
        library_name="ifam",
        tags=[*tags, "inherently-faithful-attention-maps"] if isinstance(model, IFAM) else tags,
        pipeline_tag="image-classification",
        metrics=["accuracy"],
        model_name=title(model) if results else None,
        eval_results=results or None,
    )


def _settings(config: TrainingConfig) -> str:
    """All of them as YAML, without local paths."""
    text: str = yaml.safe_dump(without_folders(configuration.to_dict(config)), sort_keys=False)
    return text.strip()


def _counted(counts: Mapping[str, int]) -> str:
    return listed([f"{name} {count:,}" for name, count in counts.items()])


TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

An image classifier made with [ifam](https://arxiv.org/abs/2506.08915) {{ version }}.

## Model

- Architecture: {{ architecture }}{% if parts %}, {{ parts }} foreground part{{ "s" if parts > 1 }}{% endif %}
- The backbone's {{ origin }}
- Images: {{ height }} × {{ width }} pixels (height × width); preprocessing is in `model.json`, and done on loading
- Classes ({{ model.num_classes }}): {{ classes }}

```python
import ifam

model = ifam.load("{{ here }}")
{%- if parts %}
explanation = ifam.explain(model, "photograph.jpg")
print(explanation.label, explanation.probability, explanation.kept)
{%- endif %}
```

## Data
{% if record %}
- Name: {{ record.data }}
- Images: {{ counts }}
{%- else %}
Not recorded.
{%- endif %}
{%- if groups %}
- Training images of each group: {{ groups }}
{%- endif %}

## Scores
{% if record %}
On the {{ record.counts.val }} images of the validation split, by which the epoch was chosen: they flatter. `ifam
evaluate` scores a test split.

| measure | value |
|---|--:|
{%- for name, value in record.scores.items() %}
| {{ name }} | {{ "%.3f" % value }} |
{%- endfor %}
{%- for name, value in validated.items() %}
| Accuracy of group {{ name }} | {{ "–" if value is none else "%.3f" % value }} |
{%- endfor %}
{%- else %}
Not recorded.
{%- endif %}

## What is guaranteed, and what is not

{{ guarantee }}

{% if parts %}`ifam verify` checks it on photographs of your own. {% endif %}Knowing where the evidence lies is not
being right: subjects, places and cameras that the training data lack can lower it.

## Training
{% if record %}
Method `{{ record.config.method }}`, seed {{ record.config.seed }}, {{ record.config.optimizer.epochs }} epochs.

<details><summary>All settings</summary>

```yaml
{{ settings }}
```

</details>
{%- else %}
Not recorded.
{%- endif %}

## Licence

See the head of this file. It follows from the backbone's weights and the training data; ifam itself is Apache-2.0.
"""
