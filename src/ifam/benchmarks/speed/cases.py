"""What is timed: the two stages against the authors' code, against one pass, and against what the arithmetic allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ifam.benchmarks.speed.theirs import Checkout, fixed_mask
from ifam.benchmarks.speed.timing import (
    Work,
    in_turn,
    is_cuda,
    matrix_product_rate,
    medians,
    operations,
    peak_memory,
)
from ifam.config import MaskGradient, ModelConfig, Precision, TrainingConfig
from ifam.data.batch import Batch
from ifam.device import arithmetic, resolve_precision
from ifam.losses.objective import total_loss
from ifam.model.two_stage import IFAM
from ifam.output import EncodedDiscovery
from ifam.processes import WHOLE, Share
from ifam.training.methods import TwoStage
from ifam.training.optim import freeze_rest, make_optimizer
from ifam.training.prepare import compile_blocks

CPU_BATCH = 8
"""images of which the activations stay near the cores"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model and a batch."""

    backbone: str
    image_size: int
    kept: tuple[float, ...]
    """the share of the tokens that stage 2 sees, of each image of the batch"""
    num_parts: int = 8
    precision: Precision = "32-true"

    def __str__(self) -> str:
        shares = sorted(set(self.kept), reverse=True)
        kept = " and ".join(f"{share:.0%} in {self.kept.count(share)}" for share in shares)
        size = f"{self.image_size} px, batch {len(self.kept)}, {kept}"
        return f"{self.backbone}, {size}, K = {self.num_parts}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Seconds of several ways of doing one thing, measured in turn."""

    case: str
    setting: Setting
    images: int
    """that each way works on"""
    seconds: dict[str, list[float]]
    numbers: dict[str, float] = field(default_factory=dict)
    """what follows from the medians, and what was measured beside time"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and how often things are measured."""

    device: str
    rounds: int
    checkout: Checkout | None = None


def make_model(setting: Setting, device: str, mask_gradient: MaskGradient = "cut") -> IFAM:
    """A model with random weights in which every block counts: at LayerScale's initial 1e-5 none would."""
    torch.manual_seed(0)
    model = IFAM(
        setting.backbone,
        num_parts=setting.num_parts,
        num_classes=2,
        image_size=setting.image_size,
        pretrained=False,
        mask_gradient=mask_gradient,
        stage2_part_dropout=0.0,
    )
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            nn.init.constant_(parameter, 0.1)
    return model.to(device).eval()


def make_images(setting: Setting, device: str) -> Tensor:
    """Noise: (B, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(setting.kept), 3, setting.image_size, setting.image_size)
    return torch.randn(shape, generator=generator).to(device)


def make_mask(model: IFAM, setting: Setting, device: str) -> Tensor:
    """Tokens chosen at random, as many of each image as the setting says: (B, h, w)."""
    height, width = model.stage1.grid((setting.image_size, setting.image_size))
    generator = torch.Generator().manual_seed(1)
    order = torch.rand(len(setting.kept), height * width, generator=generator).argsort(1).argsort(1)
    count = torch.tensor([round(share * height * width) for share in setting.kept])
    return (order < count[:, None]).view(-1, height, width).to(device)


def inference(setting: Setting, bench: Bench) -> Measurement:
    """The whole model, stage 2 alone, one pass of a backbone, and the authors' model."""
    model = make_model(setting, bench.device)
    images, mask = make_images(setting, bench.device), make_mask(model, setting, bench.device)
    full = torch.ones_like(mask)
    sides: dict[str, Work] = {
        "ifam": lambda: model(images, mask=mask).logits,
        "one pass": lambda: model.stage1(images),
        "stage 2": lambda: model.classify(images, mask),
        "stage 2, all tokens": lambda: model.classify(images, full),
    }
    numbers: dict[str, float] = {}
    with torch.inference_mode(), arithmetic(setting.precision, torch.device(bench.device)):
        if bench.checkout is not None:
            theirs = bench.checkout.with_weights_of(model)
            with fixed_mask(theirs, mask):
                ours, other = model(images, mask=mask).logits.float(), theirs(images)[0].float()
                numbers["largest difference of logits"] = (ours - other).abs().max().item()
                numbers["largest logit"] = ours.abs().max().item()
                seconds = in_turn({**sides, "authors": lambda: theirs(images)}, bench.rounds, bench.device)
        else:
            seconds = in_turn(sides, bench.rounds, bench.device)
        rows = int(mask.sum()) + model.stage1.num_prefix_tokens * len(images)
        work = operations(lambda: model(images, mask=mask))
        dtype = torch.bfloat16 if _is_half(setting, bench) else torch.float32
        rate = matrix_product_rate(rows, model.stage1.width, dtype, bench.device)
    middle = medians(seconds)
    kept = sum(setting.kept) / len(setting.kept)
    numbers |= {
        "images/s": len(images) / middle["ifam"],
        "stage 2 over (kept share × full stage 2)": middle["stage 2"] / (kept * middle["stage 2, all tokens"]),
        "ifam over one pass": middle["ifam"] / middle["one pass"],
        "share of the arithmetic limit": work / rate / middle["ifam"],
        "matrix products, TFLOP/s": rate / 1e12,
    }
    if "authors" in middle:
        numbers["times the authors' throughput"] = middle["authors"] / middle["ifam"]
    return Measurement(case="inference", setting=setting, images=len(images), seconds=seconds, numbers=numbers)


