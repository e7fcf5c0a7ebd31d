"""Sharing: a hub of three files in a local cache, read without a network; and a push, up to the network."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard

import ifam
from ifam.errors import CheckpointError, HubError, UsageError
from ifam.hub import push_to_hub
from ifam.model.masked import MaskedClassifier
from ifam.storage import save

REPOSITORY, COMMIT = "someone/birds", "0123456789abcdef0123456789abcdef01234567"
FILES = {"README.md", "model.json", "model.safetensors"}
PICKLES = ("pytorch_model.bin", "model.pt", "last.ckpt", "model.pkl")
PROGRAM = """
import sys, torch, ifam
model, images = ifam.load(f"hf:{sys.argv[1]}"), torch.load(sys.argv[2])
with torch.inference_mode():
    torch.save(model(images).logits, sys.argv[3])
"""


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def snapshot(home: Path) -> Path:
    """A repository in the cache of the hub, as its client writes it."""
    repository = home / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub that is the cache itself."""
    folder = snapshot(tmp_path / "home")

    def create(api: HfApi, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert (repo_id, exist_ok) == (REPOSITORY, True)
        return f"hub/{repo_id}"

    def upload(api: HfApi, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert repo_id == REPOSITORY
        for path in Path(folder_path).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    return folder


def load_offline(home: Path, images: torch.Tensor, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    torch.save(images, tmp_path / "images.pt")
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment = {name: value for name, value in environment.items() if name not in ("HF_HUB_CACHE", "HF_TOKEN")}
    files = (REPOSITORY, str(tmp_path / "images.pt"), str(tmp_path / "logits.pt"))
    return subprocess.run(
        [sys.executable, "-c", f"import torch; torch.set_num_threads(1){PROGRAM}", *files],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_round_trip_without_a_network_opens_no_pickle(make_model: Any, uploads: Path, tmp_path: Path) -> None:
    model, images, marker = make_model(), torch.randn(3, 3, 32, 32), tmp_path / "marker"
    save(model, tmp_path / "run")
    for name in PICKLES:
        for folder in (tmp_path / "run", uploads):
            (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    assert push_to_hub(tmp_path / "run", REPOSITORY) == f"hub/{REPOSITORY}"
    assert {path.name for path in uploads.iterdir()} == FILES | set(PICKLES)
    done = load_offline(tmp_path / "home", images, tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        assert torch.equal(torch.load(tmp_path / "logits.pt"), model(images).logits)
    assert not marker.exists()
    pickle.loads((uploads / PICKLES[0]).read_bytes())
    assert marker.exists()  # it would have been


@pytest.mark.parametrize("weights", ["none", "a pickle"])
def test_a_pickle_in_the_place_of_the_weights(weights: str, make_model: Any, tmp_path: Path, refuses_line: Any) -> None:
    save(make_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    payload = pickle.dumps(Payload(tmp_path / "marker"))
    (tmp_path / "pytorch_model.bin").write_bytes(payload)
    if weights == "a pickle":
        (tmp_path / "model.safetensors").write_bytes(payload)
    with refuses_line("model.safetensors", error=CheckpointError):
        ifam.load(tmp_path)
    assert not (tmp_path / "marker").exists()


def test_a_model_that_is_not_in_the_cache_is_one_line(tmp_path: Path) -> None:
    done = load_offline(tmp_path / "home", torch.zeros(1), tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ifam.errors.CheckpointError: hf:{REPOSITORY}: expected a model on the hub")


def test_the_card_of_a_run_goes_along(make_model: Any, uploads: Path, tmp_path: Path) -> None:
    save(make_model(), tmp_path / "run")
    own = '---\nlicense: unknown\n---\n\nMy birds.\n\n    ifam.load("path/of/this/folder")\n'
    (tmp_path / "run/README.md").write_text(own, encoding="utf-8")
    push_to_hub(tmp_path / "run", REPOSITORY, license="mit")
    card = ModelCard((uploads / "README.md").read_text(encoding="utf-8"))
    assert card.data.to_dict() == {"license": "mit"}
    assert card.text == own.split("---\n")[2].replace("path/of/this/folder", f"hf:{REPOSITORY}")


def test_a_model_in_memory_gets_a_card_and_keeps_its_paths_to_itself(
    make_vit: Any, uploads: Path, tmp_path: Path
) -> None:
    model = MaskedClassifier(make_vit(), 2, masking="early", masks=str(tmp_path / "masks"))
    ifam.push_to_hub(model, REPOSITORY)
    assert {path.name for path in uploads.iterdir()} == FILES
    assert f'ifam.load("hf:{REPOSITORY}")' in (uploads / "README.md").read_text(encoding="utf-8")
    assert all(str(tmp_path) not in path.read_text(encoding="latin-1") for path in uploads.iterdir())
    assert model.masks == str(tmp_path / "masks")


def test_what_cannot_be_pushed(
    make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    with refuses_line("expected owner/name, got 'a/b/c'"):
        push_to_hub(make_model(), "a/b/c")
    with refuses_line("found none", error=CheckpointError):
        push_to_hub(tmp_path, REPOSITORY)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with refuses_line(f"hf:{REPOSITORY}", "offline", "hf auth login", error=HubError):
        push_to_hub(make_model(), REPOSITORY)
    assert UsageError is ifam.UsageError
