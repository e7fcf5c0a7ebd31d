"""Foreign checkpoints: what is read, and what is refused without being run."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ifam.errors import CheckpointError
from ifam.model.reference import PREFIXES, RENAMED, load_reference
from ifam.model.two_stage import IFAM

Load = Callable[[Path], IFAM]


@pytest.fixture
def original(make_model: Any) -> IFAM:
    model: IFAM = make_model()
    return model


@pytest.fixture
def state(original: IFAM) -> dict[str, Tensor]:
    """The state dict under the authors' names, with the derived buffer that they save."""
    theirs = {ours: name for name, ours in RENAMED.items()} | {ours: name for name, ours in PREFIXES.items()}

    def translate(name: str) -> str:
        ours = max((ours for ours in theirs if name.startswith(ours)), key=len)
        return theirs[ours] + name.removeprefix(ours)

    state = {translate(name): value for name, value in original.state_dict().items()}
    state["stage_1.fc_landmarks.weight"] = state["stage_1.fc_landmarks.weight"][:, :, None, None]
    return state | {"stage_2.prefix_attn_mask": torch.ones(1, 1)}


@pytest.fixture
def load(make_vit: Any) -> Load:
    return lambda path: load_reference(path, backbone=make_vit())


def forms(state: dict[str, Tensor], folder: Path) -> Iterator[Path]:
    """Every form in which such checkpoints are found."""
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    for name, content in (("bare", state), ("snapshot", {"model_state": state, "epoch": 3}), ("parallel", wrapped)):
        torch.save(content, folder / f"{name}.pt")
        yield folder / f"{name}.pt"
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, folder / "state.safetensors")
    yield folder / "state.safetensors"


@torch.inference_mode()
def test_every_form_gives_the_same_model(original: IFAM, state: dict[str, Tensor], load: Load, tmp_path: Path) -> None:
    images = torch.randn(2, 3, 32, 32)
    for path in forms(state, tmp_path):
        model = load(path)
        assert not model.training
        assert (model.num_parts, model.num_classes) == (original.num_parts, original.num_classes)
        assert torch.equal(model(images).logits, original(images).logits)


def test_another_architecture(state: dict[str, Tensor], make_vit: Any, tmp_path: Path, refuses_line: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(state, path)
    for changes, said in (({"depth": 3}, "blocks.2"), ({"img_size": 64}, "pos_embed"), ({"init_values": 1.0}, "ls1")):
        with refuses_line(path, said, "another architecture", error=CheckpointError):
            load_reference(path, backbone=make_vit(**changes))


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(zipped: bool, load: Load, tmp_path: Path, refuses_line: Any) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "was-run"
    content = {"model_state": {}, "extra": Malicious(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with refuses_line(path, "not executed", error=CheckpointError):
        load(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    with refuses_line(path, error=CheckpointError):
        load(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists(), "the trap works"


@pytest.mark.parametrize(
    "content",
    [
        {"model_state": {"a": 1}},
        {"model_state": 3},
        {"epoch": 3},
        [torch.zeros(2)],
        torch.zeros(2),
        {},
        {1: torch.ones(1)},
    ],
    ids=str,
)
def test_contents_that_are_no_checkpoint(content: object, load: Load, tmp_path: Path, refuses_line: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with refuses_line(path, error=CheckpointError):
        load(path)


def test_damaged_files(state: dict[str, Tensor], load: Load, tmp_path: Path, refuses_line: Any) -> None:
    for path in forms(state, tmp_path):
        whole = path.read_bytes()
        for part in (whole[: len(whole) // 2], whole[:100], b"", b"\x80", b"not a checkpoint", bytes(range(256)) * 9):
            path.write_bytes(part)
            with refuses_line(path, error=CheckpointError):
                load(path)
    with refuses_line(tmp_path / "none.pt", "no file", error=CheckpointError):
        load(tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["stage_1.fc_landmarks.weight", "stage_2.head.weight", "stage_2.blocks.1.norm1.bias"])
def test_missing_parameters_are_named(
    name: str, state: dict[str, Tensor], load: Load, tmp_path: Path, refuses_line: Any
) -> None:
    del state[name]
    torch.save(state, tmp_path / "model.pt")
    with refuses_line(tmp_path, name.split(".", 1)[1], error=CheckpointError):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("shape", [(), (4,), (1, 24, 1, 1), (4, 25, 1, 1)], ids=str)
def test_prototypes_of_an_odd_shape(
    shape: tuple[int, ...], state: dict[str, Tensor], load: Load, tmp_path: Path, refuses_line: Any
) -> None:
    state["stage_1.fc_landmarks.weight"] = torch.zeros(shape)
    torch.save(state, tmp_path / "model.pt")
    with refuses_line(tmp_path, error=CheckpointError):
        load(tmp_path / "model.pt")