def precisions(setting: Setting, bench: Bench) -> Measurement:
    """bfloat16 against float32, the same model and batch."""
    model = make_model(setting, bench.device)
    images, mask = make_images(setting, bench.device), make_mask(model, setting, bench.device)
    device = torch.device(bench.device)

    def run(precision: Precision) -> Tensor:
        with torch.inference_mode(), arithmetic(precision, device):
            logits: Tensor = model(images, mask=mask).stage1_logits
            return logits.float()

    sides: dict[str, Work] = {"float32": lambda: run("32-true"), "bfloat16": lambda: run("bf16-mixed")}
    seconds = in_turn(sides, bench.rounds, bench.device)
    middle = medians(seconds)
    wide, narrow = run("32-true"), run("bf16-mixed")
    numbers = {
        "times the throughput of float32": middle["float32"] / middle["bfloat16"],
        "largest difference of stage 1's logits": (wide - narrow).abs().max().item(),
    }
    return Measurement(case="precision", setting=setting, images=len(images), seconds=seconds, numbers=numbers)


def leave_one_out(setting: Setting, bench: Bench) -> Measurement:
    """Every part left out in turn: stage 1 once, against the whole model for each part."""
    model = make_model(setting, bench.device)
    images = make_images(setting, bench.device)
    keep_shares(model, setting.kept)
    parts = range(model.num_parts)
    batches = torch.split(images, len(images) if is_cuda(bench.device) else CPU_BATCH)

    def once() -> None:
        for batch in batches:
            discovery = model.discover(batch)
            for part in parts:
                model.answer(batch, discovery, remove_parts=[part])

    def again() -> None:
        for batch in batches:
            for part in parts:
                model(batch, remove_parts=[part])

    with torch.inference_mode(), arithmetic(setting.precision, torch.device(bench.device)):
        seconds = in_turn({"stage 1 once": once, "whole model each time": again}, bench.rounds, bench.device)
        kept = torch.cat([model(batch).kept for batch in batches]).mean().item()
    middle = medians(seconds)
    numbers = {
        "share of the time": middle["stage 1 once"] / middle["whole model each time"],
        "kept before a part is left out": kept,
        "images at a time": len(batches[0]),
    }
    return Measurement(case="leave-one-out", setting=setting, images=len(images), seconds=seconds, numbers=numbers)


def training(setting: Setting, bench: Bench) -> Measurement:
    """A step with all losses: with the exact gradient of the mask, with it cut, and the authors' step."""
    gradients: tuple[MaskGradient, ...] = ("exact", "cut")
    sides = {f"ifam, {gradient}": training_step(setting, bench.device, gradient) for gradient in gradients}
    if bench.checkout is not None:
        sides["authors"] = _their_step(setting, bench.device, bench.checkout)
    seconds = in_turn(sides, bench.rounds, bench.device)
    middle = medians(seconds)
    numbers = {"exact over cut": middle["ifam, exact"] / middle["ifam, cut"]}
    if "authors" in middle:
        for gradient in gradients:
            numbers[f"times the authors' steps, {gradient}"] = middle["authors"] / middle[f"ifam, {gradient}"]
    return Measurement(case="training", setting=setting, images=len(setting.kept), seconds=seconds, numbers=numbers)


