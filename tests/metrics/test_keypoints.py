"""The published keypoint regression beside a reference in NumPy, written from the description of the protocol."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifam.errors import UsageError
from ifam.metrics import KeypointRegression, PublishedKeypointRegression, inside_box, keypoint_error

Array = NDArray[np.float64]


def scene(num_images: int, seed: int, num_parts: int = 3, num_keypoints: int = 4) -> dict[str, Tensor]:
    """Objects anywhere and of any size, whose parts and keypoints lie at the same places in their boxes."""
    generator = torch.Generator().manual_seed(seed)
    sides = 0.2 + 0.5 * torch.rand(num_images, 2, generator=generator)
    corners = (1 - sides) * torch.rand(num_images, 2, generator=generator)
    places = torch.rand(num_parts + num_keypoints, 2, generator=torch.Generator().manual_seed(9))
    noise = 0.05 * torch.randn(num_images, num_parts + num_keypoints, 2, generator=generator)
    points = corners[:, None] + sides[:, None] * (places + noise)
    active = torch.rand(num_images, num_parts, generator=generator) > 0.2
    active[:, 0] = True
    return {
        "centroids": points[:, :num_parts],
        "active": active,
        "keypoints": points[:, num_parts:],
        "visible": torch.rand(num_images, num_keypoints, generator=generator) > 0.3,
        "boxes": torch.cat([corners, sides], 1),
    }


def reference(train: dict[str, Tensor], test: dict[str, Tensor]) -> float:
    """Mean distance over visible points, point by point and image by image."""

    def boxed(each: dict[str, Tensor], name: str) -> Array:
        points, boxes = each[name].double().numpy().copy(), each["boxes"].double().numpy()
        for points_of_image, (x, y, width, height) in zip(points, boxes, strict=True):
            points_of_image[:, 0] = (points_of_image[:, 0] - min(max(x, 0), 1)) / width
            points_of_image[:, 1] = (points_of_image[:, 1] - min(max(y, 0), 1)) / height
        return points

    def features(centroids: Array, active: NDArray[np.bool_], mean: Array, deviation: Array) -> Array:
        return np.where(active[..., None], (centroids - mean) / deviation, 0).reshape(len(centroids), -1)

    distances: list[float] = []
    for number in range(train["keypoints"].shape[1]):
        seen, asked = train["visible"][:, number].numpy(), test["visible"][:, number].numpy()
        centroids, targets = boxed(train, "centroids")[seen], boxed(train, "keypoints")[seen, number]
        mean, deviation = centroids.mean(0), centroids.std(0)
        x = features(centroids, train["active"].numpy()[seen], mean, deviation)
        solution = np.linalg.pinv(x) @ ((targets - targets.mean(0)) / targets.std(0))
        x = features(boxed(test, "centroids")[asked], test["active"].numpy()[asked], mean, deviation)
        predicted = x @ solution * targets.std(0) + targets.mean(0)
        distances += list(np.linalg.norm(predicted - boxed(test, "keypoints")[asked, number], axis=1))
    return float(np.mean(distances))


def published(train: dict[str, Tensor], test: dict[str, Tensor]) -> float:
    def boxed(each: dict[str, Tensor], name: str) -> Tensor:
        return inside_box(each[name], each["boxes"])

    regression = PublishedKeypointRegression.fit(
        boxed(train, "centroids"), train["active"], boxed(train, "keypoints"), train["visible"]
    )
    predicted = regression.predict(boxed(test, "centroids"), test["active"])
    score = keypoint_error(predicted, boxed(test, "keypoints"), test["visible"], torch.ones(len(predicted), 2))
    assert score.count == int(test["visible"].sum())
    assert score.error is not None
    return score.error


@pytest.mark.parametrize("num_parts", [1, 3, 8])
def test_the_published_protocol_is_the_reference(num_parts: int) -> None:
    train, test = scene(60, 0, num_parts), scene(40, 1, num_parts)
    assert published(train, test) == pytest.approx(reference(train, test), rel=1e-6)


def test_a_box_that_leaves_the_image_begins_at_its_border() -> None:
    train, test = scene(60, 0), scene(40, 1)
    for each in (train, test):
        each["boxes"][::3, :2] -= 0.4
    assert published(train, test) == pytest.approx(reference(train, test), rel=1e-6)
    corner = inside_box(torch.tensor([[[0.25, 0.1]]]), torch.tensor([[-0.5, 0.1, 0.5, 0.2]]))
    torch.testing.assert_close(corner, torch.tensor([[[0.5, 0.0]]]).double())


def test_the_two_protocols_are_not_the_same_number() -> None:
    train, test = scene(200, 0, num_parts=1), scene(100, 1, num_parts=1)
    ours = KeypointRegression.fit(train["centroids"], train["active"], train["keypoints"], train["visible"])
    predicted = ours.predict(test["centroids"], test["active"])
    error = keypoint_error(predicted, test["keypoints"], test["visible"], test["boxes"][:, 2:]).error
    assert error is not None
    # who knows the box knows where in it everything lies; one centroid in the image does not tell its size
    assert published(train, test) < 0.5 * error


def test_a_part_that_is_not_active_counts_as_being_in_its_usual_place() -> None:
    train = scene(60, 0)
    boxed = inside_box(train["centroids"], train["boxes"])
    regression = PublishedKeypointRegression.fit(boxed, train["active"], train["keypoints"], train["visible"])
    moved = torch.where(train["active"][..., None], boxed, torch.rand_like(boxed))
    assert torch.equal(regression.predict(moved, train["active"]), regression.predict(boxed, train["active"]))
    nothing = regression.predict(boxed, torch.zeros_like(train["active"]))
    for number, seen in enumerate(train["visible"].T):
        mean = train["keypoints"].double()[seen, number].mean(0)
        torch.testing.assert_close(nothing[:, number], mean.expand(len(nothing), 2))


def test_what_never_varies_or_is_never_visible() -> None:
    train = scene(20, 0)
    train["centroids"][:, 1] = 0.5
    train["visible"][:, 2] = False
    regression = PublishedKeypointRegression.fit(
        train["centroids"], train["active"], train["keypoints"], train["visible"]
    )
    predicted = regression.predict(train["centroids"], train["active"])
    assert predicted[:, 2].isnan().all()
    assert predicted[:, [0, 1, 3]].isfinite().all()
    with pytest.raises(UsageError, match="at least one image"):
        PublishedKeypointRegression.fit(*(train[name][:0] for name in ("centroids", "active", "keypoints", "visible")))
