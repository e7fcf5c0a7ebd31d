"""Two machines, which are two network namespaces of this one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generated import write_scenes
from runs import metrics
from together import free_port

import ifam

ADDRESSES = {"ifam-a": "10.203.7.1", "ifam-b": "10.203.7.2"}


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Names of two namespaces that see each other over one wire, and nothing else."""
    if shutil.which("ip") is None or not ip("netns", "add", "ifam-a"):
        pytest.skip("needs the command ip, and the right to make network namespaces")
    try:
        assert ip("netns", "add", "ifam-b")
        assert ip("link", "add", "wire-a", "netns", "ifam-a", "type", "veth", "peer", "wire-b", "netns", "ifam-b")
        for name, address in ADDRESSES.items():
            wire = f"wire-{name[-1]}"
            assert ip("-n", name, "address", "add", f"{address}/24", "dev", wire)
            assert ip("-n", name, "link", "set", wire, "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        yield list(ADDRESSES)
    finally:
        for name in ADDRESSES:
            ip("netns", "del", name)


@pytest.mark.slow
def test_an_epoch_on_two_machines_under_torchrun(machines: list[str], tmp_path: Path) -> None:
    data, folder, port = write_scenes(tmp_path / "scenes"), tmp_path / "run", free_port()
    trained = ["train", str(data), "--out", str(folder), "--backbone", "test_vit", "--set", "model.pretrained=false",
               "--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu"]  # fmt: skip

    def begin(number: int, name: str) -> Any:
        where = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number)]
        where += ["--master-addr", ADDRESSES[machines[0]], "--master-port", str(port)]
        words = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", *where, "-m", "ifam"]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": f"wire-{name[-1]}", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*words, *trained], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    said = [process.communicate(timeout=300)[0] for process in [begin(*each) for each in enumerate(machines)]]
    assert (folder / "result.json").is_file(), said
    assert "best epoch 1" in said[0]
    assert "epoch" not in said[1]  # the first process speaks
    assert [line["epoch"] for line in metrics(folder)] == [0]
    assert ifam.load(folder).class_names == ["finch", "gull"]
