"""What a training run is made of. Impossible values are refused here, before any work. Imports no torch."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as repr_short
from typing import Any, Literal, get_args

from ifam.errors import UsageError, first_line

MethodName = Literal["ifam", "pdiscoformer", "erm", "early_mask", "late_mask", "group_dro", "jtt", "masktune", "dfr"]
MaskGradient = Literal["exact", "bounded", "cut"]
Evidence = Literal["patches", "pixels"]
Readout = Literal["class_token", "class_token_and_mean"]
BorrowedBackgrounds = Literal["none", "stage1", "stage2", "both"]
PrototypeInit = Literal["random", "centre", "object"]
DroppedParts = Literal["removed", "reassigned"]
TokenCutFeatures = Literal["tokens", "keys"]
SelectBy = Literal["auto", "worst_group_accuracy", "accuracy", "auc", "worst_group_auc", "loss", "last"]
NO_SCORES = ("loss", "last")
"""what an epoch can be chosen by beside scores of its answers"""
Cosine = Literal["epoch", "step"]
Strategy = Literal["ddp", "fsdp"]
Augmentation = Literal["birds", "xray", "imagenet", "light", "none"]
FixedPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
"""auto: bf16-mixed on machines with bfloat16 arithmetic, 32-true elsewhere"""
QUANTILES = (0.90, 0.95, 0.97, 0.99)
LARGEST_FILE, LONGEST_VALUE, DEEPEST = 2**16, 2000, 10
"""bytes of a file of settings, letters of a value in it, and how many values may lie inside each other"""
LARGEST_NUMBER = 1e30
"""which still is one in float32"""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weight of each loss term; 0 switches a term off."""

    stage2: float = 1.0
    stage1: float = 1.0
    orthogonality: float = 1.0
    equivariance: float = 1.0
    foreground_presence: float = 1.0
    background_presence: float = 2.0
    total_variation: float = 1.0
    entropy: float = 1.0
    concentration: float = 0.0
    object_presence: float = 0.0
    background_invariance: float = 0.0
    """the only term that trains the last blocks of stage 1, see ``lr_stage1``"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _at_least(f"losses.{name}", value, 0)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model; see `ifam.IFAM`."""

    backbone: str = "vit_base_patch14_reg4_dinov2.lvd142m"
    pretrained: bool = True
    num_parts: int = 8
    image_size: int | tuple[int, int] | None = None
    """pixels; None: the size of the data's images, rounded to whole patches, at most the backbone's own"""
    mask_gradient: MaskGradient = "cut"
    soft_masks: bool = False
    part_dropout: float = 0.3
    stage2_part_dropout: float | None = 0.3
    """None: 0.3, and 0 where there is one part, without which stage 2 would see nothing"""
    mask_noise: float = 1.0
    """how large the Gumbel noise is in the masks that stage 2 is trained in; 1: as published"""
    dropped_parts: DroppedParts = "removed"
    """what part dropout does to tokens in training: removed: they leave the input of stage 2, as a part removed at test
    time does; reassigned: they fall to their next part, as in the published code"""
    temperature: float = 1.0
    prototype_init: PrototypeInit = "random"
    """where foreground prototypes begin: centre: nearer to the tokens in the middle of images than to those at the
    border; object: nearer to what the training images have in common against their surroundings, see
    `ifam.model.parts.lean_to_object`"""
    centre_lean: float | None = None
    """how far they lean there, in standard deviations of the logits; the rest of where they begin is random; None: 12
    for one part, and 24 for several, of which any may win a token of the surroundings by chance"""
    evidence: Evidence = "patches"
    """what the answer rests on at test time: the selected patches, or of these the pixels inside the outline of the
    object, so that no background is read at its border"""
    readout: Readout = "class_token"
    """of methods without masks: what of a vision transformer is classified from, the class token alone or beside it the
    mean of the patches"""
    masks: str = "annotated"
    """of early_mask and late_mask: annotated, boxes, tokencut, or a folder of mask files named as the images"""
    tokencut_features: TokenCutFeatures = "tokens"
    """what TokenCut compares; published: keys (of the last attention)"""
    tokencut_threshold: float = 0.4
    """cosine similarity from which on it takes two patches for alike; published: 0.2"""
    mask_coverage: float = 0.5
    """a patch is selected by a mask given in pixels where the mask covers at least this share of it"""

    def __post_init__(self) -> None:
        _between("model.num_parts", self.num_parts, 1, 1000)
        sizes = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
        for size in sizes:
            _between("model.image_size", 1 if size is None else size, 1, 10_000)
        _one_of("model.mask_gradient", self.mask_gradient, MaskGradient)
        _one_of("model.prototype_init", self.prototype_init, PrototypeInit)
        _one_of("model.dropped_parts", self.dropped_parts, DroppedParts)
        _one_of("model.evidence", self.evidence, Evidence)
        _one_of("model.readout", self.readout, Readout)
        _one_of("model.tokencut_features", self.tokencut_features, TokenCutFeatures)
        _between("model.tokencut_threshold", self.tokencut_threshold, -1, 1)
        _between("model.mask_coverage", self.mask_coverage, 0.001, 1)
        for name in ("part_dropout", "stage2_part_dropout"):
            value = getattr(self, name)
            _between(f"model.{name}", 0 if value is None else value, 0, 0.999)
        _at_least("model.mask_noise", self.mask_noise, 0)
        _positive("model.temperature", self.temperature)
        _positive("model.centre_lean", 1 if self.centre_lean is None else self.centre_lean)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, cosine to 0, and the order of the two stages.

    Learning rates hold for batches of 16 and grow with the square root of the batch. A rate of 0 freezes.
    """

    epochs: int = 90
    batch_size: int = 16
    """images; several processes share them"""
    accumulate: int = 1
    """batches per optimizer step"""
    lr_prototypes: float = 1e-3
    lr_heads: float = 1e-2
    """modulation, norms and classification layers of both stages"""
    lr_tokens: float = 1e-6
    """class token, registers and position embeddings of stage 1"""
    lr_stage1: float = 0.0
    """the last two blocks of the transformer of stage 1, while it is trained alone on borrowed backgrounds: they learn
    to find before another background the parts that they found in the photograph itself, and nothing else"""
    lr_stage2: float = 1e-6
    """the transformer of stage 2; with ``erm`` the only one"""
    weight_decay: float = 0.05
    """normalised: times sqrt(1 / steps of the run)"""
    gradient_clip: float = 2.0
    cosine: Cosine = "epoch"
    """whether rates fall after each epoch, as published, or after each step, which matters in short runs"""
    stage1_epochs: int = 0
    """first epochs in which stage 1 is trained alone"""
    freeze_stage1: bool = False
    """after those epochs, train stage 2 alone; its masks still have noise and part dropout"""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            _between(f"optimizer.{name}", getattr(self, name), 1, 1_000_000)
        for name in (
            "lr_prototypes",
            "lr_heads",
            "lr_tokens",
            "lr_stage1",
            "lr_stage2",
            "weight_decay",
            "gradient_clip",
        ):
            _at_least(f"optimizer.{name}", getattr(self, name), 0)
        _one_of("optimizer.cosine", self.cosine, Cosine)
        if not 0 <= self.stage1_epochs <= self.epochs:
            raise UsageError(
                f"optimizer.stage1_epochs: expected 0 to {self.epochs} (all epochs), got {self.stage1_epochs}"
            )
        if self.freeze_stage1 and self.stage1_epochs == 0:
            raise UsageError("optimizer.freeze_stage1: expected stage1_epochs of at least 1 before freezing, got 0")


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """Options of the methods that iFAM is compared with."""

    group_step: float = 0.01
    """group_dro: how fast the weights of the groups follow their losses (η of Sagawa et al.)"""
    upweight: float = 20.0
    """jtt: how much more often an image that the first run gets wrong is drawn (λ of Liu et al.)"""
    first_epochs: int | None = None
    """jtt: epochs of the first run, short of fitting its training images; None: a fifth of the second's, as published
    on Waterbirds"""
    tuning_epochs: int | None = None
    """masktune, dfr: epochs of the run that follows; None: 1 for masktune, as published, 20 for dfr"""

    def __post_init__(self) -> None:
        _positive("robustness.group_step", self.group_step)
        _at_least("robustness.upweight", self.upweight, 1)
        for name in ("first_epochs", "tuning_epochs"):
            value = getattr(self, name)
            _between(f"robustness.{name}", 1 if value is None else value, 1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run. The defaults are the paper's recipe."""

    method: MethodName = "ifam"
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    augmentation: Augmentation = "birds"
    borrowed_backgrounds: BorrowedBackgrounds = "none"
    """which stage is trained on photographs whose background, outside the outline of the object, is another's: in
    stage2 what surrounds the object in its patches tells nothing of the class; in stage1 the transformed views have
    other backgrounds, before which the same parts are to be found, see ``lr_stage1``; methods of one stage: stage2,
    without masks outside a box at random"""
    class_balanced: bool = False
    """weigh images in the classification losses so that every class counts alike, however few images it has"""
    precision: Precision = "32-true"
    ema: float | None = None
    """decay of the exponential moving average of the weights, or None"""
    select_by: SelectBy = "auto"
    """which epoch is kept, by its score on the validation split; auto: worst-group accuracy where groups are known,
    accuracy otherwise; loss: the least cross-entropy there, of methods with masks before the backgrounds of other
    validation images, which needs no label but the class; last: the last, whatever its score"""
    split_by: str | None = None
    """what is kept whole where splits are made: a column of the table of the data, such as patient; or folder, the
    first below a class (of a table, the one that an image lies in), which is no group then"""
    activation_checkpointing: bool = False
    """compute activations again in the backward pass instead of keeping them: less memory, a third more work"""
    compile: bool = False
    """fuse the norms and MLPs of a vision transformer with torch.compile, which does not pay on CPUs"""
    workers: int = 2
    seed: int = 0
    device: str = "auto"
    strategy: Strategy = "ddp"
    """of several processes: ddp, each holds the whole model; fsdp, weights, gradients and the optimizer's state are
    divided among them"""
    skip_unreadable: bool = False
    """go on without images that cannot be read"""
    checkpoint_minutes: float = 10.0
    """from one checkpoint to the next within an epoch; there is one after every epoch besides"""

    def __post_init__(self) -> None:
        _one_of("method", self.method, MethodName)
        _one_of("augmentation", self.augmentation, Augmentation)
        _one_of("borrowed_backgrounds", self.borrowed_backgrounds, BorrowedBackgrounds)
        _one_of("precision", self.precision, Precision)
        _one_of("select_by", self.select_by, SelectBy)
        _one_of("strategy", self.strategy, Strategy)
        _between("workers", self.workers, 0, 1000)
        _between("seed", self.seed, 0, 2**32 - 1)
        _positive("checkpoint_minutes", self.checkpoint_minutes)
        if self.model.masks != "annotated" and self.method not in ("early_mask", "late_mask"):
            raise UsageError(f"model.masks: expected the method early_mask or late_mask beside it, got {self.method}")
        if self.ema is not None:
            _between("ema", self.ema, 0, 0.999999)
            if self.strategy == "fsdp":
                raise UsageError("ema: expected none with the strategy fsdp, which divides the weights, got one")

    def borrows_in(self, stage: Literal[1, 2]) -> bool:
        """Whether this stage is trained on borrowed backgrounds."""
        return self.borrowed_backgrounds in (f"stage{stage}", "both")

    @property
    def tunes_stage1(self) -> bool:
        """Whether the last blocks of stage 1 are trained on them, see ``lr_stage1``."""
        return self.borrows_in(1) and self.optimizer.lr_stage1 > 0 and self.losses.background_invariance > 0