def compiled_training(setting: Setting, bench: Bench) -> Measurement:
    """A step with the gradient of the mask cut, as it is and with the blocks' norms and MLPs compiled."""
    sides = {
        name: training_step(setting, bench.device, "cut", compiled=compiled)
        for name, compiled in (("as it is", False), ("compiled", True))
    }
    seconds = in_turn(sides, bench.rounds, bench.device)
    middle = medians(seconds)
    numbers = {"times the steps, compiled": middle["as it is"] / middle["compiled"]}
    return Measurement(case="compile", setting=setting, images=len(setting.kept), seconds=seconds, numbers=numbers)


def training_memory(setting: Setting, bench: Bench) -> Measurement:
    """Peak memory of a training step with the exact gradient of the mask, and with it cut."""
    gradients: tuple[MaskGradient, ...] = ("exact", "cut")
    peaks = {
        gradient: peak_memory(training_step, (setting, bench.device, gradient), bench.device) for gradient in gradients
    }
    numbers = {f"peak of a step, {gradient}, MiB": peak / 2**20 for gradient, peak in peaks.items()}
    numbers["exact over cut"] = peaks["exact"] / peaks["cut"]
    return Measurement(case="memory", setting=setting, images=len(setting.kept), seconds={}, numbers=numbers)


def training_step(
    setting: Setting,
    device: str,
    gradient: MaskGradient,
    *,
    compiled: bool = False,
    config: TrainingConfig | None = None,
    epoch: int = 0,
) -> Work:
    """One step of training of `ifam.training`, on noise; ``config``: of the run, the published recipe if None."""
    model = make_model(setting, device, mask_gradient=gradient).train()
    model.mask_noise = 0.0  # or it would not keep the share that is asked for
    if compiled:
        compile_blocks(model)
    keep_shares(model, setting.kept)
    config = config or TrainingConfig(model=ModelConfig(num_parts=setting.num_parts, mask_gradient=gradient))
    method = TwoStage(config)
    method.take_teacher(model)
    groups = method.groups(model)
    freeze_rest(model, groups)
    optimizer, _ = make_optimizer(model, groups, config.optimizer, steps_per_epoch=1000)
    images, labels = _labelled(setting, device)
    nowhere = torch.full_like(labels, -1)
    batch = Batch(images=images, labels=labels, groups=nowhere, indices=nowhere)

    def step() -> None:
        with arithmetic(setting.precision, torch.device(device)):
            loss = total_loss(method.losses(model, batch, epoch), config.losses)
        _update(model, optimizer, loss)

    return step


def _their_step(setting: Setting, device: str, checkout: Checkout) -> Work:
    """The work of one step of the authors' training loop, the same parameters frozen and the same optimizer."""
    model = make_model(setting, device).train()
    theirs: Any = checkout.with_weights_of(model)
    blocks = [*theirs.stage_1.blocks.parameters(), *theirs.stage_1.patch_embed.parameters()]
    for parameter in (*blocks, *theirs.stage_1.norm.parameters()):
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=1e-6)
    images, labels = _labelled(setting, device)
    training_loss = checkout.training_loss()

    def step() -> None:
        with arithmetic(setting.precision, torch.device(device)):
            loss = training_loss(theirs, images, labels)
        _update(theirs, optimizer, loss)

    return step


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 2.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _labelled(setting: Setting, device: str) -> tuple[Tensor, Tensor]:
    return make_images(setting, device), (torch.arange(len(setting.kept)) % 2).to(device)


def keep_shares(model: IFAM, kept: Sequence[float]) -> None:
    """Make stage 1 of an untrained model select as much of each image as asked, without changing what it costs."""
    find_parts: Callable[[Tensor, Share], EncodedDiscovery] = model.find_parts

    def shifted(tokens_BhwD: Tensor, share: Share = WHOLE) -> EncodedDiscovery:
        found = find_parts(tokens_BhwD, share)
        margin = found.part_logits[:, :-1].amax(1) - found.part_logits[:, -1]
        shares = torch.tensor(kept[: len(tokens_BhwD)], device=tokens_BhwD.device, dtype=margin.dtype)
        ranked = margin.flatten(1).sort(1, descending=True).values
        last = (shares * ranked.shape[1]).round().long().clamp(1, ranked.shape[1]) - 1
        threshold = ranked.gather(1, last[:, None])[:, :, None] - 1e-4
        logits = torch.cat([found.part_logits[:, :-1], found.part_logits[:, -1:] + threshold[:, None]], 1)
        return replace(found, part_logits=logits)

    model.find_parts = shifted  # type: ignore[method-assign]


def _is_half(setting: Setting, bench: Bench) -> bool:
    return resolve_precision(setting.precision, bench.device) != "32-true"
