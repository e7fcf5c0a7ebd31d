"""The server as a stranger meets it: raw HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ifam.app import photographs, serve
from ifam.app.address import is_open
from ifam.app.serve import require_free_port, require_gradio
from ifam.app.uploads import MAX_SIZE
from ifam.cli import main
from ifam.data.table import ImageTable
from ifam.errors import DataError
from ifam.model.two_stage import IFAM
from ifam.storage import save

httpx = pytest.importorskip("httpx")
API = "/gradio_api"
# gradio counts its events with an option of pandas that goes
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")


@pytest.fixture
def client(address: str) -> Any:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def uploads() -> list[Path]:
    return [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file() and path.stat().st_size]


def upload(client: Any, name: str, content: bytes) -> Any:
    return client.post(f"{API}/upload", files={"files": (name, content)})


def ask(client: Any, path: str, session: str = "a") -> dict[str, Any]:
    """What the page does with a file that was uploaded: the last message of the queue."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return event(client, "upload", [file], session)


def event(client: Any, name: str, data: list[Any], session: str = "a", **extra: Any) -> dict[str, Any]:
    dependencies = client.get("/config").json()["dependencies"]
    index = next(each["id"] for each in dependencies if each["targets"][0][1] == name)
    joined = client.post(f"{API}/queue/join", json={"data": data, "fn_index": index, "session_hash": session, **extra})
    assert joined.status_code == 200
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                return dict(message)
    raise AssertionError("no answer")


def error_of(message: dict[str, Any]) -> str:
    assert message["success"] is False
    error: str = message["output"]["error"]
    assert "\n" not in error
    assert "Traceback" not in error
    return error


def test_an_upload_is_answered_and_not_kept(client: Any, photograph: Path) -> None:
    path = upload(client, "bird.png", photograph.read_bytes()).json()[0]
    assert Path(path).is_file()
    message = ask(client, path)
    assert message["success"], message
    assert "data-probability" in "".join(part for part in message["output"]["data"] if isinstance(part, str))
    assert uploads() == []


def test_malformed_uploads_are_refused_in_one_line_and_not_kept(
    client: Any, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("text.png", b"no image"), ("half.png", photograph.read_bytes()[:200]), ("none.png", b"")):
        path = upload(client, name, content).json()[0]
        said = error_of(ask(client, path))
        assert said.startswith(f"{name}: expected an image"), said
        assert "/" not in said
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = upload(client, "bomb.png", photograph.read_bytes()).json()[0]
    assert "bomb.png: expected at most 1,000 pixels" in error_of(ask(client, path))
    assert uploads() == []


def test_an_upload_that_is_too_large_is_refused(client: Any) -> None:
    assert MAX_SIZE == 20 * 2**20
    assert upload(client, "large.png", bytes(21 * 2**20)).status_code == 413
    assert uploads() == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "file:///etc/passwd",
        "/proc/self/environ",
    ],
)
def test_no_file_of_this_machine_is_served(client: Any, path: str) -> None:
    for route in (f"{API}/file={path}", f"/file={path}", f"/static/{path}", f"/assets/{path}", f"/theme/{path}"):
        response = client.get(route)
        assert response.status_code in (400, 403, 404), (route, response.status_code)
        assert "root:" not in response.text


def test_files_that_were_not_uploaded_are_neither_read_nor_deleted(client: Any, photograph: Path) -> None:
    assert ask(client, str(photograph))["success"] is False
    assert photograph.is_file()
    for other in ("/etc/hostname", "/proc/self/environ", os.environ["GRADIO_TEMP_DIR"]):
        assert ask(client, other)["success"] is False
    assert uploads() == []
    assert client.get(f"{API}/file={photograph}").status_code == 404
    assert client.get(f"{API}/file={Path(serve.__file__)}").status_code == 404


def test_sessions_do_not_see_each_other(client: Any, photograph: Path) -> None:
    path = upload(client, "bird.png", photograph.read_bytes()).json()[0]
    assert ask(client, path, session="a")["success"]
    assert "expected a photograph first" in error_of(event(client, "click", [None], session="b"))


