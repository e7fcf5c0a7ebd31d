"""Image classifiers that see only the parts they name: inherently faithful attention maps (arXiv 2506.08915).

>>> import ifam
>>> model = ifam.IFAM("vit_tiny_patch16_224", num_parts=4, num_classes=2, image_size=64, pretrained=False)
>>> model.num_parts
4
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ifam.errors import CheckpointError, DataError, ExportError, HubError, IfamError, TrainingError, UsageError
    from ifam.explanations.explanation import Explanation, explain
    from ifam.exporting.export import export
    from ifam.hub import push_to_hub
    from ifam.model.classifier import PlainClassifier
    from ifam.model.reference import load_reference
    from ifam.model.two_stage import IFAM
    from ifam.output import Output
    from ifam.preprocessing import Preprocessing
    from ifam.storage import load, save

__version__ = "0.1.0"

_HOMES = {
    "IFAM": "ifam.model.two_stage",
    "PlainClassifier": "ifam.model.classifier",
    "load": "ifam.storage",
    "save": "ifam.storage",
    "load_reference": "ifam.model.reference",
    "export": "ifam.exporting.export",
    "push_to_hub": "ifam.hub",
    "explain": "ifam.explanations.explanation",
    "Explanation": "ifam.explanations.explanation",
    "Output": "ifam.output",
    "Preprocessing": "ifam.preprocessing",
    "IfamError": "ifam.errors",
    "UsageError": "ifam.errors",
    "DataError": "ifam.errors",
    "CheckpointError": "ifam.errors",
    "TrainingError": "ifam.errors",
    "ExportError": "ifam.errors",
    "HubError": "ifam.errors",
}

__all__ = [  # noqa: RUF022 - the model first
    "IFAM",
    "load",
    "save",
    "load_reference",
    "explain",
    "export",
    "push_to_hub",
    "Output",
    "Explanation",
    "PlainClassifier",
    "Preprocessing",
    "IfamError",
    "UsageError",
    "DataError",
    "CheckpointError",
    "TrainingError",
    "ExportError",
    "HubError",
]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line answers before torch is loaded."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ifam' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
