import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from generated import tiny_config
from torch import Tensor, nn

from ifam.config import ModelConfig, OptimizerConfig, TrainingConfig
from ifam.data.batch import Batch
from ifam.data.table import ImageTable
from ifam.model.two_stage import IFAM
from ifam.recipes import recipe
from ifam.training.module import TrainingModule
from ifam.training.optim import freeze_rest, is_decayed, make_optimizer, rate_factor
from ifam.training.registry import make_method
from ifam.training.run import train

# learning rates of the paper for batches of 16, and the weight decay 0.05 · sqrt(1 / 900 steps)
DECAY = 0.05 / 30
STAGE1 = [
    ("prototypes_undecayed", 1e-3, 0.0),
    ("stage1_heads", 1e-2, DECAY),
    ("stage1_heads_undecayed", 1e-2, 0.0),
    ("stage1_tokens_undecayed", 1e-6, 0.0),
]
STAGE2 = [
    ("stage2", 1e-6, DECAY),
    ("stage2_undecayed", 1e-6, 0.0),
    ("stage2_heads", 1e-2, DECAY),
    ("stage2_heads_undecayed", 1e-2, 0.0),
]
TABLES = {"ifam": STAGE1 + STAGE2, "pdiscoformer": STAGE1, "erm": STAGE2}


def build(method: str, **changes: Any) -> tuple[nn.Module, Any]:
    config = tiny_config(method=method, **changes)
    chosen = make_method(config)
    model = chosen.build(["a", "b"])
    freeze_rest(model, chosen.groups(model))
    return model, chosen


def paper_rates(batch_size: int = 16, accumulate: int = 1) -> dict[str, Any]:
    paper = OptimizerConfig(batch_size=batch_size, accumulate=accumulate)
    return {f"optimizer__{name}": value for name, value in vars(paper).items()}


@pytest.mark.parametrize("method", TABLES)
@pytest.mark.parametrize(("batch_size", "accumulate", "scale"), [(16, 1, 1), (4, 1, 0.5), (32, 2, 2)])
def test_groups_rates_and_decay(method: str, batch_size: int, accumulate: int, scale: float) -> None:
    model, chosen = build(method, **paper_rates(batch_size, accumulate))
    optimizer, _ = make_optimizer(model, chosen.groups(model), chosen.config.optimizer, steps_per_epoch=10)
    got = [(group["name"], group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    expected = [(name, pytest.approx(lr * scale), pytest.approx(decay)) for name, lr, decay in TABLES[method]]
    assert got == expected
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}


@pytest.mark.parametrize("method", TABLES)
def test_every_trained_parameter_is_in_one_group(method: str) -> None:
    model, chosen = build(method)
    optimizer, _ = make_optimizer(model, chosen.groups(model), chosen.config.optimizer, steps_per_epoch=1)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)


def test_what_stage_1_trains() -> None:
    model, _ = build("ifam")
    trained = {name for name, p in model.named_parameters() if p.requires_grad and not name.startswith("stage2.")}
    assert trained == {
        "prototypes", "modulation.weight", "modulation.bias", "part_classifier.weight", "stage1.vit.cls_token",
        "stage1.vit.pos_embed",
    }  # fmt: skip
    assert all(p.requires_grad for name, p in model.named_parameters() if name.startswith("stage2."))


def test_a_rate_of_zero_freezes() -> None:
    model, _ = build("ifam", optimizer__lr_tokens=0, optimizer__lr_stage2=0)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"prototypes", "modulation", "part_classifier", "stage2"}
    assert {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("stage2")} == {
        "stage2.norm.weight", "stage2.norm.bias", "stage2.head.weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "decayed"),
    [
        ("stage2.backbone.vit.blocks.0.attn.qkv.weight", (3, 3), True),
        ("stage2.backbone.vit.patch_embed.proj.weight", (3, 3, 2, 2), True),
        ("stage2.head.weight", (2, 3), True),
        ("part_classifier.weight", (2, 3), True),
        ("stage2.backbone.vit.blocks.0.attn.qkv.bias", (3,), False),
        ("prototypes", (4, 3), False),
        ("modulation.weight", (3, 4), False),
        ("stage1.vit.cls_token", (1, 1, 3), False),
        ("stage1.vit.reg_token", (1, 4, 3), False),
        ("stage2.backbone.vit.pos_embed", (1, 9, 3), False),
    ],
)
def test_decay_is_for_matrices(name: str, shape: tuple[int, ...], decayed: bool) -> None:
    assert is_decayed(name, nn.Parameter(torch.empty(shape))) == decayed


def cosine(epoch: int, epochs: int) -> float:
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.parametrize(
    ("config", "stage1", "stage2"),
    [
        (OptimizerConfig(epochs=4), [1, cosine(1, 4), 0.5, cosine(3, 4), 0], [1, cosine(1, 4), 0.5, cosine(3, 4), 0]),
        (
            OptimizerConfig(epochs=4, stage1_epochs=2),
            [1, cosine(1, 4), 0.5, cosine(3, 4), 0],
            [0, 0, 1, 0.5, 0],
        ),
        (OptimizerConfig(epochs=4, stage1_epochs=2, freeze_stage1=True), [1, 0.5, 0, 0, 0], [0, 0, 1, 0.5, 0]),
    ],
    ids=["together", "stage 1 first", "then frozen"],
)
def test_each_stage_has_its_cosine(config: OptimizerConfig, stage1: list[float], stage2: list[float]) -> None:
    assert [rate_factor(epoch, 1, config) for epoch in range(5)] == pytest.approx(stage1, abs=1e-12)
    assert [rate_factor(epoch, 2, config) for epoch in range(5)] == pytest.approx(stage2, abs=1e-12)


