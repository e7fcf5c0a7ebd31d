"""Retraining on block images: a digit that matters beside a block that does not. Shapes: N images, h×w token grid.

After "Do Input Gradients Highlight Discriminative Features?" (Shah, Jain and Netrapalli, NeurIPS 2021; DiffROAR and
BlockMNIST), with the digits of scikit-learn: small enough for a CPU, and no pretrained weights. A
map is right if a classifier that is trained anew on the tokens that it ranks highest does better than on those that it
ranks lowest, and if nothing of it lies on the block that is the same in every image.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ifam.benchmarks.faithfulness.explained import Explained
from ifam.benchmarks.faithfulness.explainers import Explainer
from ifam.config import LossWeights, OptimizerConfig, TrainingConfig
from ifam.data.batch import Batch
from ifam.losses.objective import total_loss
from ifam.metrics.faithfulness import share_inside, top_tokens
from ifam.model.backbone import pixels_of
from ifam.model.base import Classifier
from ifam.model.classifier import PlainClassifier
from ifam.model.pixels import only
from ifam.model.two_stage import IFAM
from ifam.training.methods import ParameterGroup, PlainFineTuning, TwoStage
from ifam.training.optim import freeze_rest, make_optimizer

SIDE, PATCH, CLASSES = 8, 2, 10
UNMASKED = 0.25
"""share of the tokens that is left to the classifier trained anew"""
BATCH = 64
RATE, STAGE2_RATE = 1e-3, 3e-4

Model = TypeVar("Model", bound=Classifier)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Images (N, 3, 8, 16) of which one half is a digit, from −1 to 1."""

    images: Tensor
    labels: Tensor
    digits: Tensor
    """(N, h, w) bool: the tokens of the half with the digit"""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, place: slice) -> "Blocks":
        """Some of them."""
        return Blocks(images=self.images[place], labels=self.labels[place], digits=self.digits[place])

    def split(self) -> tuple["Blocks", "Blocks"]:
        """Two thirds to train on, and the rest to test."""
        first = 2 * len(self) // 3
        return self.select(slice(first)), self.select(slice(first, None))

    def pixels(self) -> Any:
        """As rows of an array."""
        return self.images[:, 0].flatten(1).numpy()

    def seen_through(self, masks: Tensor) -> "Blocks":
        """Only the tokens in ``masks`` (N, h, w) bool; the rest is mean grey."""
        images = only(self.images, pixels_of(masks, (PATCH, PATCH), (self.images.shape[2], self.images.shape[3])))
        return Blocks(images=images, labels=self.labels, digits=self.digits)


