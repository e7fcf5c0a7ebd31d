"""The two-stage model. Shapes: B images, h×w token grid, D width, K foreground parts, C classes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ifam.config import DroppedParts, Evidence, MaskGradient
from ifam.errors import UsageError
from ifam.model import mask as masking
from ifam.model import parts as part_maths
from ifam.model import pixels as pixel_maths
from ifam.model.backbone import Backbone, pixels_of
from ifam.model.base import BackboneSpec, Classifier, at_least, check_evidence, check_mask, check_pixels
from ifam.model.classifier import TokenClassifier, bias_free_linear
from ifam.model.precision import float32_on_cpu
from ifam.output import EncodedDiscovery, Output, PartDiscovery, Selection
from ifam.preprocessing import Preprocessing
from ifam.processes import WHOLE, Share


class IFAM(Classifier):
    """Stage 1 discovers object parts from image labels; stage 2 classifies from the selected tokens only.

    Args:
        backbone: a timm model name, a timm ``VisionTransformer`` (each stage gets its own copy), the path of a
            ``.safetensors`` file whose metadata names the architecture, or of a ``.json`` file with the arguments of
            timm's ``VisionTransformer`` (random weights).
        num_parts: K, foreground parts.
        num_classes: C; 2 or more.
        image_size: height and width in pixels for which position embeddings are stored; the backbone's own if None.
            Images of any other size work too.
        pretrained: load the backbone's pretrained weights (downloaded by timm for a name, read from a file's path).
        class_names: C names, saved with the model; "0", "1", … if None.
        preprocessing: of test images, saved with the model; the backbone's normalisation at ``image_size`` if None.
        mask_gradient: "exact" sends the gradient of the stage-2 loss through the mask to stage 1; "bounded" does with
            the influence of each unselected token limited; "cut" does not.
        soft_masks: the paper's ablation: stage 2 sees every token, weighted; gives up every guarantee.
        second_stage: without it the model is PDiscoFormer, whose prediction is that of stage 1 (late masking).
        part_dropout: probability with which stage 1 loses a part in training.
        stage2_part_dropout: probability with which stage 2 loses a part in training.
        mask_noise: how large the Gumbel noise is that the masks of stage 2 have of their own in training; 1: as
            published, 0: none.
        dropped_parts: "removed": tokens of a part that stage 2 loses leave its input; "reassigned": they fall to their
            next part, as in the published code.
        temperature: τ of the softmax over parts.
        evidence: "patches": stage 2 reads all of the selected patches; "pixels": at test time, of these only what lies
            inside the outline of the parts, so that no background is read at the border of the object either.

    Raises:
        UsageError: an argument is out of range, or the backbone unknown or unfit.
        CheckpointError: a weights file is missing, damaged or of another architecture.

    Example:
        >>> import ifam, torch
        >>> model = ifam.IFAM("vit_tiny_patch16_224", num_parts=4, num_classes=2, image_size=64, pretrained=False)
        >>> out = model.eval()(torch.zeros(1, 3, 64, 64))
        >>> tuple(out.part_maps.shape), tuple(out.mask.shape)
        ((1, 5, 4, 4), (1, 4, 4))
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        num_parts: int = 8,
        num_classes: int = 200,
        image_size: int | tuple[int, int] | None = None,
        *,
        pretrained: bool = True,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        mask_gradient: MaskGradient = "cut",
        soft_masks: bool = False,
        second_stage: bool = True,
        part_dropout: float = 0.3,
        stage2_part_dropout: float = 0.3,
        mask_noise: float = 1.0,
        dropped_parts: DroppedParts = "removed",
        temperature: float = 1.0,
        evidence: Evidence = "patches",
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            image_size,
            pretrained=pretrained,
            class_names=class_names,
            preprocessing=preprocessing,
        )
        at_least("num_parts", num_parts, 1)
        _check_probability("part_dropout", part_dropout)
        _check_probability("stage2_part_dropout", stage2_part_dropout)
        if mask_gradient not in get_args(MaskGradient):
            raise UsageError(f"mask_gradient: expected exact, bounded or cut, got {mask_gradient!r}")
        if dropped_parts not in get_args(DroppedParts):
            raise UsageError(f"dropped_parts: expected removed or reassigned, got {dropped_parts!r}")
        if not 0 < temperature < math.inf:
            raise UsageError(f"temperature: expected a positive number, got {temperature}")
        if not 0 <= mask_noise < math.inf:
            raise UsageError(f"mask_noise: expected a number of at least 0, got {mask_noise}")
        check_evidence(evidence)
        if evidence == "pixels" and soft_masks:
            raise UsageError("evidence: expected patches with soft masks, in which every pixel counts, got pixels")
        self.num_parts = num_parts
        self.mask_gradient, self.soft_masks, self.temperature = mask_gradient, soft_masks, float(temperature)
        self.part_dropout, self.stage2_part_dropout = part_dropout, stage2_part_dropout
        self.mask_noise, self.dropped_parts, self.evidence = float(mask_noise), dropped_parts, evidence
        self.token_thresholds: dict[float, list[float]] = {}
        """Squared distances, one per foreground part, by quantile; see ``ifam calibrate``."""

        self.stage1 = self.take_backbone(last=not second_stage)
        width = self.stage1.width
        self.prototypes = nn.Parameter(torch.empty(num_parts + 1, width).uniform_(-(width**-0.5), width**-0.5))
        self.modulation = nn.LayerNorm((width, num_parts + 1), eps=1e-5)
        self.part_classifier = bias_free_linear(width, num_classes)
        self.stage2 = TokenClassifier(self.take_backbone(last=True), num_classes) if second_stage else None

    def forward(
        self,
        images: Tensor,
        remove_parts: Sequence[int] = (),
        token_quantile: float | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """Classify images and say from which tokens.

        Args:
            images: (B, 3, H, W) float, normalised as ``preprocessing`` says.
            remove_parts: foreground parts whose tokens become background.
            token_quantile: tokens further from their prototype than this calibrated quantile become background.
            mask: (B, h, w) bool, replaces the model's own selection.

        Raises:
            UsageError: an argument of the wrong shape, type or range, or a quantile that was not calibrated.
        """
        discovery = self.discover(images)
        return self.answer(images, discovery, remove_parts=remove_parts, token_quantile=token_quantile, mask=mask)

    def answer(
        self,
        images: Tensor,
        discovery: EncodedDiscovery,
        *,
        remove_parts: Sequence[int] = (),
        token_quantile: float | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """What the model says with some of it switched off; stage 1, whose ``discovery`` this is, does not run again.

        Arguments and errors: see `forward`.
        """
        selection = self.select(discovery, remove_parts=remove_parts, token_quantile=token_quantile, mask=mask)
        if self.stage2 is not None:
            logits = self.second_stage(images, selection)
        elif len(remove_parts) or token_quantile is not None or mask is not None:
            voting = torch.ones(self.num_parts, dtype=torch.bool, device=images.device)
            if mask is None:  # a given one replaces the result, removed parts included
                voting[list(remove_parts)] = False
            logits = self.late_logits(discovery, selection.mask, voting)
        else:
            logits = discovery.stage1_logits
        found = {name: value for name, value in vars(discovery).items() if name != "tokens"}
        kept = selection.mask.flatten(1).float().mean(1)
        pixels = self.evidence_pixels(selection, (images.shape[2], images.shape[3]))
        return Output(**found, logits=logits, parts=selection.parts, mask=selection.mask, kept=kept, pixels=pixels)

    @property
    def is_faithful(self) -> bool:
        """Whether the mask limits what the prediction can rest on: not without stage 2, nor with soft masks."""
        return self.stage2 is not None and not self.soft_masks

    def discover(self, images: Tensor, share: Share = WHOLE) -> EncodedDiscovery:
        """Stage 1 alone. In training mode it draws Gumbel noise and drops parts before classification.

        Of a batch that several processes ``share``, each draws for all images and takes what is for its own.
        """
        return self.find_parts(self.encode(images), share)

    def encode(self, images: Tensor, backbone: Backbone | None = None) -> Tensor:
        """Tokens (B, h, w, D) of stage 1, or of another ``backbone`` of its kind."""
        self.check_images(images)
        backbone = self.stage1 if backbone is None else backbone
        return backbone.split(backbone(images), (images.shape[2], images.shape[3]))[1]

    def find_parts(self, tokens_BhwD: Tensor, share: Share = WHOLE) -> EncodedDiscovery:
        """What `discover` finds, from the tokens (B, h, w, D) that `encode` gives."""
        logits = part_maths.part_logits(tokens_BhwD, self.prototypes)
        noise = share.own(part_maths.gumbel_like(share.whole(logits))) if self.training else 0
        maps = part_maths.part_maps(logits + noise, self.temperature)
        features = self._part_features(maps, tokens_BhwD)
        foreground = features[..., :-1].transpose(1, 2)
        if self.training:
            kept = share.own(
                part_maths.drop_parts((share.total(len(logits)), self.num_parts), self.part_dropout, logits.device)
            )
            foreground = foreground * (kept / (1 - self.part_dropout))[..., None].to(foreground.dtype)
        scores = self.part_classifier(foreground).transpose(1, 2)
        return EncodedDiscovery(
            part_logits=logits,
            part_maps=maps,
            part_features=features,
            stage1_part_logits=scores,
            stage1_logits=scores.mean(-1),
            tokens=tokens_BhwD,
        )

    def select(
        self,
        discovery: PartDiscovery,
        *,
        remove_parts: Sequence[int] = (),
        token_quantile: float | None = None,
        mask: Tensor | None = None,
        share: Share = WHOLE,
    ) -> Selection:
        """The mask of stage 2: token removal, then part removal; a given ``mask`` replaces the result.

        In training mode the mask has Gumbel noise of its own, unless switched off, and loses whole parts; ``share`` as
        for `discover`.
        """
        logits, background = discovery.part_logits, self.num_parts
        survives = torch.ones(len(logits), background, dtype=torch.bool, device=logits.device)
        if self.training:
            if self.mask_noise:
                logits = logits + self.mask_noise * share.own(part_maths.gumbel_like(share.whole(logits)))
            drawn = (share.total(len(logits)), background)
            survives = share.own(part_maths.drop_parts(drawn, self.stage2_part_dropout, logits.device))
        clean = discovery.part_logits
        if self.dropped_parts == "reassigned":
            clean, logits = (masking.without_parts(each, survives) for each in (clean, logits))
        winners = masking.assign_parts(logits)
        parts = masking.drop_from_mask(winners, survives)
        if token_quantile is not None:
            parts = masking.remove_unsure_tokens(parts, discovery.part_logits, self._thresholds(token_quantile))
        removed = self._foreground(remove_parts)
        parts = masking.remove_parts(parts, removed, background)
        survives[:, removed] = False
        if mask is not None:
            check_mask(mask, tuple(parts.shape))
            return Selection(parts=parts.masked_fill(~mask, background), mask=mask, weights=mask.to(logits.dtype))
        mask = parts < background
        margin = pixel_maths.foreground_margin(clean, survives)
        if token_quantile is not None:  # a token that was removed is background
            margin = torch.where(mask, margin, -margin.abs())
        probabilities = part_maths.part_maps(logits, self.temperature)[:, :-1] * survives[:, :, None, None]
        if self.soft_masks:
            weights = probabilities.amax(1).masked_fill(parts != winners, 0)
        else:
            weights = masking.straight_through(mask, probabilities.sum(1))
        return Selection(parts=parts, mask=mask, weights=weights, soft=self.soft_masks, margin=margin)

    def object_pixels(self, selection: Selection, image_size: tuple[int, int]) -> Tensor:
        """The pixels (B, H, W) bool inside the outline of the parts: all of the patches of a mask by hand."""
        patch = self.stage1.patch_size
        if selection.margin is None:
            return pixels_of(selection.mask, patch, image_size)
        return pixel_maths.enlarge(selection.margin, patch, image_size) > 0

    def evidence_pixels(self, selection: Selection, image_size: tuple[int, int]) -> Tensor:
        """The pixels (B, H, W) bool that stage 2 reads at test time."""
        patches = pixels_of(selection.mask, self.stage1.patch_size, image_size)
        return patches & self.object_pixels(selection, image_size) if self.evidence == "pixels" else patches

    def second_stage(self, images: Tensor, selection: Selection) -> Tensor:
        """Logits (B, C) of stage 2, with the mask's gradient in training unless it is cut.

        Of soft masks both other gradients are autograd's.
        """
        if selection.soft:
            weights = selection.weights.detach() if self.mask_gradient == "cut" else selection.weights
            return self._masked_classifier.forward_masked(images, weights, soft=True)
        if self.training and self.mask_gradient != "cut":
            bounded = self.mask_gradient == "bounded"
            return self._masked_classifier.forward_with_mask_gradient(images, selection.weights, bounded=bounded)
        whole = self.training or self.evidence == "patches"
        pixels = None if whole else self.object_pixels(selection, (images.shape[2], images.shape[3]))
        return self.classify(images, selection.mask, pixels)

    def classify(self, images: Tensor, mask: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Stage 2 alone: logits (B, C), a function of the patches in ``mask`` (B, h, w) bool and their positions only.

        With ``pixels``, (B, H, W) bool such as those of an `Output`, a function of these pixels in those patches.
        Changing any other pixel changes no bit of the result. An empty mask is classified from the prefix tokens.
        """
        self.check_images(images)
        check_mask(mask, (len(images), *self.stage1.grid((images.shape[2], images.shape[3]))))
        check_pixels(pixels, (len(images), *images.shape[2:]))
        return self._answer_inside(images, mask, pixels)

    def classify_each(self, images: Tensor, masks: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Stage 2 of M masks of every image, in one packed batch: logits (B, M, C), each as `classify` has it.

        ``masks``: (B, M, h, w) bool, M of 1 or more; ``pixels``: None, or (B, M, H, W) bool.
        """
        self.check_images(images)
        count = masks.shape[1] if isinstance(masks, Tensor) and masks.ndim == 4 else 1
        at_least("masks of each image", count, 1)
        check_mask(masks, (len(images), count, *self.stage1.grid((images.shape[2], images.shape[3]))))
        check_pixels(pixels, (len(images), count, *images.shape[2:]))
        return self._answer_inside(images, masks, pixels)

    def late_logits(self, discovery: EncodedDiscovery, mask: Tensor, voting: Tensor) -> Tensor:
        """Late masking with some of it switched off: logits (B, C).

        Tokens that were removed count as background when the parts are pooled; a removed part loses its vote, as in
        part dropout. The tokens that stay have read those that went.
        ``mask``: (B, h, w) bool; ``voting``: (B, K) or (K,) bool, the parts that were not removed.
        """
        maps = masking.maps_after_removal(discovery.part_maps, mask)
        features = self._part_features(maps, discovery.tokens)
        scores = self.part_classifier(features[..., :-1].transpose(1, 2)).transpose(1, 2)
        logits: Tensor = (scores * voting[..., None, :]).mean(-1)
        return logits

    def _answer_inside(self, images: Tensor, masks: Tensor, pixels: Tensor | None) -> Tensor:
        """Stage 2, which in eval mode on a CPU answers in float32 whatever autocast says.

        It is the smaller part of the work, and an answer near the border of two classes turns with bfloat16's rounding.
        """
        with float32_on_cpu(images.device, training=self.training):
            logits: Tensor = self._masked_classifier(images, masks, pixels)
        return logits

    def _part_features(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """Modulated: (B, D, K+1)."""
        features: Tensor = self.modulation(part_maths.part_features(maps, tokens).to(self.modulation.weight.dtype))
        return features

    @property
    def _masked_classifier(self) -> TokenClassifier:
        if self.stage2 is None:
            raise UsageError("classify: expected a model with a second stage, got one without; use stage1_logits")
        return self.stage2

    def _thresholds(self, quantile: float) -> list[float]:
        if not isinstance(quantile, int | float) or quantile not in self.token_thresholds:
            stored = ", ".join(f"{q:g}" for q in sorted(self.token_thresholds)) or "none"
            raise UsageError(
                f"token_quantile: expected a calibrated quantile from 0 to 1 (stored: {stored}), got {quantile!r}; "
                "calibrate the model on its training data first, see ifam calibrate"
            )
        return self.token_thresholds[quantile]

    def _foreground(self, parts: Iterable[int]) -> list[int]:
        if not isinstance(parts, Iterable):
            raise UsageError(f"remove_parts: expected a list of foreground parts, got {parts!r}")
        parts = list(parts)
        wrong = [part for part in parts if isinstance(part, bool) or part not in range(self.num_parts)]
        if wrong:
            known = f"parts 0 to {self.num_parts - 1}" if self.num_parts > 1 else "part 0"
            raise UsageError(f"remove_parts: expected foreground {known}, got {wrong[0]!r}")
        return [int(part) for part in parts]


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UsageError(f"{name}: expected a probability from 0 to below 1, got {value!r}")


def interventions_on(model: Classifier, remove_parts: Sequence[int], token_quantile: float | None) -> dict[str, Any]:
    """Arguments of the model's call; none for a plain classifier.

    Raises:
        UsageError: they would change nothing in what this model predicts.
    """
    if isinstance(model, IFAM):
        return {"remove_parts": list(remove_parts), "token_quantile": token_quantile}
    if len(remove_parts) or token_quantile is not None:
        raise UsageError("interventions: expected a model with parts, got one without")
    return {}
