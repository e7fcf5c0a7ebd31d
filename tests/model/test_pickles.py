import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ifam.errors import CheckpointError
from ifam.model.pickles import read_pickle
from ifam.model.reference import read_state


class Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Code()}, "x.pt", _use_new_zipfile_serialization=zipped)
    Path("y.pt").write_bytes(pickle.dumps(Code()))
    for name in ("x.pt", "y.pt"):
        for mmap in (False, zipped and name == "x.pt"):
            with refuses_line(name, "would run code", "not executed", error=CheckpointError):
                read_pickle(Path(name), mmap=mmap)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt", "y.pt"]


def test_an_archive_is_not_unpacked(tmp_path: Path, refuses_line: Any) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
    with refuses_line("x.pt", "unpacks to more than it is", error=CheckpointError):
        read_pickle(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"PK\5\6" + bytes(18), b"\x80\x02" + b"(" * 10_000])
def test_damaged(content: bytes, tmp_path: Path, refuses_line: Any) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with refuses_line("x.pt", "damaged", error=CheckpointError):
        read_pickle(tmp_path / "x.pt")


def test_whole(tmp_path: Path, refuses_line: Any) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "x.pt")
    for mmap in (False, True):
        assert read_pickle(tmp_path / "x.pt", mmap=mmap)["a"].tolist() == [0, 1, 2]
    with refuses_line("y.pt", "found no file", error=CheckpointError):
        read_pickle(tmp_path / "y.pt")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**6, 10**6), torch.zeros(9, 9).to_sparse(), torch.zeros(9, device="meta")],
    ids=range(3),
)
def test_tensors_that_are_not_what_they_say(tensor: torch.Tensor, tmp_path: Path, refuses_line: Any) -> None:
    torch.save({"model_state": {"a": tensor}}, tmp_path / "x.pt")
    with refuses_line("x.pt", "expected", error=CheckpointError):
        read_state(tmp_path / "x.pt")
