"""The authors' model, imported from the user's checkout of their code, with the weights of ours: to compare with."""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ifam.errors import DataError
from ifam.model.linear import hand_back
from ifam.model.reference import RENAMED
from ifam.model.two_stage import IFAM

MODEL = "models/two_stage_double_classification.py"
PACKAGES = ("models", "layers", "utils", "losses")
UNUSED = ("skimage", "albumentations", "colorcet", "pycocotools", "transformers", "wandb")
"""what their packages import beside, and this comparison does without"""


class Checkout:
    """A checkout of the authors' code.

    Raises:
        DataError: the folder is not one.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / MODEL).is_file():
            raise DataError(f"{folder}: expected a checkout of the authors' code, found no {MODEL}; choose its root")
        with _importable(folder.resolve()):
            self.models = importlib.import_module("models")
            self.losses = importlib.import_module("losses")
            self.transforms = importlib.import_module("utils.data_utils.reversible_affine_transform")

    def with_weights_of(self, model: IFAM) -> nn.Module:
        """Their two-stage model with the architecture and weights of ``model``."""
        assert model.stage2 is not None
        theirs: nn.Module = self.models.FullTwoStageModelDoubleClassify(
            hand_back(copy.deepcopy(model.stage1.vit)),
            hand_back(copy.deepcopy(model.stage2.backbone.vit)),
            num_landmarks=model.num_parts,
            num_classes=model.num_classes,
            part_dropout=model.part_dropout,
            part_dropout_stage_2=model.stage2_part_dropout,
        )
        state, parameters = model.state_dict(), dict(theirs.named_parameters())
        with torch.no_grad():
            for name, ours in RENAMED.items():
                parameters[name].copy_(state[ours].view_as(parameters[name]))
        return theirs.to(model.prototypes.device).train(model.training)

    def training_loss(self) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
        """The work of their training loop up to the loss: both stages on the images and on their transformed view.

        Their own loss functions, with the weights of their defaults.
        """
        enforced = self.losses.EnforcedPresenceLoss(loss_type="enforced_presence")
        presence = self.losses.PresenceLoss(beta=0.1, loss_type="original")
        variation = self.losses.TotalVariationLoss(reduction="mean")

        def loss(model: Any, images: Tensor, labels: Tensor) -> Tensor:
            logits, maps, _, features, scores, _ = model(images)
            angle, translation, scale, _ = self.transforms.generate_affine_trans_params(
                degrees=[-90, 90],
                translate=[0.11, 0.11],
                scale_ranges=[0.8, 1.4],
                shears=None,
                img_size=list(images.shape[2:]),
            )
            view = self.transforms.rigid_transform(
                img=images, angle=angle, translate=translation, scale=scale, shear=0.0, invert=False
            )
            maps_of_view = model(view)[1]
            total: Tensor = (
                nn.functional.cross_entropy(logits, labels)
                + nn.functional.cross_entropy(scores.mean(-1), labels)
                + variation(maps)
                + presence(maps=maps[:, :-1])
                + self.losses.orthogonality_loss(features.permute(0, 2, 1).contiguous())
                + self.losses.equivariance_loss(
                    maps, maps_of_view, images, model.num_landmarks, translation, angle, scale, shear=0.0
                )
                + 2 * enforced(maps)
                + self.losses.pixel_wise_entropy_loss(maps)
            )
            return total

        return loss


@contextmanager
def fixed_mask(theirs: Any, mask: Tensor) -> Iterator[None]:
    """Their stage 2 sees ``mask`` (B, h, w) bool, whatever their stage 1, which runs as ever, selects."""

    def replaced(module: nn.Module, inputs: Any, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hard = torch.stack([mask, ~mask], dim=1).to(outputs[1].dtype)
        return (*outputs[:2], (hard, hard), *outputs[3:])

    hook = theirs.stage_1.register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Their packages by their names, from the checkout; what they import and is not installed is empty."""
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in PACKAGES}
    for name in ours:
        del sys.modules[name]
    finder = _Absent()  # asked last: what is installed is found before
    sys.path.insert(0, str(folder))
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in PACKAGES or isinstance(module, _Empty):
                del sys.modules[name]
        sys.modules.update(ours)


class _Absent(MetaPathFinder, Loader):
    """Finds the packages of `UNUSED` that are not installed: modules whose every name is an empty class."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})
