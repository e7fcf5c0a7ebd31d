import itertools

import pytest
import torch
from torch.utils.data import BatchSampler

from ifam.data.metadata import read_metadata
from ifam.data.module import ImageDataModule
from ifam.data.sampler import EpochSampler, SharedBatches
from ifam.errors import UsageError
from ifam.preprocessing import Preprocessing
from ifam.processes import Processes


@pytest.fixture
def module(scenes):
    def make(**changes):
        options = {"augmentation": "birds", "batch_size": 3, "workers": 0, "seed": 0} | changes
        return ImageDataModule(read_metadata(scenes), Preprocessing(image_size=(6, 6)), **options)

    return make


def epoch(loader, number=0):
    loader.batch_sampler.sampler.set_epoch(number)
    batches = list(loader)
    return torch.cat([batch.indices for batch in batches]), torch.cat([batch.images for batch in batches])


def test_same_seed_same_epoch_whatever_the_workers(module):
    indices, images = epoch(module(batch_size=4).train_dataloader())
    again, same_images = epoch(module(batch_size=4, workers=2).train_dataloader())
    assert torch.equal(indices, again)
    assert torch.equal(images, same_images)
    assert not torch.equal(epoch(module(batch_size=4, seed=1).train_dataloader())[1], images)


def test_an_epoch_does_not_need_those_before_it(module):
    straight, resumed = module(batch_size=2).train_dataloader(), module(batch_size=2).train_dataloader()
    epochs = [epoch(straight, number)[1] for number in range(3)]
    assert torch.equal(epoch(resumed, 2)[1], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


def test_loaders_leave_torchs_generator_alone(module):
    state = torch.get_rng_state()
    epoch(module().train_dataloader())
    list(module().val_dataloader())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3]), (4, [4]), (5, [4])])
def test_a_single_image_is_no_last_batch(module, batch_size, sizes):
    assert [len(batch) for batch in module(batch_size=batch_size).train_dataloader()] == sizes


def test_one_training_image_is_a_batch(module, scenes):
    text = (scenes / "metadata.csv").read_text()
    for i in (1, 2, 3):
        text = text.replace(f"images/{i}.jpg,{i % 2},0", f"images/{i}.jpg,{i % 2},1")
    (scenes / "metadata.csv").write_text(text)
    assert [len(batch) for batch in module(batch_size=2).train_dataloader()] == [1]


def test_evaluation_sees_every_image_once_in_order(module):
    data = module(eval_batch_size=3)
    for loader, split in ((data.val_dataloader(), "val"), (data.test_dataloader(), "test")):
        batches = list(loader)
        assert [len(batch) for batch in batches] == [3, 1]
        assert torch.cat([batch.indices for batch in batches]).tolist() == [0, 1, 2, 3]
        names = [sample.name for sample in data.table.select(split).samples]
        assert names[0] == {"val": "images/4.jpg", "test": "images/8.jpg"}[split]
    assert sum(len(batch) for batch in data.loader("train")) == 4


def test_evaluation_views_are_those_of_the_test(module):
    one, two = (next(iter(module(augmentation="birds", seed=seed).loader("train"))).images for seed in (0, 1))
    assert torch.equal(one, two)


def test_annotations(module):
    batch = next(iter(module(annotations=True).train_dataloader()))
    assert batch.masks.shape == (3, 6, 6)
    assert batch.visible.shape == (3, 2)
    assert next(iter(module().loader("test"))).masks is None
    images_only = module(annotations=True, augmentation="imagenet")
    assert next(iter(images_only.train_dataloader())).masks is None
    assert next(iter(images_only.val_dataloader())).masks is not None


def test_an_unreadable_image_comes_out_of_a_worker_as_a_message(module, scenes):
    (scenes / "images/9.jpg").write_bytes(b"not an image")
    first, second = module(workers=1, batch_size=2).loader("test")
    assert first.indices.tolist() == [0]
    assert "images/9.jpg" in first.unreadable[0].message
    assert second.unreadable == ()


@pytest.mark.parametrize("size", [1, 7, 8, 13])
def test_processes_share_the_batches_of_one(size):
    whole = list(BatchSampler(EpochSampler(size, seed=0), 4, drop_last=False))
    parts = [list(SharedBatches(EpochSampler(size, seed=0), 4, rank=rank, world_size=3)) for rank in range(3)]
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts]
        assert [len(share) for share in shares] == [len(range(rank, len(batch), 3)) for rank in range(3)]
        assert sorted(itertools.chain(*shares), key=batch.index) == batch
    assert {len(part) for part in parts} == {len(whole)}


def test_processes_evaluate_every_image_once(module):
    loaders = [module(processes=Processes(rank=rank, size=3), batch_size=3).loader("test") for rank in range(3)]
    assert [[batch.indices.tolist() for batch in loader] for loader in loaders] == [[[0], [3]], [[1], []], [[2], []]]


@pytest.mark.parametrize(
    "changes", [{"batch_size": 0}, {"eval_batch_size": 0}, {"workers": -1}, {"workers": 1001}, {"seed": -1}]
)
def test_impossible_numbers(module, refuses, changes):
    with refuses("expected", error=UsageError):
        module(**changes)
