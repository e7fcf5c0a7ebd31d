"""What is trained, with which losses and rates. The loop is the same for every method."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifam.config import OptimizerConfig, TrainingConfig
from ifam.data.batch import Batch
from ifam.data.given_masks import give_masks
from ifam.data.table import ImageTable
from ifam.data.transforms import IMAGE_ONLY
from ifam.errors import UsageError
from ifam.evaluate import predict_batch
from ifam.losses import functional
from ifam.losses.equivariance import RigidTransform
from ifam.losses.objective import OVER_BATCH, Terms, classification_term, stage1_terms
from ifam.model.backbone import Backbone
from ifam.model.base import Classifier
from ifam.model.classifier import PlainClassifier, TokenClassifier
from ifam.model.masked import MaskedClassifier
from ifam.model.parts import part_logits
from ifam.model.pixels import enlarge, foreground_margin
from ifam.model.two_stage import IFAM
from ifam.output import Output, PartDiscovery, Prediction
from ifam.training.backgrounds import BLANK, UNCHANGED, borrow_backgrounds, random_boxes

Stage = Literal[1, 2]
TUNED_BLOCKS = 2
"""of stage 1, where it is trained on borrowed backgrounds"""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters with one learning rate, which falls over the epochs of their stage."""

    name: str
    lr: float
    stage: Stage
    parameters: Sequence[nn.Parameter] = field(repr=False)


class Method(ABC):
    """One way of training a classifier.

    ``config`` is that of the run in which the loop trains; ``first_run``, where there is one, that of a run that has to
    come before.
    """

    first_run: TrainingConfig | None = None
    over_batch: frozenset[str] = frozenset()
    """terms that are no mean over images, and see all of a batch that several processes share"""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.class_weights: Tensor | None = None
        """(C,): mean over the training images 1; None where all images count alike"""

    @abstractmethod
    def build(self, class_names: Sequence[str]) -> Classifier:
        """The untrained model."""

    @abstractmethod
    def losses(self, model: Any, batch: Batch, epoch: int) -> Terms:
        """Loss terms of a batch by their names in `LossWeights`."""

    @abstractmethod
    def groups(self, model: Any) -> list[ParameterGroup]:
        """All parameters that may be trained; a rate of 0 freezes them."""

    def validation_losses(self, model: Any, batch: Batch, output: Prediction) -> Tensor:
        """Cross-entropy of each image (B,), for the choice of the epoch; ``output``: what the model says of them."""
        return F.cross_entropy(output.logits.float(), batch.labels, reduction="none")

    def prepare(self, table: ImageTable) -> ImageTable:
        """The data as this method uses it; refuses what it cannot use."""
        if self.config.class_balanced:
            self.class_weights = balancing_weights(list(table.select("train").class_counts().values()))
        return table

    def follow(self, first: Classifier, table: ImageTable) -> str:
        """Take from the model of the first run what the second needs; returns what there is to say about it."""
        return ""

    def draw_weights(self, table: ImageTable) -> Sequence[float] | None:
        """How often each training image is drawn; None: each once per epoch."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What changes while training beside the model and the optimizer, for the checkpoint."""
        return {}