def test_the_same_photograph_twice(client: Any, photograph: Path) -> None:
    paths = [upload(client, "bird.png", photograph.read_bytes()).json()[0] for _ in range(3)]
    assert len(set(paths)) == 3
    for path, session in zip(paths, ("a", "b", "b"), strict=True):
        assert ask(client, path, session)["success"]
    assert "bird.png: expected a photograph that was just dropped" in error_of(ask(client, paths[0], "b"))
    assert uploads() == []


def test_another_page_uploads_nothing(client: Any, photograph: Path) -> None:
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        refused = client.post(f"{API}/upload", files={"files": ("a.png", photograph.read_bytes())}, headers=headers)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
    assert uploads() == []


def test_an_upload_is_one_file(client: Any) -> None:
    many = [("files", (f"{number}.png", b"x")) for number in range(2)]
    assert client.post(f"{API}/upload", files=many).status_code == 400
    assert client.post(f"{API}/upload", data={"files": "text"}).status_code == 400
    assert client.post(f"{API}/upload", content=b"x", headers={"content-type": "image/png"}).status_code == 400
    assert uploads() == []


def test_addresses_elsewhere_are_not_fetched(client: Any, photograph: Path) -> None:
    address = {"path": "https://photographs.example/a.png", "meta": {"_type": "gradio.FileData"}}
    for name, data in (("upload", [address]), ("input", [None, address])):
        assert "got an address" in error_of(event(client, name, data))
    assert uploads() == []


