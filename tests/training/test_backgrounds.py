import pytest
import torch

from ifam.processes import Share
from ifam.training.backgrounds import SMALLEST_BOX, borrow_backgrounds, random_boxes


def numbered(count: int, size: int = 6) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, size, size).clone()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_object_stays_and_the_rest_is_of_other_photographs(count: int) -> None:
    images, inside = numbered(count), torch.rand(count, 6, 6) < 0.5
    found = borrow_backgrounds(images, inside)
    for row in range(count):
        assert (found[row][:, inside[row]] == row).all()
        assert (found[row][:, ~inside[row]] != row).all() or count == 2
        assert (found[row] == found[row, 0]).all()


def test_of_the_lender_only_the_background_comes_along() -> None:
    images, inside = numbered(9), torch.zeros(9, 6, 6, dtype=torch.bool)
    inside[:, :3] = True
    inside[0] = False
    found = borrow_backgrounds(images, inside)
    lent = {row: found[row, 0, ~inside[row]].unique().tolist() for row in range(9)}
    lenders, fillers = found[0, 0, 5, 0], found[0, 0, 0, 0]
    assert 0 not in lent[0]
    assert lenders != fillers  # where the lender has its object, a third photograph
    assert sorted(value for row in range(1, 9) for value in lent[row]) == sorted(
        value for value in range(9) if value != lenders
    )


def test_some_keep_their_own_background() -> None:
    images, inside = numbered(400), torch.zeros(400, 6, 6, dtype=torch.bool)
    kept = (borrow_backgrounds(images, inside, unchanged=0.3) == images).flatten(1).all(1)
    assert 0.2 < kept.float().mean() < 0.4


def test_a_photograph_alone_stays_as_it_is() -> None:
    images = torch.randn(1, 3, 6, 6)
    assert torch.equal(borrow_backgrounds(images, torch.rand(1, 6, 6) < 0.5), images)


def test_each_lends_once_and_the_seed_decides_to_whom() -> None:
    images, nothing = numbered(16), torch.zeros(16, 6, 6, dtype=torch.bool)
    torch.manual_seed(3)
    found = borrow_backgrounds(images, nothing)[:, 0, 0, 0]
    torch.manual_seed(3)
    again = borrow_backgrounds(images, nothing)[:, 0, 0, 0]
    assert torch.equal(found, again)
    assert sorted(found.tolist()) == list(range(16))
    assert not torch.equal(found, borrow_backgrounds(images, nothing)[:, 0, 0, 0])


def test_some_get_no_background_at_all() -> None:
    images, inside = numbered(400) + 1, torch.rand(400, 6, 6) < 0.5
    torch.manual_seed(2)
    found = borrow_backgrounds(images, inside, blank=0.3)
    torch.manual_seed(2)
    borrowed = borrow_backgrounds(images, inside)
    blank = torch.tensor([bool((found[row][:, ~inside[row]] == 0).all()) for row in range(400)])
    assert 0.2 < blank.float().mean() < 0.4
    assert torch.equal(found[~blank], borrowed[~blank])
    assert all((found[row][:, inside[row]] == row + 1).all() for row in range(400))


@pytest.mark.parametrize("counts", [(4, 3), (1, 0, 1), (3, 3, 2)])
def test_of_a_shared_batch_all_of_it_lends(counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As one process would with the images in their order: those at rank, rank + processes, …"""
    total = sum(counts)
    images, inside = torch.randn(total, 3, 6, 6), torch.rand(total, 6, 6) < 0.5
    torch.manual_seed(5)
    expected = borrow_backgrounds(images, inside)
    held = [Share(counts=counts, rank=rank)._rows(rank) for rank in range(len(counts))]
    assert sorted(row for rows in held for row in rows) == list(range(total))

    def gather(self: Share, values: torch.Tensor) -> torch.Tensor:
        whole = images if values.dtype == torch.float32 else inside
        return torch.cat([whole[rows] for rows in held])

    monkeypatch.setattr(Share, "all", gather)
    for rank, rows in enumerate(held):
        torch.manual_seed(5)
        own = rows or [0]
        found = borrow_backgrounds(images[own], inside[own], Share(counts=counts, rank=rank))
        if rows:
            assert torch.equal(found, expected[rows])


def test_boxes_have_the_images_proportions_and_lie_in_them() -> None:
    torch.manual_seed(0)
    boxes = random_boxes(torch.zeros(500, 3, 40, 60))
    assert boxes.shape == (500, 40, 60)
    rows, columns = boxes.any(2), boxes.any(1)
    assert torch.equal(boxes, rows[:, :, None] & columns[:, None])
    for sides in (rows, columns):  # without a gap
        assert ((sides.long().diff(dim=1) != 0).sum(1) <= 2).all()
    shares = boxes.float().mean((1, 2))
    assert SMALLEST_BOX - 0.05 < shares.min() < 0.35
    assert shares.max() > 0.95
    assert ((rows.float().mean(1) - columns.float().mean(1)).abs() < 0.05).all()
    covered = boxes.float().mean(0)
    assert (covered - covered.flip(0).flip(1)).abs().max() < 0.1  # anywhere alike
    assert covered.min() > 0.02
