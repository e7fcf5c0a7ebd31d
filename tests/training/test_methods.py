from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from generated import tiny_config, write_scenes
from runs import metrics, run

from ifam.data.batch import Batch
from ifam.data.read import read_table
from ifam.losses.objective import classification_term
from ifam.training.methods import balancing_weights
from ifam.training.optim import freeze_rest
from ifam.training.registry import make_method


@pytest.mark.parametrize(
    ("num_parts", "given", "expected"), [(1, None, 0), (2, None, 0.3), (8, None, 0.3), (1, 0.2, 0.2), (8, 0, 0)]
)
def test_stage_2_loses_parts_unless_there_is_one(num_parts: int, given: float | None, expected: float) -> None:
    model: Any = make_method(tiny_config(model__num_parts=num_parts, model__stage2_part_dropout=given)).build(
        ["a", "b"]
    )
    assert model.stage2_part_dropout == expected


def test_weights_of_classes_make_each_count_alike() -> None:
    weights = balancing_weights([30, 10, 0])
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2.0, 0.0]))
    assert 30 * weights[0] == 10 * weights[1]
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 0, 1])
    expected = (F.cross_entropy(logits, labels, weights) * weights[labels].sum()) / 6
    torch.testing.assert_close(classification_term(logits, labels, weights), expected)
    alone = classification_term(logits, labels)
    torch.testing.assert_close(alone, F.cross_entropy(logits, labels))


TUNED = {
    "borrowed_backgrounds": "both",
    "optimizer__stage1_epochs": 1,
    "optimizer__freeze_stage1": True,
    "optimizer__lr_stage1": 1e-3,
    "losses__background_invariance": 1.0,
    "optimizer__lr_tokens": 0.0,
}


@pytest.fixture
def tuned() -> Any:
    """A method that trains the last blocks of stage 1, its model, and a batch."""
    torch.manual_seed(0)
    method = make_method(tiny_config(**TUNED))
    model: Any = method.build(["a", "b"]).train()
    model.set_image_size((64, 64))
    freeze_rest(model, method.groups(model))
    images, labels = F.interpolate(torch.randn(4, 3, 4, 4), size=64), torch.tensor([0, 1, 0, 1])
    return method, model, Batch(images=images, labels=labels, groups=labels, indices=labels)


def test_stage_1_learns_invariance_in_its_last_blocks_alone(tuned: Any) -> None:
    method, model, batch = tuned
    method.losses(model, batch, 0)["background_invariance"].backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    blocks = len(model.stage1.vit.blocks)
    allowed = tuple(f"stage1.vit.{layer}." for layer in (f"blocks.{blocks - 2}", f"blocks.{blocks - 1}", "norm"))
    assert learning
    assert all(name.startswith(allowed) for name in learning)
    model.zero_grad()
    others = method.losses(model, batch, 0)
    del others["background_invariance"]
    torch.stack(list(others.values())).sum().backward()
    assert not [name for name, parameter in model.stage1.named_parameters() if parameter.grad is not None]
    assert model.prototypes.grad is not None


def test_the_other_losses_read_stage_1_as_it_began_and_stage_2_as_it_became(tuned: Any) -> None:
    method, model, batch = tuned

    def terms(epoch: int) -> dict[str, float]:
        torch.manual_seed(1)
        return {name: term.item() for name, term in method.losses(model, batch, epoch).items()}

    before, masked = terms(0), terms(1)
    with torch.no_grad():
        for parameter in model.stage1.vit.blocks[-1].parameters():
            parameter.add_(torch.randn_like(parameter))
    after = terms(0)
    assert {name for name in before if before[name] != after[name]} == {"background_invariance"}
    assert masked.keys() == {"stage2"}
    assert masked != terms(1)


def test_invariance_is_learnt(tuned: Any) -> None:
    method, model, batch = tuned
    with torch.no_grad():
        model.prototypes.mul_(10)  # parts that differ
    optimizer = torch.optim.AdamW([p for p in model.stage1.parameters() if p.requires_grad], lr=3e-3)

    def loss(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return method.losses(model, batch, 0)["background_invariance"]

    before = sum(loss(seed).item() for seed in range(8))
    for seed in range(40):
        optimizer.zero_grad()
        loss(seed).backward()
        optimizer.step()
    assert sum(loss(seed).item() for seed in range(8)) < 0.8 * before


def test_stage_1_is_trained_alone_where_its_blocks_are(refuses_line: Any) -> None:
    changes = TUNED | {"optimizer__stage1_epochs": 0, "optimizer__freeze_stage1": False}
    with refuses_line("optimizer.lr_stage1: expected 0", "0.001", "freeze_stage1=true"):
        make_method(tiny_config(**changes))
    assert make_method(tiny_config(method="pdiscoformer", **changes)) is not None


@pytest.mark.parametrize("method", ["ifam", "early_mask", "erm"])
def test_the_epoch_of_least_loss_is_kept_and_choosing_changes_no_training(method: str, tmp_path: Path) -> None:
    table = read_table(write_scenes(tmp_path / "scenes", {"train": 6, "val": 4, "test": 2}))
    config = tiny_config(method=method, optimizer__epochs=4, select_by="loss", borrowed_backgrounds="stage2")
    found = run(config, table, tmp_path / "by loss")
    losses = [line["val/loss"] for line in metrics(tmp_path / "by loss")]
    assert found.selection_score == pytest.approx(-min(losses), rel=1e-6)
    assert found.best_epoch == losses.index(min(losses))
    run(tiny_config(method=method, optimizer__epochs=4, borrowed_backgrounds="stage2"), table, tmp_path / "other")
    trained = [[line["train/loss"] for line in metrics(tmp_path / folder)] for folder in ("by loss", "other")]
    assert trained[0] == trained[1]
    assert "val/loss" not in metrics(tmp_path / "other")[0]
