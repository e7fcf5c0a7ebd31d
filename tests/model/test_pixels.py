"""Evidence in pixels: of the selected patches stage 2 reads what lies inside the outline of the parts alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ifam
from ifam.errors import UsageError
from ifam.exporting.graphs import make_graph
from ifam.model.masked import MaskedClassifier
from ifam.model.pixels import enlarge, foreground_margin, only
from ifam.model.two_stage import IFAM

FILLS = {"noise": None, "infinity": torch.inf, "no number": torch.nan}
INTERVENTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "a part removed": {"remove_parts": [0]},
    "unsure tokens removed": {"token_quantile": 0.9},
    "both": {"remove_parts": [1], "token_quantile": 0.9},
}


def make(num_parts: int = 4, dtype: torch.dtype = torch.float32, evidence: str = "pixels") -> IFAM:
    torch.manual_seed(0)
    model: Any = ifam.IFAM(
        "vit_tiny_patch16_224",
        num_parts,
        3,
        (72, 64),
        pretrained=False,
        evidence=evidence,  # type: ignore[arg-type]
    )
    model.token_thresholds = {0.9: [191.0] * num_parts}
    found: IFAM = model.to(dtype).eval()
    return found


def draw(count: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 72, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


def patches(mask: Tensor) -> Tensor:
    return mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :72, :64]


# the outline


def test_the_margin_is_that_of_the_best_surviving_part_over_all_else() -> None:
    logits = torch.randn(2, 4, 3, 5)
    survives = torch.tensor([[True, False, True], [False, False, False]])
    found = foreground_margin(logits, survives)
    torch.testing.assert_close(
        found[0], torch.maximum(logits[0, 0], logits[0, 2]) - torch.maximum(logits[0, 1], logits[0, 3])
    )
    assert (found[1] < -1000).all()
    assert torch.equal(foreground_margin(logits), foreground_margin(logits, torch.ones(2, 3, dtype=torch.bool)))
    assert torch.equal(foreground_margin(logits) > 0, logits.argmax(1) < 3)


def test_between_the_centres_of_patches_the_margin_is_linear() -> None:
    values = torch.tensor([[[1.0, -3.0]]])
    found = enlarge(values, (2, 4), (2, 7))
    assert found.shape == (1, 2, 7)
    # centres of patches lie at 2 and 6 pixels; pixels at 0.5, 1.5, ...
    expected = np.interp(np.arange(7) + 0.5, [2, 6], [1, -3])
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-6)


def test_where_no_part_is_left_nothing_is_inside() -> None:
    margin = foreground_margin(torch.randn(1, 3, 4, 4), torch.zeros(1, 2, dtype=torch.bool))
    assert not (enlarge(margin, (16, 16), (64, 64)) > 0).any()


def test_what_is_outside_becomes_0_whatever_it_was() -> None:
    images = torch.tensor([torch.inf, torch.nan, 2.0]).expand(1, 3, 1, 3)
    assert only(images, torch.tensor([[[False, False, True]]])).tolist() == [[[[0.0, 0.0, 2.0]]] * 3]


# what the model says of it


@torch.inference_mode()
def test_pixels_lie_in_the_patches_of_the_mask_inside_the_outline() -> None:
    model, images = make(), draw()
    out = model(images)
    outline = enlarge(foreground_margin(out.part_logits), (16, 16), (72, 64)) > 0
    assert torch.equal(out.pixels, patches(out.mask) & outline)
    assert 0 < out.pixels.sum() < patches(out.mask).sum()
    whole = make(evidence="patches")(images)
    assert torch.equal(whole.mask, out.mask)
    assert torch.equal(whole.pixels, patches(out.mask))
    assert not torch.equal(whole.logits, out.logits)


@torch.inference_mode()
def test_the_pixels_of_a_removed_part_go_too() -> None:
    model, images = make(), draw()
    before, after = model(images), model(images, remove_parts=[0])
    own = foreground_margin(after.part_logits, torch.tensor([[False, True, True, True]]).expand(4, -1))
    assert torch.equal(after.pixels, patches(after.mask) & (enlarge(own, (16, 16), (72, 64)) > 0))
    assert after.pixels.sum() < before.pixels.sum()
    assert not model(images, remove_parts=[0, 1, 2, 3]).pixels.any()


@torch.inference_mode()
def test_a_mask_by_hand_consists_of_whole_patches() -> None:
    model, images = make(), draw()
    mask = torch.rand(4, 5, 4) < 0.5
    out = model(images, mask=mask)
    assert torch.equal(out.pixels, patches(mask))
    assert torch.equal(out.logits, model.classify(images, mask))


# the guarantee


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("num_parts", [1, 4])
@torch.inference_mode()
def test_pixels_outside_the_evidence_change_no_bit(
    num_parts: int, dtype: torch.dtype, intervention: str, fill: str
) -> None:
    options = INTERVENTIONS[intervention]
    if num_parts == 1:
        options = {name: value for name, value in options.items() if name != "remove_parts"}
    model, images = make(num_parts, dtype), draw(dtype=dtype)
    discovery = model.discover(images)
    out = model.answer(images, discovery, **options)
    other = torch.randn_like(images) if FILLS[fill] is None else torch.full_like(images, FILLS[fill])
    outside = torch.where(out.pixels[:, None], images, other)
    assert torch.equal(model.answer(outside, discovery, **options).logits, out.logits)
    assert torch.equal(model.classify(outside, out.mask, out.pixels), out.logits)
    inside = torch.where(out.pixels[:, None], images + 1, images)
    moved = (model.classify(inside, out.mask, out.pixels) != out.logits).any(1)
    assert torch.equal(moved, out.pixels.flatten(1).any(1))


@torch.inference_mode()
def test_every_coalition_of_masks_reads_its_own_pixels() -> None:
    model, images = make(), draw(2)
    masks, pixels = torch.rand(2, 3, 5, 4) < 0.6, torch.rand(2, 3, 72, 64) < 0.5
    found = model.classify_each(images, masks, pixels)
    for image in range(2):
        for number in range(3):
            one = model.classify(only(images, pixels[:, number])[[image]], masks[image, number][None])
            torch.testing.assert_close(found[image, number], one[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_shapley_values_are_those_of_removing_parts() -> None:
    model = make(3)
    explanation = ifam.explain(model, np.random.default_rng(0).integers(0, 255, (72, 64, 3), dtype=np.uint8))
    present = [part for part in range(3) if (explanation.parts == part).any()]
    assert len(present) >= 2
    view = explanation._view
    found = explanation.shapley()
    np.testing.assert_allclose(found.everything, model(view).logits[0].numpy(), atol=1e-5)
    rest = [part for part in present if part != present[0]]
    alone = model(view, remove_parts=rest).logits[0].double().numpy()
    without = model(view, remove_parts=[present[0]]).logits[0].double().numpy()
    if len(present) == 2:
        expected = (alone - found.nothing + found.everything - without) / 2
        np.testing.assert_allclose(found.values[present[0]], expected, atol=1e-5)


@torch.inference_mode()
def test_the_graph_that_is_exported_answers_alike() -> None:
    model, images = make(), draw()
    graph = make_graph(model)
    on = torch.tensor([[True, False, True, True]]).expand(4, -1)
    found, expected = graph(images, on), model(images, remove_parts=[1])
    assert torch.equal(found["pixels"], expected.pixels)
    torch.testing.assert_close(found["logits"], expected.logits, rtol=0, atol=1e-5)
    before = graph(images, torch.ones(4, 4, dtype=torch.bool))["logits"]
    assert not torch.allclose(found["logits"], before, atol=1e-4)


# options


def test_training_reads_whole_patches() -> None:
    """Blank surroundings would teach the silhouette: there the backgrounds of other photographs take their place."""
    images, logits = draw(), []
    for evidence in ("patches", "pixels"):
        model = make(evidence=evidence)
        model.train()
        model.stage2_part_dropout, model.mask_noise = 0.0, 0.0
        selection = model.select(model.eval().discover(images))
        model.train()
        logits.append(model.second_stage(images, selection))
    assert torch.equal(*logits)


@torch.inference_mode()
def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model, images = make(), draw()
    ifam.save(model, tmp_path / "model")
    again = ifam.load(tmp_path / "model")
    assert isinstance(again, IFAM)
    assert again.evidence == "pixels"
    assert torch.equal(again(images).logits, model(images).logits)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="evidence: expected patches or pixels, got 'tokens'"):
        make(evidence="tokens")
    with pytest.raises(UsageError, match="evidence: expected patches with soft masks"):
        ifam.IFAM("vit_tiny_patch16_224", 2, 2, 64, pretrained=False, soft_masks=True, evidence="pixels")
    for options in ({"masking": "late"}, {"masking": "early", "masks": "tokencut"}):
        with pytest.raises(UsageError, match="evidence: expected patches with"):
            MaskedClassifier("vit_tiny_patch16_224", 2, 64, pretrained=False, evidence="pixels", **options)  # type: ignore[arg-type]
    model, images = make(), draw()
    mask = torch.ones(4, 5, 4, dtype=torch.bool)
    with pytest.raises(UsageError, match=r"pixels: expected bool of shape \(4, 72, 64\)"):
        model.classify(images, mask, mask)


@torch.inference_mode()
def test_a_classifier_with_given_masks_keeps_to_their_pixels() -> None:
    torch.manual_seed(0)
    model = MaskedClassifier(
        "vit_tiny_patch16_224", 2, (72, 64), masking="early", pretrained=False, evidence="pixels"
    ).eval()
    images, pixels = draw(), torch.rand(4, 72, 64) < 0.6
    mask = model.token_mask(pixels)
    out = model(images, mask, pixels)
    assert torch.equal(out.pixels, patches(mask) & pixels)
    poisoned = torch.where(out.pixels[:, None], images, torch.inf)
    assert torch.equal(model(poisoned, mask, pixels).logits, out.logits)
    assert torch.equal(model(images, mask).pixels, patches(mask))
