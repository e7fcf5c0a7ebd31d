"""How long people wait for what they look at - a report, the page - and what ``ifam verify`` finds on photographs.

    python benchmarks/seeing.py RUN DATA --json FILE

Everything is asked as a user would, of commands in processes of their own. ``report``: of the whole test split, with
the start of the command. ``app``: from the upload of a photograph to the answer that the page then shows, and from a
click on a part, of which a model of one part leaves nothing; sent over HTTP as by the page, without a browser that
draws. ``verify``: evenly spaced test images; its certificate is kept whole.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import protocol
from precision import about, name_of

from ifam.commands.inputs import load_with_parts
from ifam.data.read import read_table

PARTS = ("report", "app", "verify")
BARS = {
    "seconds of a report, on 2 cores": 180,
    "MB of a report": 15,
    "seconds of an answer": 2,
    "seconds of a part switched off": 0.7,
}
API = "/gradio_api"
COMMAND = (sys.executable, "-m", "ifam.cli")


def spaced(paths: Sequence[Path], number: int) -> list[Path]:
    """So many, evenly spaced."""
    if len(paths) < number:
        raise SystemExit(f"expected at least {number} test images, got {len(paths)}")
    return [paths[index * len(paths) // number] for index in range(number)]


def seconds_of(*arguments: str | Path) -> float:
    """Of a call of the command, which has to end well."""
    started = time.perf_counter()
    if subprocess.run([*COMMAND, *map(str, arguments)]).returncode != 0:
        raise SystemExit(f"{arguments[0]}: expected the command to end well, see above")
    return round(time.perf_counter() - started, 2)


def report(options: argparse.Namespace, folder: Path, precision: str) -> dict[str, float]:
    out = folder / "report.html"
    seconds = seconds_of("report", options.run, options.data, "--out", out, "--precision", precision)
    return {"seconds": seconds, "MB": round(out.stat().st_size / 1e6, 2)}


def verify(options: argparse.Namespace, folder: Path, paths: list[Path]) -> dict[str, Any]:
    out = folder / "certificate.json"
    seconds = seconds_of("verify", options.run, *spaced(paths, options.images), "--json", out)
    return {"seconds": seconds, "certificate": json.loads(out.read_text(encoding="utf-8"))}


@contextmanager
def page(run: Path) -> Iterator[httpx.Client]:
    """Talks to ``ifam app``, which runs as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*COMMAND, "app", str(run), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not process.stdout.readline().startswith("http"):
                raise SystemExit("app: expected an address, got none, see above")
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                yield client
        finally:
            process.terminate()


def send(client: httpx.Client, event: int, data: list[Any]) -> None:
    """Returns when the page would have the answer."""
    body = {"data": data, "fn_index": event, "session_hash": "benchmark"}
    client.post(f"{API}/queue/join", json=body).raise_for_status()
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": "benchmark"}) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise SystemExit(f"app: expected an answer, got {message['output']}")
                return
    raise SystemExit("app: expected an answer, got none")


def app(run: Path, paths: list[Path], num_parts: int) -> dict[str, Any]:
    """Waiting for each photograph, and for each of its parts, switched off while the others are on."""
    answers, parts = [], []
    started = time.perf_counter()
    with page(run) as client:
        opened = time.perf_counter() - started
        dependencies = client.get("/config").json()["dependencies"]
        events = {each["targets"][0][1]: each["id"] for each in reversed(dependencies)}  # the first of each name
        for path in paths:
            started = time.perf_counter()
            with path.open("rb") as file:
                uploaded = client.post(f"{API}/upload", files={"files": (path.name, file)}).json()[0]
            send(client, events["upload"], [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}])
            answers.append(time.perf_counter() - started)
            for off in range(num_parts):
                started = time.perf_counter()
                send(client, events["input"], [None, [part for part in range(num_parts) if part != off]])
                parts.append(time.perf_counter() - started)
    return {
        "seconds until the page is there": round(opened, 2),
        "seconds of the first answer": round(answers[0], 3),
        "seconds of an answer": spread(answers[1:]),
        "seconds of a part switched off": spread(parts[num_parts:]),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    numbers = {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
    return {name: round(value, 3) for name, value in numbers.items()} | {"count": len(seconds)}


def measure(options: argparse.Namespace, folder: Path, num_parts: int) -> Iterator[tuple[str, Any]]:
    """What was asked for, as it is ready."""
    paths = [sample.path for sample in read_table(options.data).select("test").samples]
    if "report" in options.measure:
        for precision in options.precisions:
            yield f"report, {precision}", {"images": len(paths)} | report(options, folder, precision)
    if "app" in options.measure:
        yield "app", app(options.run, spaced(paths, options.photographs + 1), num_parts)
    if "verify" in options.measure:
        yield "verify", verify(options, folder, paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--measure", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--precisions", nargs="+", default=["32-true", "auto"], help="of the report")
    parser.add_argument("--photographs", type=int, default=20, help="of the page, after the first (default 20)")
    parser.add_argument("--images", type=int, default=200, help="to verify (default 200)")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    model = load_with_parts(str(options.run))
    found = protocol.measured_before(options.json, "measured")
    of_run = found.setdefault(name_of(options.run), {})
    of_run["model"] = about(model, options.run)
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(options, Path(folder), model.num_parts):
            of_run[name] = value
            print(name, value, flush=True)
            protocol.write_report(
                options.json,
                (__doc__ or "").splitlines()[0],
                "python benchmarks/seeing.py RUN DATA --json FILE",
                {"bars": BARS, "measured": found},
            )


if __name__ == "__main__":
    main()