def test_a_photograph_that_is_slow_keeps_nobody_else_waiting(
    client: Any, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = upload(client, "bird.png", photograph.read_bytes()).json()[0]
    assert ask(client, path, session="b")["success"]
    begun, go_on, read = threading.Semaphore(0), threading.Event(), photographs.read_photograph

    def slowly(path: Path) -> Any:
        if path.name == "slow.png":
            begun.release()
            go_on.wait(30)
        return read(path)

    monkeypatch.setattr(photographs, "read_photograph", slowly)
    slow = [upload(client, "slow.png", photograph.read_bytes()).json()[0] for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(ask, client, path, session=f"slow {path}") for path in slow]
        for _ in slow:
            assert begun.acquire(timeout=30)
        assert event(client, "click", [None], session="b")["success"]
        assert ask(client, upload(client, "bird.png", photograph.read_bytes()).json()[0], session="b")["success"]
        assert not any(answer.done() for answer in waiting)
        go_on.set()
        assert all(answer.result()["success"] for answer in waiting)


def test_a_photograph_that_takes_too_long_is_said(
    photograph: Path, monkeypatch: pytest.MonkeyPatch, refuses_line: Any
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(photographs, "read_photograph", lambda path: go_on.wait(30))
    readers = photographs.Readers(1)
    for _ in range(2):  # the second behind the first
        with refuses_line(photograph.name, "within 0.01 s", error=DataError):
            readers.read(photograph, seconds=0.01)
    with refuses_line("the page is closed"):
        readers.read(photograph, goes_on=lambda: False)
    go_on.set()


def test_odd_events_are_one_line(client: Any, photograph: Path) -> None:
    path = upload(client, "bird.png", photograph.read_bytes()).json()[0]
    assert ask(client, path)["success"]
    for cells in ([[0, 99]], [], [["<b>", 0]]):
        said = error_of(event(client, "paint", [None], event_data={"cells": cells}))
        assert "<" not in said


def test_other_names_for_this_machine_are_refused(client: Any) -> None:
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost"}).status_code == 200


def test_nothing_reports_home(client: Any) -> None:
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    for route in ("/docs", "/openapi.json", "/redoc"):
        assert client.get(route).status_code == 404
    page = client.get("/").text
    assert "fonts.g" not in page


def test_everything_goes_when_the_page_is_closed(model: IFAM, photograph: Path, tmp_path: Path, port: int) -> None:
    with serve.serving(model, tmp_path, None, host="127.0.0.1", port=port) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        with httpx.Client(base_url=address) as client:
            upload(client, "bird.png", photograph.read_bytes())
        assert list(folder.rglob("bird.png"))
    assert not folder.exists()
    require_free_port("127.0.0.1", port)


def test_it_starts_behind_a_proxy(model: IFAM, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve.serving(model, tmp_path, None, host="127.0.0.1", port=port) as address:
        assert httpx.get(address, trust_env=False).status_code == 200


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_newer_loopback(host: str, model: IFAM, tmp_path: Path, port: int) -> None:
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    assert not is_open(host)
    with serve.serving(model, tmp_path, None, host=host, port=port) as address:
        assert address == f"http://[::1]:{port}"
        assert httpx.get(address, trust_env=False).status_code == 200
        assert httpx.get(address, headers={"host": "rebound.example"}, trust_env=False).status_code == 400


def test_who_can_connect() -> None:
    assert [is_open(host) for host in ("127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0")] == [False, False, False, True]


def test_a_port_taken_meanwhile_is_one_line(model: IFAM, tmp_path: Path, port: int, refuses_line: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        refuses_line(f"127.0.0.1:{port}", "--port"),
        serve.serving(model, tmp_path, None, host="127.0.0.1", port=port),
    ):
        pass


def test_addresses_that_cannot_be(port: int, refuses_line: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with refuses_line(f"127.0.0.1:{port}", "--port"):
            require_free_port("127.0.0.1", port)
    with refuses_line("65536"):
        require_free_port("127.0.0.1", 65536)
    with refuses_line("no.such.invalid"):
        require_free_port("no.such.invalid", port)


def test_without_gradio_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch, refuses_line: Any) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with refuses_line("pip install 'ifam[app]'"):
        require_gradio()


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_other_hosts_are_warned_of(
    host: str,
    warned: bool,
    model: IFAM,
    tmp_path: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(serve, "wait", lambda: None)
    monkeypatch.setattr("ifam.commands.app.load_with_parts", lambda folder: model)
    assert main(["app", str(tmp_path), "--host", host, "--port", str(port), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.out == f"http://{host}:{port} (stop with Ctrl-C)\n"
    assert said.err.startswith("warning: on 0.0.0.0") == warned
    assert said.err.count("\n") == warned


def test_long_work_ends_with_the_page(
    model: IFAM, table: ImageTable, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(*arguments: Any, progress: Any, **options: Any) -> None:
        begun.set()
        try:
            while True:
                progress(1, 2)
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr("ifam.app.run_tab.part_gallery", endless)
    with serve.serving(model, tmp_path, table, host="127.0.0.1", port=port) as address:
        with httpx.Client(base_url=address) as client:
            dependencies = client.get("/config").json()["dependencies"]
            body = {"data": [], "fn_index": dependencies[-1]["id"], "session_hash": "a"}
            assert client.post(f"{API}/queue/join", json=body).status_code == 200
        assert begun.wait(10)
    assert ended.is_set()


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "SIGTERM", "closed terminal"]
)
def test_stops_quietly_and_leaves_nothing(stop: signal.Signals, tmp_path: Path, port: int, make_vit: Any) -> None:
    save(IFAM(make_vit(), num_parts=2, num_classes=2), tmp_path / "run")
    command = [sys.executable, "-m", "ifam.cli", "app", str(tmp_path / "run"), "--port", str(port), "--device", "cpu"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    uploads = tmp_path / "tmp"
    uploads.mkdir()
    listen = partial(signal.signal, stop, signal.SIG_DFL)  # also where these tests run in the background
    with subprocess.Popen(command, **pipes, preexec_fn=listen, env=os.environ | {"TMPDIR": str(uploads)}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"http://127.0.0.1:{port} (stop with Ctrl-C)\n"
        assert list(uploads.glob("ifam-app-*"))
        time.sleep(0.2)
        process.send_signal(stop)
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert not list(uploads.glob("ifam-app-*"))
