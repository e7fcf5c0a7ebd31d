"""What was measured, as JSON, as Markdown and as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifam.benchmarks.report import circumstances
from ifam.benchmarks.speed.cases import Measurement
from ifam.benchmarks.speed.timing import is_cuda, medians
from ifam.files import replacing
from ifam.outputs import mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def to_json(command: str, device: str, found: Mapping[str, Sequence[Measurement]]) -> dict[str, Any]:
    """Everything, every single time included."""
    cases = {
        name: [asdict(measurement) | {"median seconds": medians(measurement.seconds)} for measurement in measurements]
        for name, measurements in found.items()
    }
    return {
        "benchmark": "speed",
        "command": command,
        "device": device,
        "circumstances": circumstances(),
        "cases": cases,
    }


def to_markdown(
    command: str, device: str, titles: Mapping[str, str], found: Mapping[str, Sequence[Measurement]]
) -> str:
    """A list for each setting: medians, and what follows from them."""
    machine = circumstances()
    name = machine["gpu"] if is_cuda(device) else f"{machine['cpu']}, {machine['threads']} threads"
    torch_version = machine["versions"]["torch"]
    lines = [
        "# Speed",
        "",
        f"Measured {machine['date']} on {name}, torch {torch_version}: `{command}`. Medians of rounds in which all "
        "ways run in turn.",
    ]
    for case, measurements in found.items():
        lines += ["", f"## {titles[case]}"]
        for measurement in measurements:
            lines += ["", f"**{measurement.setting}**", ""]
            rounds = max((len(values) for values in measurement.seconds.values()), default=0)
            if rounds:
                lines += [f"| {rounds} rounds | ms per image |", "| --- | --: |"]
                for side, seconds in medians(measurement.seconds).items():
                    lines.append(f"| {side} | {1e3 * seconds / measurement.images:.2f} |")
                lines.append("")
            lines += [f"- {what}: {value:.4g}" for what, value in measurement.numbers.items()]
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Sequence[Measurement]], path: Path) -> bool:
    """Cost curves over the kept share and the image size, written to ``path``; whether there was anything to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    even = [m for m in found.get("inference", ()) if len(set(m.setting.kept)) == 1]
    sizes = list(found.get("image-size", ()))
    settings = [(m.setting.backbone, m.setting.image_size, len(m.setting.kept)) for m in even]
    of_curve = max(set(settings), key=settings.count) if settings else None
    shares = [m for m, setting in zip(even, settings, strict=True) if setting == of_curve]
    curves = [
        (shares, [100 * m.setting.kept[0] for m in shares], "tokens kept, %"),
        (sizes, [float(m.setting.image_size) for m in sizes], "image size, pixels"),
    ]
    curves = [curve for curve in curves if len(curve[0]) > 1]
    if not curves:
        return False
    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        _draw_curve(axes, *curve)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png", **mark_of(path))
    return True


def _draw_curve(axes: "Axes", measurements: Sequence[Measurement], positions: Sequence[float], label: str) -> None:
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    for side in ("authors", "ifam", "one pass", "stage 2"):
        times = [1e3 * medians(m.seconds)[side] / m.images for m in measurements if side in m.seconds]
        if len(times) == len(positions):
            axes.plot([positions[i] for i in order], [times[i] for i in order], marker="o", label=side)
    setting = measurements[0].setting
    axes.set(xlabel=label, ylabel="ms per image", ylim=(0, None), title=f"{setting.backbone}, {setting.precision}")
    axes.title.set_fontsize("small")
    axes.legend(frameon=False)