class TwoStage(Method):
    """iFAM, and PDiscoFormer, which is its first stage alone."""

    over_batch = OVER_BATCH
    teacher: Backbone | None = None
    """where the transformer of stage 1 is trained: a copy of it as it began. What the copy finds in a photograph, stage
    1 learns to find before other backgrounds; all other losses read the copy."""

    def build(self, class_names: Sequence[str]) -> IFAM:
        """See `Method`."""
        model = self.config.model
        dropout = model.stage2_part_dropout
        if dropout is None:
            dropout = 0.3 if model.num_parts > 1 else 0.0
        built = IFAM(
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
            mask_noise=model.mask_noise,
            dropped_parts=model.dropped_parts,
            temperature=model.temperature,
            evidence=model.evidence if self.config.method == "ifam" else "patches",
        )
        self.take_teacher(built)
        return built

    def take_teacher(self, model: IFAM) -> None:
        """Keep the transformer of stage 1 as it is now, where training changes it."""
        if self.config.tunes_stage1:
            self.teacher = copy.deepcopy(model.stage1).requires_grad_(False)

    def losses(self, model: IFAM, batch: Batch, epoch: int) -> Terms:
        """Stage-1 terms unless stage 1 is frozen; the stage-2 term once stage 2 has begun."""
        images, labels, share = batch.images, batch.labels, batch.share
        weights, optimizer = self.config.losses, self.config.optimizer
        stage2_alone = optimizer.freeze_stage1 and epoch >= optimizer.stage1_epochs
        teacher = None if stage2_alone or self.teacher is None else self.teacher.to(images.device)
        with torch.set_grad_enabled(not stage2_alone):
            discovery = model.find_parts(model.encode(images, teacher), share)
        terms: Terms = {}
        if not stage2_alone:
            maps_back = self._maps_back(model, batch, discovery)
            terms = stage1_terms(discovery, labels, maps_back, weights, share, self.class_weights)
            terms |= self._invariance(model, batch, discovery)
        if model.stage2 is not None and epoch >= optimizer.stage1_epochs:
            selection = model.select(discovery, share=share)
            if self.config.borrows_in(2):
                inside = model.object_pixels(selection, (images.shape[2], images.shape[3]))
                blank = BLANK if model.evidence == "pixels" else 0.0
                images = borrow_backgrounds(images, inside, share, blank=blank)
            logits = model.second_stage(images, selection)
            terms["stage2"] = classification_term(logits, labels, self.class_weights)
        return terms

    def validation_losses(self, model: IFAM, batch: Batch, output: Prediction) -> Tensor:
        """Before the backgrounds of other images, the mask held: what surrounds the object is of no help then."""
        if model.stage2 is None or not isinstance(output, Output):
            return super().validation_losses(model, batch, output)
        images = borrow_backgrounds(batch.images, _inside_outline(model, output, batch.images), batch.share)
        logits = model.classify(images, output.mask)
        return super().validation_losses(model, batch, Prediction(logits=logits))

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
        if self.config.tunes_stage1:
            last = [p for layer in (*vit.blocks[-TUNED_BLOCKS:], vit.norm, vit.fc_norm) for p in layer.parameters()]
            groups.append(ParameterGroup(name="stage1_blocks", lr=rates.lr_stage1, stage=1, parameters=last))
        return groups if model.stage2 is None else groups + _token_classifier_groups(model.stage2, rates)

    def _maps_back(self, model: IFAM, batch: Batch, discovery: PartDiscovery) -> Tensor | None:
        """Part maps of a transformed view, before another background if asked, moved back: stage 1 only."""
        if self.config.losses.equivariance == 0:
            return None
        images = batch.images
        if self.config.borrows_in(1) and self.teacher is None:
            images = borrow_backgrounds(images, _inside_outline(model, discovery, images), batch.share)
        transform = RigidTransform.draw()
        tokens = model.encode(transform.apply(images), self.teacher)
        return transform.undo(model.find_parts(tokens, batch.share).part_maps)

    def _invariance(self, model: IFAM, batch: Batch, discovery: PartDiscovery) -> Terms:
        """What trains the transformer of stage 1: it alone, since prototypes could call everything background."""
        if self.teacher is None:
            return {}
        inside = _inside_outline(model, discovery, batch.images)
        images = borrow_backgrounds(batch.images, inside, batch.share, unchanged=UNCHANGED)
        logits = part_logits(model.encode(images), model.prototypes.detach())
        return {"background_invariance": functional.background_invariance(logits, discovery.part_logits)}


def _inside_outline(model: IFAM, discovery: PartDiscovery, images: Tensor) -> Tensor:
    """The pixels (B, H, W) bool of the object, no part left out."""
    margin = foreground_margin(discovery.part_logits.detach())
    return enlarge(margin, model.stage1.patch_size, (images.shape[2], images.shape[3])) > 0


