from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import ifam
from ifam.data.transforms import test_transform as view_of
from ifam.errors import DataError, UsageError
from ifam.explanations.explanation import Explanation
from ifam.model.classifier import PlainClassifier
from ifam.model.two_stage import IFAM


@pytest.fixture
def model(make_model: Any) -> IFAM:
    model: IFAM = make_model(num_classes=2, class_names=["cat", "dog"])
    model.token_thresholds = {0.5: [400.0] * 3, 0.9: [1e9] * 3}
    return model


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """A photograph that is not square, and of another size than the model's 32 × 32."""
    coarse = np.random.default_rng(3).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((72, 48), Image.Resampling.BICUBIC))


def same(a: Explanation, b: Explanation, tolerance: float = 0) -> bool:
    return (
        (a.label, a.index, a.kept) == (b.label, b.index, b.kept)
        and bool(np.allclose(a.probabilities, b.probabilities, rtol=0, atol=tolerance))
        and np.array_equal(a.parts, b.parts)
        and np.array_equal(a.mask, b.mask)
        and np.abs(a.image.astype(int) - b.image).max() <= 255 * tolerance
    )


def test_the_same_image_in_every_form(model: IFAM, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "photograph.png"
    Image.fromarray(pixels).save(path)
    from_path = ifam.explain(model, path)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for image in (str(path), Image.fromarray(pixels), pixels, tensor):
        assert same(ifam.explain(model, image), from_path)
    # floats are not rounded to eight bits when they are resized
    assert same(ifam.explain(model, tensor / 255), from_path, tolerance=0.02)


def test_a_photograph_that_lies_on_its_side(model: IFAM, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    path, exif = tmp_path / "photograph.png", Image.Exif()
    exif[0x0112] = 6  # rotate by 90° to show
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as lying:
        assert same(ifam.explain(model, lying), ifam.explain(model, path))
    upright = np.ascontiguousarray(np.rot90(pixels, -1))
    assert same(ifam.explain(model, path), ifam.explain(model, upright))


def test_what_the_model_says(model: IFAM, pixels: NDArray[np.uint8]) -> None:
    explanation = ifam.explain(model, pixels)
    view = view_of(model.preprocessing)(Image.fromarray(pixels))[None]
    with torch.inference_mode():
        out = model(view)
    assert explanation.probabilities == pytest.approx(out.logits.softmax(1)[0].numpy(), abs=1e-6)
    assert explanation.index == int(out.logits.argmax())
    assert explanation.label == ["cat", "dog"][explanation.index]
    assert explanation.probability == explanation.probabilities.max()
    assert np.array_equal(explanation.parts, out.parts[0].numpy())
    assert np.array_equal(explanation.mask, out.mask[0].numpy())
    assert explanation.kept == pytest.approx(explanation.mask.mean())


def test_the_photograph_is_the_centre_in_its_own_colours(model: IFAM) -> None:
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, 16:48] = (200, 30, 120)
    explanation = ifam.explain(model, pixels)
    assert explanation.image.shape == (32, 32, 3)
    assert np.abs(explanation.image.astype(int) - (200, 30, 120)).max() <= 1


def test_a_list(model: IFAM, pixels: NDArray[np.uint8]) -> None:
    turned = np.ascontiguousarray(pixels[::-1])
    first, second = ifam.explain(model, [pixels, Image.fromarray(turned)])
    assert same(first, ifam.explain(model, pixels))
    assert same(second, ifam.explain(model, turned))
    assert ifam.explain(model, []) == []


def test_removal_adds_up_and_reuses_stage_1(
    model: IFAM, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    discover = model.discover
    monkeypatch.setattr(model, "discover", lambda images: (calls.append(1), discover(images))[1])
    whole = ifam.explain(model, pixels)
    step = whole.without(parts=[0]).without(token_quantile=0.5).without(parts=[0, 2], token_quantile=0.9)
    assert calls == [1]
    assert (step.removed_parts, step.token_quantile) == ((0, 2), 0.5)  # nothing comes back
    assert (whole.removed_parts, whole.token_quantile) == ((), None)
    view = view_of(model.preprocessing)(Image.fromarray(pixels))[None]
    with torch.inference_mode():
        out = model(view, remove_parts=[0, 2], token_quantile=0.5)
    assert np.array_equal(step.parts, out.parts[0].numpy())
    assert step.probabilities == pytest.approx(out.logits.softmax(1)[0].numpy(), abs=1e-6)
    assert not np.isin(step.parts, (0, 2)).any()


def test_a_mask_by_hand_is_not_the_models_to_reduce(model: IFAM, pixels: NDArray[np.uint8], refuses_line: Any) -> None:
    whole = ifam.explain(model, pixels)
    painted = whole.with_mask(~whole.mask)
    assert (painted.by_hand, whole.by_hand) == (True, False)
    assert np.array_equal(painted.mask, ~whole.mask)
    for ask in (painted.without, painted.shapley, painted.plot_shapley):
        with refuses_line("the model's own mask, got one made by hand"):
            ask()
    assert np.array_equal(whole.with_mask(whole.mask).probabilities, whole.probabilities)


def test_no_evidence(model: IFAM, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    nothing = ifam.explain(model, pixels).without(parts=range(3))
    assert (nothing.kept, nothing.has_evidence) == (0, False)
    assert (nothing.parts == 3).all()
    assert np.isfinite(nothing.probability)
    assert nothing.plot().get_suptitle() == "no evidence"
    nothing.save(tmp_path / "nothing.png")


def test_pictures(model: IFAM, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    explanation = ifam.explain(model, pixels)
    assert explanation.plot().get_suptitle().startswith(explanation.label)
    for name in ("x.png", "new/x.jpg"):
        explanation.save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    with pytest.raises(UsageError, match=r"\.png"):
        explanation.save(tmp_path / "x.txt")


def test_models_that_cannot_be_explained(
    model: IFAM, make_vit: Any, pixels: NDArray[np.uint8], refuses_line: Any
) -> None:
    with refuses_line("training mode", "model.eval()"):
        ifam.explain(model.train(), pixels)
    plain: Any = PlainClassifier(make_vit(), 2).eval()
    with refuses_line("two-stage", "PlainClassifier"):
        ifam.explain(plain, pixels)


def test_the_first_stage_alone(make_model: Any, pixels: NDArray[np.uint8]) -> None:
    explanation = ifam.explain(make_model(num_classes=2, second_stage=False), pixels)
    assert explanation.probabilities.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), dtype=np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 4), dtype=np.uint8),
        torch.zeros(1, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.int64),
        torch.full((3, 8, 8), 2.0),
        torch.full((3, 8, 8), torch.nan),
        3,
        None,
        np.zeros((0, 8, 3), dtype=np.uint8),
        torch.zeros(3, 0, 8),
    ],
    ids=lambda image: f"{type(image).__name__}{tuple(getattr(image, 'shape', ()))}{getattr(image, 'dtype', '')}",
)
def test_what_is_no_image(model: IFAM, image: Any, refuses_line: Any) -> None:
    with refuses_line("image: expected"):
        ifam.explain(model, image)