def draw_blocks(seed: int) -> Blocks:
    """The 1,797 digits in an order of this seed, each left or right of a square ring, which says nothing."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(found.target), generator=generator)
    digits = torch.tensor(found.images, dtype=torch.float32)[order] / 8 - 1
    ring = torch.full((SIDE, SIDE), -1.0)
    ring[1:-1, 1:-1] = 1.0
    ring[3:-3, 3:-3] = -1.0
    rings = ring.expand_as(digits)
    left = torch.rand(len(digits), generator=generator) < 0.5
    halves = torch.where(left[:, None, None, None], _beside(digits, rings), _beside(rings, digits))
    tokens = SIDE // PATCH
    inside = (torch.arange(2 * tokens) < tokens).expand(len(digits), tokens, -1)
    return Blocks(
        images=halves.expand(-1, 3, -1, -1).contiguous(),
        labels=torch.tensor(found.target)[order],
        digits=torch.where(left[:, None, None], inside, ~inside),
    )


def _beside(left: Tensor, right: Tensor) -> Tensor:
    both = torch.cat([left, right], dim=-1)
    return both.view(-1, 1, SIDE, 2 * SIDE)


def tiny_vit() -> VisionTransformer:
    """Of random weights, for these images."""
    return VisionTransformer(
        img_size=(SIDE, 2 * SIDE), patch_size=PATCH, embed_dim=48, depth=2, num_heads=3, num_classes=0
    )


def train_plain(blocks: Blocks, seed: int, epochs: int) -> PlainClassifier:
    """A tiny transformer from random weights."""
    torch.manual_seed(seed)
    model = PlainClassifier(tiny_vit(), num_classes=CLASSES, image_size=(SIDE, 2 * SIDE))
    config = TrainingConfig(method="erm", optimizer=_rates(epochs), seed=seed)
    return _fit(model, PlainFineTuning(config), blocks)


def train_ifam(blocks: Blocks, plain: PlainClassifier, seed: int, epochs: int) -> IFAM:
    """iFAM with one part: stage 1 of one block from random weights, stage 2 from where ``plain`` ended.

    There are no pretrained tokens here in which an object could be found; and in those of ``plain`` it cannot, since
    after two blocks the tokens of the ring have read the digit. So stage 1 is trained as well, the mask by its
    gradient. The views of the equivariance loss would turn a 6 into a 9, so it has no weight.
    """
    torch.manual_seed(seed)
    model = IFAM(
        tiny_vit(),
        num_parts=1,
        num_classes=CLASSES,
        image_size=(SIDE, 2 * SIDE),
        mask_gradient="bounded",
        part_dropout=0.0,
        stage2_part_dropout=0.0,
    )
    assert model.stage2 is not None
    model.stage1.vit.blocks = model.stage1.vit.blocks[:1]
    model.stage2.load_state_dict(plain.classifier.state_dict())
    losses = LossWeights(equivariance=0.0)
    rates = replace(_rates(max(1, epochs // 3)), lr_stage2=STAGE2_RATE)
    return _fit(model, _WithStage1(TrainingConfig(method="ifam", losses=losses, optimizer=rates, seed=seed)), blocks)


class _WithStage1(TwoStage):
    """Elsewhere the transformer of stage 1 is pretrained, and stays as it is."""

    def groups(self, model: IFAM) -> list[ParameterGroup]:
        """With the whole transformer of stage 1."""
        groups = [group for group in super().groups(model) if group.name != "stage1_tokens"]
        return [*groups, ParameterGroup(name="stage1", lr=RATE, stage=1, parameters=list(model.stage1.parameters()))]


def _rates(epochs: int) -> OptimizerConfig:
    return OptimizerConfig(
        epochs=epochs, batch_size=BATCH, lr_stage2=RATE, lr_heads=5e-3, lr_prototypes=5e-3, lr_tokens=0.0, cosine="step"
    )


def _fit(model: Model, method: Any, blocks: Blocks) -> Model:
    """The losses, rates and schedule of `ifam.training`, on tensors in memory."""
    optimizer_config = method.config.optimizer
    freeze_rest(model, method.groups(model))
    steps = -(-len(blocks) // BATCH)
    optimizer, schedule = make_optimizer(model, method.groups(model), optimizer_config, steps)
    model.train()
    for epoch in range(optimizer_config.epochs):
        for chosen in torch.split(torch.randperm(len(blocks)), BATCH):
            batch = Batch(
                images=blocks.images[chosen], labels=blocks.labels[chosen], groups=chosen * 0 - 1, indices=chosen
            )
            optimizer.zero_grad()
            loss = total_loss(method.losses(model, batch, epoch), method.config.losses)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Classifier, blocks: Blocks) -> float:
    """Share of right answers."""
    logits: Tensor = model(blocks.images).logits
    return float((logits.argmax(1) == blocks.labels).double().mean())


@torch.no_grad()
def mask_on_digit(model: Classifier, blocks: Blocks) -> float:
    """Share of the tokens in the masks of iFAM that lie on the half with the digit."""
    seen = Explained(model, blocks.images).seen
    return int((seen & blocks.digits).sum()) / max(1, int(seen.sum()))


def maps_of(model: Classifier, explainer: Explainer, blocks: Blocks) -> Tensor:
    """(N, h, w), for what the model answers."""
    model.requires_grad_(False)
    found = []
    for images in torch.split(blocks.images, BATCH):
        explained = Explained(model, images)
        found.append(explainer.attribute(explained, images, explained.logits.argmax(1)).float())
    return torch.cat(found)


def accuracy_anew(train: Blocks, test: Blocks, seed: int) -> float:
    """Of a classifier that is trained on nothing but these pixels: a perceptron, which learns them in a second."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    perceptron: Any = MLPClassifier
    network = perceptron((64,), max_iter=40, batch_size=BATCH, learning_rate_init=3e-3, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():  # threads would take ten times as long
        warnings.simplefilter("ignore", ConvergenceWarning)  # the same number of epochs for every map
        network.fit(train.pixels(), train.labels.numpy())
    return float(network.score(test.pixels(), test.labels.numpy()))


def measure_blocks(model: Classifier, explainer: Explainer, blocks: Blocks, seed: int) -> Mapping[str, float]:
    """Accuracy trained anew on the tokens that a map ranks highest and lowest, and the share of it beside the digit."""
    maps = maps_of(model, explainer, blocks).abs()  # of signed maps either sign says that a token matters
    counts = torch.full((len(blocks),), round(UNMASKED * maps[0].numel()))
    found = {}
    for name, ranked in (("top", maps), ("bottom", -maps)):
        train, test = blocks.seen_through(top_tokens(ranked, counts)).split()
        found[name] = accuracy_anew(train, test, seed)
    shares = share_inside(maps, ~blocks.digits)[-len(test) :]
    return {**found, "difference": found["top"] - found["bottom"], "null_share": float(shares.mean())}