class PlainFineTuning(Method):
    """Empirical risk minimisation of one network on whole images."""

    def build(self, class_names: Sequence[str]) -> Classifier:
        """See `Method`."""
        model = self.config.model
        return PlainClassifier(
            model.backbone,
            num_classes=len(class_names),
            pretrained=model.pretrained,
            class_names=class_names,
            readout=model.readout,
        )

    def losses(self, model: Any, batch: Batch, epoch: int) -> Terms:
        """Cross-entropy, under the name of the term that it corresponds to, before other backgrounds if asked."""
        if self.config.borrowed_backgrounds != "none":
            inside = self._inside(batch)
            blank = BLANK if getattr(model, "evidence", "patches") == "pixels" else 0.0
            batch = replace(batch, images=borrow_backgrounds(batch.images, inside, batch.share, blank=blank))
        return {"stage2": classification_term(predict_batch(model, batch).logits, batch.labels, self.class_weights)}

    def _inside(self, batch: Batch) -> Tensor:
        """What of each image stays (B, H, W) bool: without any mask a box at random."""
        return random_boxes(batch.images, batch.share)

    def groups(self, model: Any) -> list[ParameterGroup]:
        """See `Method`."""
        return _token_classifier_groups(model.classifier, self.config.optimizer)


class GivenMasks(PlainFineTuning):
    """Early or late masking with masks from elsewhere: annotated ones, boxes, files or TokenCut."""

    def build(self, class_names: Sequence[str]) -> Classifier:
        """See `Method`."""
        model = self.config.model
        return MaskedClassifier(
            model.backbone,
            num_classes=len(class_names),
            masking="early" if self.config.method == "early_mask" else "late",
            masks=model.masks,
            coverage=model.mask_coverage,
            tokencut_features=model.tokencut_features,
            tokencut_threshold=model.tokencut_threshold,
            evidence=model.evidence if self.config.method == "early_mask" else "patches",
            pretrained=model.pretrained,
            class_names=class_names,
        )

    def validation_losses(self, model: Any, batch: Batch, output: Prediction) -> Tensor:
        """Before the backgrounds of other images where the mask is given in pixels."""
        if batch.given_masks is not None:
            images = borrow_backgrounds(batch.images, batch.given_masks, batch.share)
            output = model(images, model.token_mask(batch.given_masks))
        return super().validation_losses(model, batch, output)

    def _inside(self, batch: Batch) -> Tensor:
        """The mask that was given; of TokenCut's, in patches, a box as without any mask."""
        return super()._inside(batch) if batch.given_masks is None else batch.given_masks

    def prepare(self, table: ImageTable) -> ImageTable:
        """With a given mask for each image of training and validation."""
        if self.config.model.masks != "tokencut" and self.config.augmentation in IMAGE_ONLY:
            raise UsageError(
                f"augmentation: expected one that moves masks along, got {self.config.augmentation}; use birds or light"
            )
        return give_masks(super().prepare(table), self.config.model.masks, ("train", "val"))


def balancing_weights(counts: Sequence[int]) -> Tensor:
    """N / (C · n) for each of C classes with n of the N images: (C,); 0 for a class without any."""
    numbers = torch.tensor(counts, dtype=torch.float64)
    present = numbers > 0
    weights = numbers.sum() / (present.sum() * numbers.clamp_min(1))
    return torch.where(present, weights, 0.0).float()


def _token_classifier_groups(classifier: TokenClassifier, rates: OptimizerConfig) -> list[ParameterGroup]:
    heads = [*classifier.norm.parameters(), *classifier.head.parameters()]
    return [
        ParameterGroup(name="stage2", lr=rates.lr_stage2, stage=2, parameters=list(classifier.backbone.parameters())),
        ParameterGroup(name="stage2_heads", lr=rates.lr_heads, stage=2, parameters=heads),
    ]