def to_dict(config: TrainingConfig) -> dict[str, Any]:
    """Plain values, for YAML."""
    from pydantic import TypeAdapter

    values: dict[str, Any] = TypeAdapter(TrainingConfig).dump_python(config, mode="json")
    return values


def from_dict(values: Any, source: str = "config") -> TrainingConfig:
    """A configuration from YAML or JSON values.

    Raises:
        UsageError: an unknown name, a wrong type or an impossible value; the message names it.
    """
    try:
        return _validated(values)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def read(path: Path) -> TrainingConfig:
    """The configuration in a YAML file."""
    try:
        if path.exists() and not path.is_file():  # to read a pipe is to wait for it
            raise UsageError(f"{path}: expected a YAML file, got a folder, a pipe or a device")
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: expected settings in at most {LARGEST_FILE:,} bytes, got a larger file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: expected a readable YAML file, got: {why}") from error
    return from_dict(parse_yaml(text, f"{path}: expected a readable YAML file"), str(path))


def parse_yaml(text: str, expected: str) -> Any:
    """Plain values from YAML; ``expected`` opens the error.

    Refused as it is read, piece by piece: aliases, a few of which unpack to billions of values; values that fill pages;
    and lists in lists in lists.
    """
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise UsageError(f"{expected}, got more than {DEEPEST} lists or names inside each other")
            if isinstance(event, yaml.AliasEvent):
                raise UsageError(f"{expected}, got the alias *{event.anchor}; write out what it stands for")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_VALUE:
                raise UsageError(f"{expected}, got a value of {len(event.value):,} letters; shorten it")
        return yaml.safe_load(text)
    except UsageError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # dates and numbers that are none are ValueErrors
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise UsageError(f"{expected}, got{place}: {getattr(error, 'problem', None) or first_line(error)}") from error


