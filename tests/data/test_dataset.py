import pytest
import torch

from ifam.data.batch import Batch, Item, collate
from ifam.data.dataset import Draw, ImageDataset
from ifam.data.metadata import read_metadata
from ifam.data.transforms import test_transform as view_at_test_time
from ifam.data.transforms import train_transform
from ifam.preprocessing import Preprocessing

SQUARE = Preprocessing(image_size=(12, 12))


@pytest.fixture
def dataset(scenes):
    return ImageDataset(read_metadata(scenes), view_at_test_time(SQUARE), annotations=True)


def test_batch(dataset):
    # images of 8 × 6 double and lose 2 columns on either side
    batch = collate([dataset[i] for i in (0, 3, 7)])
    assert batch.images.shape == (3, 3, 12, 12)
    assert batch.labels.tolist() == [0, 1, 1]
    assert batch.groups.tolist() == [0, 3, 3]
    assert batch.indices.tolist() == [0, 3, 7]
    assert batch.masks is not None
    assert batch.masks.shape == (3, 12, 12)
    assert batch.masks.dtype == torch.bool
    assert batch.masks.all()
    assert batch.boxes is not None
    # a box keeps its size where the crop cuts it
    assert batch.boxes.tolist() == [[-2, 2, 14, 8], [0, 0, 12, 12], [0, 0, 12, 12]]
    assert batch.unreadable == ()
    assert len(batch) == 3


def test_points_outside_the_frame_are_not_visible(dataset):
    batch = collate([dataset[i] for i in (0, 3, 7)])
    assert batch.keypoints is not None
    assert batch.visible is not None
    # x = 0 and 7 leave the crop; only the first image has a tail
    assert batch.visible.tolist() == [[False, True], [True, False], [False, False]]
    assert batch.keypoints.tolist() == [[[0, 0], [0, 2]], [[4, 5], [0, 0]], [[0, 0], [0, 0]]]


def test_without_annotations(scenes):
    batch = collate([ImageDataset(read_metadata(scenes), view_at_test_time(SQUARE))[0]])
    assert batch.masks is batch.keypoints is batch.visible is batch.boxes is None


def test_masks_are_all_or_none(scenes):
    (scenes / "masks/images/5.png").unlink()
    table = read_metadata(scenes)
    for split, has_masks in (("train", True), ("val", False)):
        data = ImageDataset(table.select(split), view_at_test_time(SQUARE), annotations=True)
        assert (collate([data[0], data[2]]).masks is not None) == has_masks


def test_unreadable_images_are_left_out_and_named(dataset, scenes):
    (scenes / "images/1.jpg").write_bytes(b"not an image")
    (scenes / "masks/images/2.png").write_bytes(b"not a mask")
    batch = collate([dataset[i] for i in range(4)])
    assert batch.indices.tolist() == [0, 3]
    assert batch.images.shape[0] == 2
    first, second = batch.unreadable
    assert "images/1.jpg" in first.message
    assert "masks/images/2.png" in second.message


def test_nothing_readable(dataset, scenes):
    (scenes / "images/1.jpg").write_bytes(b"not an image")
    batch = collate([dataset[1]])
    assert len(batch) == 0
    assert batch.images.shape == (0, 3, 0, 0)
    assert batch.labels.dtype == torch.int64
    assert len(batch.unreadable) == 1


def test_unknown_group(tmp_path, draw):
    from ifam.data.folders import read_folders

    draw(tmp_path / "a/1.png")
    draw(tmp_path / "b/1.png")
    item = ImageDataset(read_folders(tmp_path), view_at_test_time(SQUARE))[1]
    assert isinstance(item, Item)
    assert (item.label, item.group) == (1, -1)


def test_a_view_follows_the_draw_alone(scenes):
    data = ImageDataset(read_metadata(scenes), train_transform(SQUARE, "birds"))

    def image(draw):
        item = data[draw]
        assert isinstance(item, Item)
        return item.image

    first = image(Draw(2, 5))
    state = torch.get_rng_state()
    image(Draw(3, 5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(image(Draw(2, 5)), first)
    assert not torch.equal(image(Draw(2, 6)), first)
    assert torch.equal(image(2), image(2))


def test_batch_moves_as_a_whole(dataset):
    batch = collate([dataset[0]])
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, Batch)
    for name in ("images", "labels", "groups", "indices", "masks", "keypoints", "visible", "boxes"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(batch, name).device.type == "cpu"
