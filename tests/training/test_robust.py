import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from generated import tiny_config, write_scenes
from torch import Tensor

import ifam
from ifam.data.batch import Batch
from ifam.data.read import read_table
from ifam.data.sampler import EpochSampler
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.model.classifier import PlainClassifier
from ifam.training.folder import FIRST, LAST
from ifam.training.module import TrainingModule
from ifam.training.registry import make_method
from ifam.training.robust import balanced, group_means, stands_out, updated_group_weights
from ifam.training.run import train
from ifam.training.saliency import saliency

UNEVEN = {"train": 3, "val": 4, "test": 1}


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Four groups, of which finch/sea has one training image and the others three."""
    whole = read_table(write_scenes(tmp_path / "scenes", UNEVEN))
    rare = [sample for sample in whole.samples if sample.split == "train" and sample.group == 1]
    return replace(whole, samples=tuple(sample for sample in whole.samples if sample not in rare[1:]))


def test_a_group_that_the_last_layer_does_not_see_is_named_without_control_of_the_terminal(table: ImageTable) -> None:
    names = ("\x1b[31mred", *table.group_names[1:])
    seen = tuple(sample for sample in table.samples if sample.split != "val" or sample.group != 0)
    method, model = make_method(tiny_config(method="dfr")), make_method(tiny_config(method="erm")).build(["a", "b"])
    said = method.follow(model, replace(table, group_names=names, samples=seen))
    assert said == "warning: no validation image of \\x1b[31mred, so the last layer sees none"


def test_the_worse_group_weighs_more() -> None:
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    losses = torch.tensor([0.0, 1.0, 2.0])
    grown = [0.5 * 1, 0.3 * 1.1051709, 0.2 * 1.2214028]  # e^0, e^0.1, e^0.2
    expected = torch.tensor([value / sum(grown) for value in grown], dtype=torch.float64)
    torch.testing.assert_close(updated_group_weights(weights, losses, 0.1), expected, atol=1e-7, rtol=0)


def test_group_means_against_a_loop() -> None:
    losses, groups = torch.rand(20), torch.randint(0, 3, (20,))
    expected = torch.stack([losses[groups == group].mean() for group in range(3)])
    torch.testing.assert_close(group_means(losses, groups, 4), torch.cat([expected, torch.zeros(1)]))


def test_group_dro_is_cross_entropy_weighed_by_group(table: ImageTable) -> None:
    method: Any = make_method(tiny_config(method="group_dro", robustness__group_step=0.5))
    method.prepare(table)
    model = method.build(table.class_names)
    batch = Batch(
        images=torch.randn(4, 3, 48, 48),
        labels=torch.tensor([0, 0, 1, 1]),
        groups=torch.tensor([0, 1, 1, 3]),
        indices=torch.arange(4),
    )
    each = F.cross_entropy(model(batch.images).logits, batch.labels, reduction="none").detach().double()
    means = torch.stack([each[0], each[1:3].mean(), torch.tensor(0.0), each[3]])
    weights = (0.25 * (0.5 * means).exp()) / (0.25 * (0.5 * means).exp()).sum()
    loss = method.losses(model, batch, 0)["stage2"]
    torch.testing.assert_close(loss.double(), (weights * means).sum(), atol=1e-5, rtol=0)
    torch.testing.assert_close(method.state()["weights"], weights, atol=1e-6, rtol=0)


def test_groups_are_drawn_equally_often(table: ImageTable) -> None:
    assert list(table.select("train").group_counts().values()) == [3, 1, 3, 3]
    training = table.select("train").samples
    sampler = EpochSampler(len(training), seed=0, weights=balanced(table))
    counts: Counter[int | None] = Counter()
    for epoch in range(400):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(training)
        counts.update(training[draw.index].group for draw in draws)
    shares = [counts[group] / sum(counts.values()) for group in range(4)]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_jtt_draws_what_the_first_run_got_wrong_more_often(table: ImageTable) -> None:
    method: Any = make_method(tiny_config(method="jtt", robustness__upweight=7))
    assert (method.first_run.method, method.first_run.select_by) == ("erm", "last")
    first = PlainClassifier("test_vit", 2, pretrained=False, class_names=list(table.class_names), image_size=48)
    with torch.no_grad():
        first.classifier.head.weight.zero_()  # ties: always class 0
    gulls = sum(sample.label == 1 for sample in table.select("train").samples)
    assert f"{gulls} of 10 training images wrong" in method.follow(first.eval(), table)
    assert method.draw_weights(table) == [7.0 if s.label == 1 else 1.0 for s in table.select("train").samples]


def test_dfr_trains_the_last_layer_on_half_of_the_validation_split(table: ImageTable) -> None:
    method: Any = make_method(tiny_config(method="dfr"))
    own = method.prepare(table)
    held_out = {sample.name for sample in table.select("val").samples}
    train_half, val_half = ({s.name for s in own.select(split).samples} for split in ("train", "val"))
    assert train_half | val_half == held_out
    assert not train_half & val_half
    assert own.select("train").group_counts() == own.select("val").group_counts() == dict.fromkeys(table.group_names, 2)
    first = PlainClassifier("test_vit", 2, pretrained=False)
    method.follow(first, table)
    model = method.build(table.class_names)
    module = TrainingModule(model, method, table.group_names)
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["model.classifier.head.weight"]


def test_dfr_changes_nothing_else(table: ImageTable, tmp_path: Path) -> None:
    train(tiny_config(method="dfr", robustness__tuning_epochs=2), table, tmp_path / "run", say=lambda line: None)
    first, second = (ifam.load(tmp_path / name).state_dict() for name in (f"run/{FIRST}", "run"))
    assert {name for name in first if not torch.equal(first[name], second[name])} == {"classifier.head.weight"}


def test_masktune_goes_on_from_the_first_run(table: ImageTable, tmp_path: Path) -> None:
    config = tiny_config(method="masktune")
    first = train(replace(config, method="erm"), table, tmp_path / "erm", say=lambda line: None)
    train(config, table, tmp_path / "run", say=lambda line: None)
    one, other = (ifam.load(folder).state_dict() for folder in (first.folder, tmp_path / "run" / FIRST))
    assert all(torch.equal(one[name], other[name]) for name in one), "the first run is plain fine-tuning"
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 1, "one epoch"


def test_what_stands_out_is_two_deviations_above_the_mean() -> None:
    maps = torch.rand(3, 10, 10)  # uniform: nothing lies that far out
    maps[0, 2, 3] = 5
    maps[2] = 0
    assert stands_out(maps)[0].nonzero().tolist() == [[2, 3]]
    assert not stands_out(maps)[1:].any()
    # zeros, which a map has where nothing speaks for the class, count neither for the mean nor for the deviation
    maps[0, 5:] = 0
    positive = maps[0][maps[0] > 0].numpy()
    expected = maps[0].numpy() > positive.mean() + 2 * positive.std()
    np.testing.assert_array_equal(stands_out(maps)[0].numpy(), expected)


def test_what_stands_out_becomes_black(table: ImageTable) -> None:
    method: Any = make_method(tiny_config(method="masktune"))
    first = PlainClassifier("test_vit", 2, pretrained=False, image_size=48)
    method.follow(first, table)
    seen: list[Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, images: Tensor) -> Any:
            seen.append(images)
            return first(images)

    images = torch.randn(2, 3, 48, 48)
    batch = Batch(images=images, labels=torch.tensor([0, 1]), groups=torch.zeros(2).long(), indices=torch.arange(2))
    method.losses(Spy(), batch, 0)
    mask = stands_out(saliency(first, images))
    assert mask.any()
    pixels = first.preprocessing
    for channel in range(3):
        dark = -pixels.mean[channel] / pixels.std[channel]
        expected = torch.where(mask, torch.tensor(dark), images[:, channel])
        torch.testing.assert_close(seen[0][:, channel], expected)


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_saliency_is_gradient_times_activation(backbone: str) -> None:
    """Σ gradient · activation is the change of the score to first order when the features shrink."""
    model = PlainClassifier(backbone, 2, pretrained=False, image_size=48).eval()
    images = torch.randn(2, 3, 48, 48)
    maps = saliency(model, images)
    assert maps.shape == (2, 48, 48)
    assert (maps >= 0).all()
    assert maps.amax() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    one = saliency(model, images[1:])
    torch.testing.assert_close(one[0], maps[1], atol=1e-6, rtol=1e-4)


def test_saliency_finds_the_patch_that_decides(make_vit: Any) -> None:
    """In a transformer of one block that copies a patch's first channel to the class token, that patch alone counts."""
    vit = make_vit(depth=1)
    model = PlainClassifier(vit, 2).eval()
    images = torch.zeros(1, 3, 32, 32)
    images[0, :, 8:16, 16:24] = 3.0
    maps = saliency(model, images)
    best = int(model(images).logits.argmax())
    # against the definition: shrink one token's features at the input of the last block and watch the score
    block, expected = model.classifier.backbone.vit.blocks[0], torch.zeros(16)
    base = model(images).logits[0, best]
    for token in range(16):

        def shrink(module: object, inputs: object, output: Tensor, token: int = token) -> Tensor:
            scaled = output.clone()
            scaled[:, 1 + token] *= 1 - 1e-3
            return scaled

        hook = block.norm1.register_forward_hook(shrink)
        expected[token] = (base - model(images).logits[0, best]) / 1e-3
        hook.remove()
    small = F.adaptive_avg_pool2d(maps[:, None], 4).flatten()
    positive = expected.detach().relu()
    if positive.max() > 0:
        assert int(small.argmax()) == int(positive.argmax())


