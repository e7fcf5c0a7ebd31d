"""What is trained, with which losses and rates. The loop is the same for every method."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ifam.config import LossWeights, OptimizerConfig, TrainingConfig
from ifam.errors import UsageError
from ifam.losses.equivariance import RigidTransform
from ifam.losses.objective import Terms, classification_term, stage1_terms
from ifam.model.base import Classifier
from ifam.model.classifier import PlainClassifier, TokenClassifier
from ifam.model.two_stage import IFAM
from ifam.output import PartDiscovery

Stage = Literal[1, 2]


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters with one learning rate, which falls over the epochs of their stage."""

    name: str
    lr: float
    stage: Stage
    parameters: Sequence[nn.Parameter] = field(repr=False)


class Method(Protocol):
    """One way of training a classifier."""

    @property
    def config(self) -> TrainingConfig:
        """The whole run's."""

    def build(self, class_names: Sequence[str]) -> Classifier:
        """The untrained model."""

    def losses(self, model: Any, images: Tensor, labels: Tensor, epoch: int) -> Terms:
        """Loss terms of a batch by their names in `LossWeights`."""

    def groups(self, model: Any) -> list[ParameterGroup]:
        """All parameters that may be trained; a rate of 0 freezes them."""


@dataclass(frozen=True)
class TwoStage:
    """iFAM, and PDiscoFormer, which is its first stage alone."""

    config: TrainingConfig

    def build(self, class_names: Sequence[str]) -> IFAM:
        """See `Method`."""
        model = self.config.model
        dropout = model.stage2_part_dropout
        if dropout is None:
            dropout = 0.3 if model.num_parts > 1 else 0.0
        return IFAM(
            model.backbone,
            num_parts=model.num_parts,
            num_classes=len(class_names),
            pretrained=model.pretrained,
            class_names=class_names,
            mask_gradient=model.mask_gradient,
            soft_masks=model.soft_masks,
            second_stage=self.config.method == "ifam",
            part_dropout=model.part_dropout,
            stage2_part_dropout=dropout,
            temperature=model.temperature,
        )

    def losses(self, model: IFAM, images: Tensor, labels: Tensor, epoch: int) -> Terms:
        """Stage-1 terms unless stage 1 is frozen; the stage-2 term once stage 2 has begun."""
        weights, optimizer = self.config.losses, self.config.optimizer
        stage2_alone = optimizer.freeze_stage1 and epoch >= optimizer.stage1_epochs
        with torch.set_grad_enabled(not stage2_alone):
            discovery = model.discover(images)
        terms = (
            {} if stage2_alone else stage1_terms(discovery, labels, self._maps_back(model, images, weights), weights)
        )
        if model.stage2 is not None and epoch >= optimizer.stage1_epochs:
            terms["stage2"] = classification_term(model.second_stage(images, model.select(discovery)), labels)
        return terms

    def groups(self, model: IFAM) -> list[ParameterGroup]:
        """See `Method`."""
        rates = self.config.optimizer
        vit = model.stage1.vit
        tokens = [p for p in (vit.cls_token, vit.reg_token, vit.pos_embed) if p is not None]
        stage1_heads = [*model.modulation.parameters(), *model.part_classifier.parameters()]
        groups = [
            ParameterGroup(name="prototypes", lr=rates.lr_prototypes, stage=1, parameters=[model.prototypes]),
            ParameterGroup(name="stage1_heads", lr=rates.lr_heads, stage=1, parameters=stage1_heads),
            ParameterGroup(name="stage1_tokens", lr=rates.lr_tokens, stage=1, parameters=tokens),
        ]
        return groups if model.stage2 is None else groups + _token_classifier_groups(model.stage2, rates)

    @staticmethod
    def _maps_back(model: IFAM, images: Tensor, weights: LossWeights) -> Tensor | None:
        """Part maps of a transformed view, moved back: stage 1 only."""
        if weights.equivariance == 0:
            return None
        transform = RigidTransform.draw()
        view: PartDiscovery = model.discover(transform.apply(images))
        return transform.undo(view.part_maps)


@dataclass(frozen=True)
class PlainFineTuning:
    """Empirical risk minimisation of one transformer on whole images."""

    config: TrainingConfig

    def build(self, class_names: Sequence[str]) -> PlainClassifier:
        """See `Method`."""
        model = self.config.model
        return PlainClassifier(
            model.backbone,
            num_classes=len(class_names),
            pretrained=model.pretrained,
            class_names=class_names,
        )

    def losses(self, model: PlainClassifier, images: Tensor, labels: Tensor, epoch: int) -> Terms:
        """Cross-entropy, under the name of the term that it corresponds to."""
        return {"stage2": classification_term(model(images).logits, labels)}

    def groups(self, model: PlainClassifier) -> list[ParameterGroup]:
        """See `Method`."""
        return _token_classifier_groups(model.classifier, self.config.optimizer)


def make_method(config: TrainingConfig) -> Method:
    """The method that the configuration names.

    Raises:
        UsageError: stage 2 would never be trained, or a gradient is asked for that nothing receives.
    """
    optimizer = config.optimizer
    if config.method == "ifam":
        if optimizer.stage1_epochs == optimizer.epochs:
            raise UsageError(
                f"optimizer.stage1_epochs: expected less than {optimizer.epochs} (all epochs), so that stage 2 is "
                f"trained too, got {optimizer.stage1_epochs}"
            )
        if optimizer.freeze_stage1 and config.model.mask_gradient != "cut":
            raise UsageError(
                "model.mask_gradient: expected cut while optimizer.freeze_stage1 is set, since no gradient reaches a "
                f"frozen stage 1, got {config.model.mask_gradient}; add --set optimizer.freeze_stage1=false"
            )
        return TwoStage(config)
    config = replace(config, optimizer=replace(optimizer, stage1_epochs=0, freeze_stage1=False))  # there is one stage
    return PlainFineTuning(config) if config.method == "erm" else TwoStage(config)


def _token_classifier_groups(classifier: TokenClassifier, rates: OptimizerConfig) -> list[ParameterGroup]:
    heads = [*classifier.norm.parameters(), *classifier.head.parameters()]
    return [
        ParameterGroup(name="stage2", lr=rates.lr_stage2, stage=2, parameters=list(classifier.backbone.parameters())),
        ParameterGroup(name="stage2_heads", lr=rates.lr_heads, stage=2, parameters=heads),
    ]
