"""The speed benchmark from its cases to its files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ifam.benchmarks.report import is_earlier
from ifam.benchmarks.speed.cases import Bench, Measurement
from ifam.benchmarks.speed.report import draw, to_json, to_markdown
from ifam.benchmarks.speed.suite import on_cpu, on_gpu
from ifam.benchmarks.speed.timing import is_cuda
from ifam.errors import UsageError
from ifam.files import to_json as json_text
from ifam.files import write_text
from ifam.outputs import make_room_for


def run_speed(
    chosen: Sequence[str], bench: Bench, *, json_path: Path, command: str, say: Callable[[str], None] = print
) -> list[Path]:
    """Measure the chosen cases, all if there is none; the files are written anew after each.

    Beside ``json_path`` lie the same in Markdown, and the curves as PNG if there are any. Returns what was written.

    Raises:
        UsageError: there is no such case.
    """
    cases = on_gpu() if is_cuda(bench.device) else on_cpu()
    unknown = [name for name in chosen if name not in cases]
    if unknown:
        raise UsageError(f"methods: expected some of {', '.join(cases)}, got {unknown[0]!r}")
    markdown, figure = json_path.with_suffix(".md"), json_path.with_suffix(".png")
    for path in (json_path, markdown, figure):
        make_room_for(path, is_earlier)
    titles = {name: case.title for name, case in cases.items()}
    found: dict[str, list[Measurement]] = {}
    for name, case in cases.items():
        if chosen and name not in chosen:
            continue
        for number, setting in enumerate(case.settings, start=1):
            say(f"{case.title}, {number} of {len(case.settings)}: {setting}")
            found.setdefault(name, []).append(case.measure(setting, bench))
            write_text(json_path, json_text(to_json(command, bench.device, found), indent=1) + "\n")
            write_text(markdown, to_markdown(command, bench.device, titles, found))
    return [json_path, markdown, *([figure] if draw(found, figure) else [])]