def test_files_that_cannot_be_read(model: IFAM, tmp_path: Path, refuses_line: Any) -> None:
    with refuses_line(tmp_path / "none.png", error=DataError):
        ifam.explain(model, tmp_path / "none.png")


def test_interventions_out_of_range(model: IFAM, pixels: NDArray[np.uint8], refuses_line: Any) -> None:
    explanation = ifam.explain(model, pixels)
    with refuses_line("remove_parts", "0 to 2", "3"):
        explanation.without(parts=[3])
    with refuses_line("0.5, 0.9", "0.7"):
        explanation.without(token_quantile=0.7)


@pytest.mark.parametrize(
    ("options", "faithful"), [({}, True), ({"soft_masks": True}, False), ({"second_stage": False}, False)]
)
def test_pictures_claim_no_more_than_the_model_keeps(
    make_model: Any, pixels: NDArray[np.uint8], options: Any, faithful: bool
) -> None:
    explanation = ifam.explain(make_model(num_classes=2, **options), pixels)
    assert explanation.is_faithful == faithful
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in explanation.plot().axes]
    assert any(title.startswith("seen by stage 2") for title in titles) == faithful


def test_stage_1_alone_answers_without_a_part(make_model: Any, pixels: NDArray[np.uint8]) -> None:
    model = make_model(num_classes=2, second_stage=False)
    explanation = ifam.explain(model, pixels).without(parts=[0])
    expected = model(explanation._view, remove_parts=[0]).logits.softmax(1)[0]
    np.testing.assert_array_equal(explanation.probabilities, expected.detach().numpy())
