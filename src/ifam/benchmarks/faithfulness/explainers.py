"""Every way to make a map, by name. One verb: ``attribute(explained, images, targets)`` gives (B, h, w).

captum and pytorch-grad-cam where they have the method, `ifam.benchmarks.faithfulness.propagation` where neither has.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ifam.benchmarks.faithfulness.explained import Explained
from ifam.benchmarks.faithfulness.propagation import packed_rollout, relevance
from ifam.errors import UsageError
from ifam.model.two_stage import IFAM

Attribute = Callable[[Explained, Tensor, Tensor], Tensor]

IG_STEPS = 6
OCCLUDED_PATCHES = 3
"""side of the window, which moves by its own side"""


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """One method, and what to say of it in a table."""

    title: str
    attribute: Attribute
    note: str = ""


def own_map(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """What iFAM says itself: by how much each token is nearer to a part than to the background, from the least up.

    The mask is where that is positive, so its tokens are the highest.
    """
    assert isinstance(explained.model, IFAM)
    with torch.no_grad():
        logits = explained.model.discover(images).part_logits
    margin = logits[:, :-1].amax(1) - logits[:, -1]
    return margin - margin.amin((1, 2), keepdim=True)


def chance(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """No map at all, for comparison."""
    return torch.rand(explained.seen.shape, generator=torch.Generator().manual_seed(0)).to(images)


def saliency(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """Absolute gradient."""
    from captum.attr import Saliency

    return explained.per_patch(Saliency(explained).attribute(_leaf(images), target=targets))


def input_x_gradient(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """Signed."""
    from captum.attr import InputXGradient

    return explained.per_patch(InputXGradient(explained).attribute(_leaf(images), target=targets).detach())


def integrated_gradients(explained: Explained, images: Tensor, targets: Tensor, steps: int = IG_STEPS) -> Tensor:
    """Signed, on the way from the mean colour of the training images."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(explained)
    return explained.per_patch(method.attribute(_leaf(images), target=targets, n_steps=steps).detach())


def guided_backpropagation(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """Gradient of which negative parts are cut at every activation.

    captum knows ReLUs only, of which these transformers have none: their activations are made to look like ones.
    """
    from captum.attr import GuidedBackprop

    with activations_as_relu(explained), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that hooks are set, and removed
        found = GuidedBackprop(explained).attribute(_leaf(images), target=targets)
    return explained.per_patch(found.abs())


def grad_cam(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """At the input of the last attention, which is the last layer whose patch tokens reach the class token."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    layers = [explained.backbone.last_features]
    with GradCAM(explained, target_layers=layers, reshape_transform=explained.on_grid) as method:
        cam = torch.from_numpy(method(_leaf(images), wanted)).to(images)
    return explained.per_patch(cam[:, None])


def occlusion(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """How much the score falls when a window turns to the mean colour, in the whole model: the mask is chosen anew."""
    from captum.attr import Occlusion

    height, width = (OCCLUDED_PATCHES * side for side in explained.backbone.patch_size)
    with torch.no_grad():
        found = Occlusion(explained.anew).attribute(
            images,
            target=targets,
            sliding_window_shapes=(images.shape[1], height, width),
            strides=(images.shape[1], height, width),
        )
    return explained.per_patch(found)


def attention_rollout(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """The same for every class."""
    return explained.on_grid(packed_rollout(explained, images))[:, 0]


def layerwise_relevance(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """Signed."""
    return explained.on_grid(relevance(explained, _leaf(images), targets).detach().sum(-1, keepdim=True))[:, 0]


OWN = "ifam"
EXPLAINERS: Mapping[str, Explainer] = {
    OWN: Explainer(title="iFAM's own map", attribute=own_map),
    "grad-cam": Explainer(title="Grad-CAM", attribute=grad_cam, note="pytorch-grad-cam, input of the last attention"),
    "guided-backprop": Explainer(
        title="guided backpropagation",
        attribute=guided_backpropagation,
        note="captum; the rule for ReLU applied to GELU, since without it it is the gradient",
    ),
    "saliency": Explainer(title="saliency", attribute=saliency, note="captum; absolute gradient"),
    "input-x-gradient": Explainer(title="input × gradient", attribute=input_x_gradient, note="captum; signed"),
    "integrated-gradients": Explainer(
        title="integrated gradients",
        attribute=integrated_gradients,
        note=f"captum; signed, {IG_STEPS} steps from the mean colour",
    ),
    "occlusion": Explainer(
        title="occlusion",
        attribute=occlusion,
        note=f"captum; windows of {OCCLUDED_PATCHES} × {OCCLUDED_PATCHES} patches side by side, mean colour",
    ),
    "rollout": Explainer(
        title="attention rollout", attribute=attention_rollout, note="ours, after Abnar and Zuidema (2020)"
    ),
    "lrp": Explainer(
        title="relevance propagation (LRP)", attribute=layerwise_relevance, note="ours, after Ali et al. (2022); signed"
    ),
    "chance": Explainer(title="chance", attribute=chance, note="random numbers, the same for every model"),
}


def check_installed() -> None:
    """Refuse to start without the libraries of the extra.

    Raises:
        UsageError: one is missing.
    """
    for module in ("captum", "pytorch_grad_cam"):
        if find_spec(module) is None:
            raise UsageError(f"faithfulness: expected {module} to be installed, it is not; pip install 'ifam[explain]'")


def deep_lift_gap(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """By what share captum's DeepLIFT misses the difference of logits that it has to explain, (B,).

    Its rules are of single activations such as ReLU. Attention (a product of functions of the input), LayerNorm and
    GELU have none there and pass plain gradients on, so in a transformer it is gradient × (input − baseline).
    """
    from captum.attr import DeepLift

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that hooks are set, and removed
        found = DeepLift(explained).attribute(_leaf(images), target=targets).detach()
    with torch.no_grad():
        difference = explained(images) - explained(torch.zeros_like(images))
    difference = difference.gather(1, targets[:, None])[:, 0].double()
    gap: Tensor = (found.double().sum((1, 2, 3)) - difference).abs() / difference.abs()
    return gap


@contextmanager
def activations_as_relu(explained: Explained) -> Iterator[None]:
    """Inside the block captum takes every activation of the transformer for a ReLU; each does the same as ever."""
    layers = [block.mlp for block in explained.backbone.vit.blocks]
    before = [layer.act for layer in layers]
    for layer in layers:
        layer.act = _LooksLikeReLU(layer.act)
    try:
        yield
    finally:
        for layer, activation in zip(layers, before, strict=True):
            layer.act = activation


class _LooksLikeReLU(nn.ReLU):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, value: Tensor) -> Tensor:
        """What the activation does."""
        activated: Tensor = self.activation(value)
        return activated


def _leaf(images: Tensor) -> Tensor:
    return images.detach().clone().requires_grad_()