def test_the_schedule_steps_once_an_epoch() -> None:
    model, chosen = build("ifam", optimizer__epochs=4, optimizer__stage1_epochs=2, optimizer__freeze_stage1=True)
    optimizer, schedule = make_optimizer(model, chosen.groups(model), chosen.config.optimizer, steps_per_epoch=3)
    seen = []
    for _ in range(4):
        rates = {group["name"]: group["lr"] / group["initial_lr"] for group in optimizer.param_groups}
        seen.append((rates["prototypes_undecayed"], rates["stage2"]))
        optimizer.step()
        schedule.step()
    assert seen == [(1, 0), (pytest.approx(0.5), 0), (0, 1), (0, pytest.approx(0.5))]


def test_the_staged_recipe_fits_any_number_of_epochs() -> None:
    assert recipe("staged", "ifam", 1).optimizer.stage1_epochs == 0  # both stages together
    for epochs in (2, 3, 4, 6, 8, 90):
        optimizer = recipe("staged", "ifam", epochs).optimizer
        assert optimizer.epochs == epochs
        assert optimizer.stage1_epochs == max(1, round(epochs / 3))
        assert optimizer.freeze_stage1
    assert recipe("staged", "erm", 8).optimizer.stage1_epochs == 0
    assert recipe("staged", "ifam").model.stage2_part_dropout is None
    assert recipe("scenes", "ifam", 9).optimizer.stage1_epochs == 3
    assert recipe("scenes", "erm").optimizer.epochs == recipe("scenes", "ifam").optimizer.epochs
    assert recipe("paper", "ifam") == TrainingConfig(model=ModelConfig(image_size=518))


Snapshots = list[dict[str, Tensor]]


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> Snapshots:
    """The parameters at the start of every epoch, and at the end of training."""
    taken: Snapshots = []

    def take(module: TrainingModule) -> None:
        taken.append({name: value.detach().clone() for name, value in module.model.named_parameters()})

    start: Callable[[TrainingModule], None] = TrainingModule.on_train_epoch_start
    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", lambda module: (take(module), start(module)))
    monkeypatch.setattr(TrainingModule, "on_train_end", take, raising=False)
    return taken


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_each_stage_changes_in_its_epochs_only(scenes: ImageTable, tmp_path: Any, snapshots: Snapshots) -> None:
    config = tiny_config(optimizer__epochs=4, optimizer__stage1_epochs=2, optimizer__freeze_stage1=True)
    train(config, scenes, tmp_path / "run", say=lambda line: None)
    start, _, second, _, end = snapshots
    stage1, stage2 = changed(start, second), changed(second, end)
    assert stage1 == {
        "prototypes", "modulation.weight", "modulation.bias", "part_classifier.weight", "stage1.vit.cls_token",
        "stage1.vit.pos_embed",
    }  # fmt: skip
    assert stage2
    assert all(name.startswith("stage2.") for name in stage2)
    assert {"stage2.head.weight", "stage2.norm.bias", "stage2.backbone.vit.blocks.0.attn.qkv.weight"} <= stage2


def draw_batch() -> Batch:
    return Batch(
        images=torch.randn(2, 3, 48, 48),
        labels=torch.tensor([0, 1]),
        groups=torch.tensor([0, 1]),
        indices=torch.tensor([0, 1]),
    )


def test_the_transformed_view_runs_stage_1_only(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = draw_batch()
    calls = {"stage1": 0, "stage2": 0}

    def count(name: str) -> Callable[..., None]:
        def add(*arguments: Any) -> None:
            calls[name] += 1

        return add

    for weight, expected in ((1.0, {"stage1": 2, "stage2": 1}), (0.0, {"stage1": 1, "stage2": 1})):
        model, chosen = build("ifam", losses__equivariance=weight)
        assert isinstance(model, IFAM)
        assert model.stage2 is not None
        model.stage1.register_forward_hook(count("stage1"))
        model.stage2.register_forward_hook(count("stage2"))
        calls.update(stage1=0, stage2=0)
        terms = chosen.losses(model.train(), batch, epoch=0)
        assert ("equivariance" in terms) == (weight > 0)
        assert calls == expected


@pytest.mark.parametrize(("gradient", "reaches"), [("exact", True), ("cut", False)])
def test_whether_the_stage_2_loss_reaches_stage_1(gradient: str, reaches: bool) -> None:
    model, chosen = build("ifam", model__mask_gradient=gradient, model__stage2_part_dropout=0)
    terms = chosen.losses(model.train(), draw_batch(), epoch=0)
    terms["stage2"].backward()
    assert isinstance(model, IFAM)
    assert (model.prototypes.grad is not None and bool(model.prototypes.grad.any())) == reaches
