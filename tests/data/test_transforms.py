import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision import tv_tensors
from torchvision.transforms import v2

from ifam.data import transforms
from ifam.data.rand_augment import RandAugment
from ifam.data.transforms import AUGMENTATIONS, train_transform
from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing

GEOMETRIC = ["birds", "light", "none", "xray"]


def preprocessing(image_size=(48, 40), resize="crop"):
    return Preprocessing(image_size=image_size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), resize=resize)


def dotted(x, y, size=(80, 70)):
    """A black image with a white square of 9 pixels around (x, y), its mask, and the point."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    mask[y - 4 : y + 5, x - 4 : x + 5] = 1
    return {
        "image": Image.fromarray(np.repeat(255 * mask[:, :, None], 3, axis=2)),
        "mask": tv_tensors.Mask(mask),
        "keypoints": tv_tensors.KeyPoints([[x + 0.5, y + 0.5]], canvas_size=(height, width)),
    }


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("augmentation", GEOMETRIC)
def test_mask_and_keypoint_move_with_the_image(augmentation, resize):
    transform = train_transform(preprocessing(resize=resize), augmentation)
    seen = 0
    for seed in range(12):
        torch.manual_seed(seed)
        out = transform(dotted(34, 40))
        assert out["image"].shape == (3, 48, 40)
        assert out["mask"].shape == (48, 40)
        # green, which the change of light leaves alone; what rotation uncovers has the mean colour, below the middle
        bright = out["image"][1] * 0.25 + 0.4 > 0.5
        mask = out["mask"].bool()
        assert (bright ^ mask).sum() <= 0.35 * max(mask.sum(), 12)  # they differ on the rim at most
        if mask.sum() > 20:
            rows, columns = mask.nonzero().double().unbind(1)
            centre = torch.stack([columns.mean(), rows.mean()]) + 0.5
            assert (out["keypoints"][0] - centre).norm() < 1.5
            seen += 1
    assert seen >= 8


def test_crop_keeps_the_aspect_ratio_and_the_centre():
    x = np.zeros((20, 60, 3), np.uint8)
    x[:, 20:40] = 255  # the centre third
    out = transforms.test_transform(preprocessing((10, 10)))(Image.fromarray(x))
    assert out.shape == (3, 10, 10)
    assert (out[0, :, 1:-1] == (1 - 0.5) / 0.2).all()


@pytest.mark.parametrize("size", [(256, 256), (640, 320), (200, 300)])
def test_a_crop_ratio_scales_further_and_cuts_a_border(size):
    """As on ImageNet: the short side becomes 256, of which 224 stay; beside torchvision's own pair of transforms."""
    x = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    view = replace(preprocessing((224, 224)), crop_ratio=0.875)
    found = transforms.test_transform(view)(x)
    usual = v2.Compose([v2.ToImage(), v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True)])
    usual_crop = v2.Compose([usual, v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True)])
    expected_view = v2.functional.normalize(usual_crop(x), list(view.mean), list(view.std))
    torch.testing.assert_close(found, expected_view.as_subclass(torch.Tensor))
    assert not torch.equal(found, transforms.test_transform(view.whole())(x))


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, float("nan")])
def test_a_crop_ratio_that_cannot_be(ratio, refuses):
    with refuses("crop ratio", "(0, 1]", error=UsageError):
        Preprocessing(image_size=(8, 8), crop_ratio=ratio)


def test_a_description_from_before_crop_ratios_has_none():
    old = preprocessing().to_dict()
    del old["crop_ratio"]
    assert Preprocessing.from_dict(old) == preprocessing()
    cut = replace(preprocessing(), crop_ratio=0.875)
    assert Preprocessing.from_dict(cut.to_dict()) == cut


def test_rand_augment_is_the_published_one():
    """Magnitude 6 of timm's scale to 10, deviation 0.5, operations whose strength does not grow with it included."""
    augment = RandAugment(preprocessing((224, 224))).augment
    assert {(op.magnitude, op.magnitude_std) for op in augment.ops} == {(6, 0.5)}
    published = rand_augment_transform("rand-m6-mstd0.5", {})
    assert [op.name for op in augment.ops] == [op.name for op in published.ops]


def test_squash_keeps_everything():
    x = np.zeros((20, 60, 3), np.uint8)
    x[:, :30] = 255
    out = transforms.test_transform(preprocessing((10, 10), resize="squash"))(Image.fromarray(x))
    assert (out[0, :, :4] > 2).all()
    assert (out[0, :, 6:] < -2).all()


def test_a_mask_takes_the_pixel_in_the_middle():
    mask = np.random.default_rng(0).integers(0, 2, (30, 30), dtype=np.uint8)
    transform = transforms.test_transform(preprocessing((10, 10)))
    out = transform({"image": Image.new("RGB", (30, 30)), "mask": tv_tensors.Mask(mask)})
    assert torch.equal(out["mask"], torch.from_numpy(mask[1::3, 1::3].copy()))


@given(st.tuples(*[st.integers(1, 60)] * 4))
@settings(deadline=None, max_examples=60)
def test_any_size_becomes_the_image_size(sizes):
    height, width, *image_size = sizes
    for augmentation in ("none", "light"):
        transform = train_transform(preprocessing(tuple(image_size)), augmentation)
        assert transform(Image.new("RGB", (width, height))).shape == (3, *image_size)


def test_normalisation():
    out = transforms.test_transform(preprocessing())(Image.new("RGB", (40, 48), (255, 0, 51)))
    assert out.dtype == torch.float32
    assert type(out) is torch.Tensor
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([2.5, -1.6, -0.2]))


def test_pictures_arrays_and_tensors_give_the_same_bits():
    array = np.random.default_rng(0).integers(0, 256, (61, 50, 3), dtype=np.uint8)
    transform = transforms.test_transform(preprocessing())
    picture = transform(Image.fromarray(array))
    assert torch.equal(picture, transform(array))
    assert torch.equal(picture, transform(torch.from_numpy(array).permute(2, 0, 1)))


def test_what_rotation_uncovers_is_zero_after_normalisation():
    transform = train_transform(preprocessing(), "birds")
    white = Image.new("RGB", (40, 48), "white")
    torch.manual_seed(1)
    out = transform(white)
    assert (out == 0).all(0).any()


@pytest.mark.parametrize("augmentation", [name for name in AUGMENTATIONS if name != "none"])
def test_views_follow_torchs_generator_alone(augmentation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 50, 3), dtype=np.uint8))
    transform = train_transform(preprocessing(), augmentation)
    views = []
    for seed in (0, 1, 2, 3, 4, 5) * 2:
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        views.append(transform(image))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
        random.random()
        np.random.rand()
    assert all(torch.equal(*pair) for pair in zip(views[:6], views[6:], strict=True))
    assert any(not torch.equal(views[0], view) for view in views[1:6])


def test_imagenet_is_for_images_alone(refuses):
    transform = train_transform(preprocessing(), "imagenet")
    with refuses("imagenet", "masks", error=UsageError):
        transform(dotted(34, 40))


def test_unknown_augmentation(refuses):
    with refuses("'bird'", "birds, xray", error=UsageError):
        train_transform(preprocessing(), "bird")
