import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from ifam.data.planckian import PlanckianJitter, planckian_gains


def test_daylight_changes_nothing():
    assert planckian_gains(6500) == pytest.approx((1, 1, 1), abs=1e-12)


@given(st.tuples(st.floats(2000, 20000), st.floats(2000, 20000)).filter(lambda pair: pair[1] - pair[0] > 1))
def test_hotter_is_bluer(pair):
    (cool_red, cool_green, cool_blue), (hot_red, hot_green, hot_blue) = map(planckian_gains, pair)
    assert cool_red > hot_red
    assert cool_blue < hot_blue
    assert cool_green == hot_green == 1


def test_against_plancks_law_in_full():
    # spectral radiance 2hc²/λ⁵ / (exp(hc/λkT) − 1), in SI units
    h, c, k = 6.62607015e-34, 2.99792458e8, 1.380649e-23

    def radiance(nm, kelvin):
        length = nm * 1e-9
        return 2 * h * c**2 / length**5 / (math.exp(h * c / (length * k * kelvin)) - 1)

    red, green, blue = (radiance(nm, 3000) / radiance(nm, 6500) for nm in (612, 549, 464))
    assert planckian_gains(3000) == pytest.approx((red / green, 1, blue / green), rel=1e-5)


def test_only_images_change():
    image = tv_tensors.Image(torch.full((3, 4, 5), 0.5))
    mask = tv_tensors.Mask(torch.ones(4, 5, dtype=torch.uint8))
    points = tv_tensors.KeyPoints([[1.0, 2.0]], canvas_size=(4, 5))
    out = PlanckianJitter(3000, 3001)({"image": image, "mask": mask, "keypoints": points})
    assert torch.equal(out["mask"], mask)
    assert torch.equal(out["keypoints"], points)
    red, green, blue = out["image"][:, 0, 0]
    assert (green, image[0, 0, 0]) == (0.5, 0.5)  # the input is not written to
    assert red == pytest.approx(0.5 * planckian_gains(3000)[0], abs=1e-3)
    assert blue < 0.25


def test_stays_in_range():
    assert PlanckianJitter()(tv_tensors.Image(torch.ones(3, 2, 2))).max() <= 1
