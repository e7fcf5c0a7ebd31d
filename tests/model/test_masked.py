from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ifam
from ifam.errors import UsageError
from ifam.model.classifier import PlainClassifier
from ifam.model.masked import MaskedClassifier, mean_of_selected
from ifam.model.tokencut import token_cut
from ifam.storage import save


def build(make_vit: Any, masking: Any, **options: Any) -> MaskedClassifier:
    return MaskedClassifier(make_vit(), num_classes=3, masking=masking, **options).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32)


@pytest.fixture
def mask() -> Tensor:
    return torch.rand(2, 4, 4) > 0.5


@torch.inference_mode()
def test_early_masking_reads_nothing_else_and_late_masking_does(make_vit: Any, images: Tensor, mask: Tensor) -> None:
    outside = ~mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    changed = torch.where(outside, torch.randn_like(images), images)
    early, late = (build(make_vit, masking) for masking in ("early", "late"))
    assert torch.equal(early(images, mask).logits, early(changed, mask).logits)
    assert not torch.allclose(late(images, mask).logits, late(changed, mask).logits)
    assert (early.is_faithful, late.is_faithful) == (True, False)


@torch.inference_mode()
def test_late_masking_averages_the_selected_tokens(make_vit: Any, images: Tensor, mask: Tensor) -> None:
    late = build(make_vit, "late")
    tokens = late.classifier.backbone(images)[:, late.classifier.backbone.num_prefix_tokens :]
    for image in range(2):
        pooled = tokens[image][mask[image].flatten()].mean(0)
        expected = late.classifier.head(late.classifier.norm(pooled))
        torch.testing.assert_close(late(images, mask).logits[image], expected)
    out = late(images, mask)
    torch.testing.assert_close(out.kept, mask.float().mean((1, 2)))


def test_nothing_selected_is_finite(make_vit: Any, images: Tensor) -> None:
    nothing = torch.zeros(2, 4, 4, dtype=torch.bool)
    for masking in ("early", "late"):
        assert build(make_vit, masking)(images, nothing).logits.isfinite().all()
    assert not mean_of_selected(torch.randn(2, 4, 4, 5), nothing).any()


@torch.inference_mode()
def test_with_everything_selected_early_masking_is_the_plain_classifier(make_vit: Any, images: Tensor) -> None:
    early, everything = build(make_vit, "early"), torch.ones(2, 4, 4, dtype=torch.bool)
    plain = PlainClassifier(early.classifier.backbone.vit, num_classes=3).eval()
    plain.load_state_dict(early.state_dict())
    torch.testing.assert_close(early(images, everything).logits, plain(images).logits)


def test_a_patch_is_selected_by_the_share_of_it_that_a_mask_covers(make_vit: Any) -> None:
    pixels = torch.zeros(1, 32, 32, dtype=torch.bool)
    pixels[0, 8:16, 4:16] = True  # one whole patch and half of the one to its left
    pixels[0, 16:19, 8:16] = True  # three eighths of the one below
    for coverage, expected in ((0.5, {(1, 0), (1, 1)}), (0.51, {(1, 1)}), (0.375, {(1, 0), (1, 1), (2, 1)})):
        found = build(make_vit, "early", coverage=coverage).token_mask(pixels)[0].nonzero().tolist()
        assert {(row, column) for row, column in found} == expected


@torch.inference_mode()
def test_tokencut_looks_with_the_backbone_as_it_was(make_vit: Any, images: Tensor) -> None:
    model = build(make_vit, "early", masks="tokencut", tokencut_features="keys", tokencut_threshold=0.3)
    assert model.selector is not None
    expected = token_cut(model.selector.keys(images), threshold=0.3)
    for parameter in model.classifier.parameters():
        parameter.add_(torch.randn_like(parameter))
    assert torch.equal(model(images).mask, expected)
    assert not any(parameter.requires_grad for parameter in model.selector.parameters())


@torch.inference_mode()
def test_tokencut_on_tokens(make_vit: Any, images: Tensor) -> None:
    model = build(make_vit, "late", masks="tokencut")
    assert model.selector is not None
    tokens = model.selector(images)[:, model.selector.num_prefix_tokens :].view(2, 4, 4, -1)
    assert torch.equal(model(images).mask, token_cut(tokens))


@torch.inference_mode()
def test_saved_and_loaded(make_vit: Any, images: Tensor, mask: Tensor, tmp_path: Path) -> None:
    for options in ({"masking": "late", "coverage": 0.7}, {"masking": "early", "masks": "tokencut"}):
        model = build(make_vit, **options)
        save(model, tmp_path / str(options["masking"]))
        loaded = ifam.load(tmp_path / str(options["masking"]))
        assert isinstance(loaded, MaskedClassifier)
        assert (loaded.masking, loaded.masks, loaded.coverage) == (model.masking, model.masks, model.coverage)
        assert torch.equal(loaded(images, mask).logits, model(images, mask).logits)


def test_what_is_refused(make_vit: Any, images: Tensor, mask: Tensor, refuses_line: Any) -> None:
    with refuses_line("masking", "early or late", "middle"):
        build(make_vit, "middle")
    model = build(make_vit, "early")
    with refuses_line("mask", "annotated", "data set"):
        model(images)
    with refuses_line("mask", "(2, 4, 4)"):
        model(images, mask[:1])


@torch.inference_mode()
def test_a_plain_classifier_may_read_the_mean_of_its_patches_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_classes": 3, "image_size": 64, "pretrained": False}
    model = PlainClassifier("vit_tiny_patch16_224", **options, readout="class_token_and_mean").eval()
    images = torch.randn(2, 3, 64, 64)
    tokens = model.classifier.backbone(images)  # type: ignore[operator]
    both = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    torch.testing.assert_close(model(images).logits, model.classifier.head(model.classifier.norm(both)))
    ifam.save(model, tmp_path)
    again = ifam.load(tmp_path)
    assert isinstance(again, PlainClassifier)
    assert again.readout == "class_token_and_mean"
    assert torch.equal(again(images).logits, model(images).logits)
    with pytest.raises(UsageError, match="readout: expected class_token of a network without patch tokens"):
        PlainClassifier("test_resnet", **options, readout="class_token_and_mean")
    with pytest.raises(UsageError, match="readout: expected class_token or class_token_and_mean, got 'mean'"):
        PlainClassifier("vit_tiny_patch16_224", **options, readout="mean")  # type: ignore[arg-type]