def _names(values: Mapping[str, Any]) -> list[str]:
    """Dotted, of all settings."""
    return [
        f"{name}.{inner}" if inner else name
        for name, value in values.items()
        for inner in (value if isinstance(value, dict) else [""])
    ]


def override(config: TrainingConfig, changes: dict[str, Any]) -> TrainingConfig:
    """A copy with dotted names changed: ``{"optimizer.epochs": 3}``."""
    values = to_dict(config)
    for name, value in changes.items():
        *path, last = name.split(".")
        target: Any = values
        for step in path:
            target = target.get(step) if isinstance(target, dict) else None
        if not isinstance(target, dict) or last not in target:
            hint = _hint(name, _names(values))
            raise UsageError(f"setting: expected a name such as optimizer.epochs or losses.entropy, got {name!r}{hint}")
        target[last] = value
    return _validated(values)


def _validated(values: Any) -> TrainingConfig:
    """Errors begin with the dotted name of the setting, where one is to blame."""
    from pydantic import TypeAdapter, ValidationError

    try:
        _refuse_unknown(values, TrainingConfig())
        return TypeAdapter(TrainingConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # one of ours, complete
            raise UsageError(first["msg"].removeprefix("Value error, ")) from error
        place = ".".join(str(part) for part in first["loc"])
        wanted = first["msg"].removeprefix("Input should be ")
        raise UsageError(f"{place}: expected {wanted}, got {repr_short(first['input'])}") from error


def _refuse_unknown(values: Any, known: Any, where: str = "") -> None:
    if not isinstance(values, dict):
        got = "nothing" if values is None else type(values).__name__
        raise UsageError(f"{where}expected names and values, got {got}")
    for name, value in values.items():
        if name not in vars(known):
            hint = _hint(str(name), vars(known))
            raise UsageError(f"{where}expected one of {', '.join(vars(known))}, got {repr_short(name)}{hint}")
        if hasattr(getattr(known, name), "__dataclass_fields__"):
            _refuse_unknown(value, getattr(known, name), f"{name}: ")


def _hint(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_of(name: str, value: object, literal: object) -> None:
    if value not in get_args(literal):
        raise UsageError(f"{name}: expected {', '.join(get_args(literal))}, got {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    _finite(name, value)
    if value < least:
        raise UsageError(f"{name}: expected at least {least:g}, got {value!r}")


def _between(name: str, value: float, least: float, most: float) -> None:
    if not value >= least:
        raise UsageError(f"{name}: expected at least {least:g}, got {repr_short(value)}")
    if not value <= most:
        raise UsageError(f"{name}: expected at most {most:.10g}, got {repr_short(value)}")


def _positive(name: str, value: float) -> None:
    _finite(name, value)
    if value <= 0:
        raise UsageError(f"{name}: expected a positive number, got {value!r}")


def _finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise UsageError(f"{name}: expected a finite number, got {value!r}")
    if value > LARGEST_NUMBER:
        raise UsageError(f"{name}: expected at most {LARGEST_NUMBER:g}, got {value!r}")
