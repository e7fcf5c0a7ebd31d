"""Whose requests reach the page, and which."""

import socket
from typing import Any

import pytest

pytest.importorskip("gradio")

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from ifam.app.guard import API, MAX_QUESTION, Guard

HERE = "http://127.0.0.1:7860"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    size = len(await Request(scope, receive).body())
    await PlainTextResponse(str(size))(scope, receive, send)


def client(host: str = "127.0.0.1", *, is_open: bool = False) -> TestClient:
    return TestClient(Guard(echo, host=host, is_open=is_open, max_upload=1000), base_url=HERE)


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:80", "localhost.", "localhost.:7860", "[::1]", "[::1]:7860"],
)
def test_names_of_this_machine(name: str) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]"):
        assert client(host).get("/", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "rebound.example",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example",
        "localhost:1@rebound.example",
        "rebound.example:7860",
        "10.0.0.1",
        "0.0.0.0",
        "::1",
        "[::1",
        "127.1",
        "localhost:x",
        "",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
def test_other_names_are_refused(host: str, name: str) -> None:
    refused = client(host).get("/", headers={"host": name})
    assert refused.status_code == 400
    assert refused.text.count("\n") == 1


def test_a_page_for_other_machines_has_their_numbers_and_its_own_names() -> None:
    for name in (
        "192.168.7.5:7860",
        "[fe80::1]:7860",
        socket.gethostname(),
        f"{socket.gethostname()}.local",
        "lab.org",
    ):
        assert client("lab.org", is_open=True).get("/", headers={"host": name}).status_code == 200
    for name in ("rebound.example", "lab.org.rebound.example", "192.168.7.5.rebound.example"):
        assert client("lab.org", is_open=True).get("/", headers={"host": name}).status_code == 400


def test_two_names_are_refused() -> None:
    names = [("host", "localhost"), ("host", "rebound.example")]
    for hosts in (names, names[::-1]):
        assert client().get("/", headers=hosts).status_code == 400


OTHER_PAGES = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:7860"},
    {"origin": "http://127.0.0.1.evil.example:7860"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"origin": HERE, "sec-fetch-site": "cross-site"},
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
]


@pytest.mark.parametrize("headers", OTHER_PAGES, ids=str)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_page_changes_nothing(method: str, headers: dict[str, str]) -> None:
    for path in ("upload", "upload/", "queue/join", "cancel"):
        assert client().request(method, f"{API}/{path}", headers=headers).status_code == 403
    assert client(is_open=True).request(method, f"{API}/upload", headers=headers).status_code == 403


def test_another_page_has_a_link_to_this_one_and_reads_nothing() -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client().get("/", headers=link).status_code == 200
    for mode in ("cors", "no-cors", "websocket"):
        assert client().get("/config", headers=link | {"sec-fetch-mode": mode}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": HERE},
        {"origin": HERE, "sec-fetch-site": "same-origin"},
        {"origin": "HTTP://127.0.0.1:7860"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
def test_the_page_itself_passes(headers: dict[str, str]) -> None:
    assert client().post(f"{API}/upload", headers=headers, content=b"x" * 1000).text == "1000"
    assert client().post(f"{API}/queue/join", headers=headers, content=b"x" * 2000).text == "2000"


def test_long_requests_are_cut_off() -> None:
    def in_pieces() -> Any:
        yield from (b"x" * 600, b"x" * 600)

    for path, content in (("upload", b"x" * 1001), ("upload", in_pieces()), ("queue/join", b"x" * (MAX_QUESTION + 1))):
        with pytest.raises(Exception, match="413"):
            client().post(f"{API}/{path}", content=content)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{API}/file=http://127.0.0.1:1/x"),
        ("GET", f"{API}/file=/etc/passwd"),
        ("GET", f"{API}/proxy=http://127.0.0.1:7861/"),
        ("GET", f"{API}/info"),
        ("GET", f"{API}/startup-events"),
        ("GET", f"{API}/vibe-code"),
        ("GET", f"{API}/custom_component/1/server/type/index.js"),
        ("GET", f"{API}/deep_link"),
        ("GET", "/monitoring/summary"),
        ("GET", f"{API}/upload"),
        ("GET", f"{API}/queue/join"),
        ("POST", f"{API}/vibe-edit/"),
        ("POST", f"{API}/component_server"),
        ("POST", f"{API}/process_recording"),
        ("POST", f"{API}/run/predict"),
        ("POST", f"{API}/call/on_upload"),
        ("POST", "/login"),
        ("POST", "/"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(method: str, path: str) -> None:
    assert client().request(method, path).status_code == 404


def test_no_websockets() -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/", headers={"origin": "http://evil.example"}):
        pass