def test_interrupted_in_the_first_run_and_resumed(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(method="group_dro"), tiny_config(method="jtt")
    for chosen in config:
        straight, resumed = (tmp_path / f"{chosen.method}-{name}" for name in ("straight", "resumed"))
        train(chosen, table, straight, say=lambda line: None)
        start = TrainingModule.on_train_epoch_start

        def stop(module: TrainingModule, start: Any = start) -> None:
            start(module)
            if module.current_epoch == 1:
                raise DataError("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(TrainingModule, "on_train_epoch_start", stop)
            with pytest.raises(DataError, match="stopped"):
                train(chosen, table, resumed, say=lambda line: None)
        assert (resumed / FIRST / LAST).is_file() == (chosen.method == "jtt")
        train(chosen, table, resumed, resume=True, say=lambda line: None)
        one, other = (ifam.load(folder).state_dict() for folder in (straight, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["group_dro", "dfr"])
def test_methods_that_need_groups_say_so(method: str, table: ImageTable, tmp_path: Path, refuses_line: Any) -> None:
    unknown = replace(table, group_names=(), samples=tuple(replace(sample, group=None) for sample in table.samples))
    with refuses_line("a group for every image", method, error=DataError):
        train(tiny_config(method=method), unknown, tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run/model.safetensors").exists()


def test_masks_and_an_augmentation_that_leaves_them_behind(
    table: ImageTable, tmp_path: Path, refuses_line: Any
) -> None:
    with refuses_line("augmentation", "moves masks along", "imagenet"):
        train(tiny_config(method="early_mask", augmentation="imagenet"), table, tmp_path / "run")


def test_the_first_run_is_described(table: ImageTable, tmp_path: Path) -> None:
    lines: list[str] = []
    train(tiny_config(method="jtt", robustness__first_epochs=1), table, tmp_path / "run", say=lines.append)
    assert any(line.startswith("first run") for line in lines)
    assert json.loads((tmp_path / "run" / FIRST / "data.json").read_text())["images"] == len(table)
