"""Dependencies point one way: a module imports from its own layer and from those before it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ifam

ROOT = Path(ifam.__file__).parent
LAYERS = (
    ("errors", "config", "preprocessing", "output"),
    ("processes", "signals", "temporaries"),
    ("files", "outputs", "device", "recipes"),
    ("scenes",),
    ("model", "losses", "metrics"),
    ("model_checks",),
    ("data", "storage"),
    ("model_card",),
    ("doctor", "calibrate", "score", "evaluate", "imagenet9", "interventions", "explanations", "probe", "background"),
    ("verdict",),
    ("intervene", "overlays", "predict", "sharding", "verify", "training", "exporting", "hub"),
    ("console",),
    ("demo", "benchmarks", "report", "app"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FREE_OF_EACH_OTHER = (("model", "losses"), ("model", "metrics"), ("losses", "metrics"), ("data", "storage"))
CORE = ("model", "losses", "metrics", "errors", "config", "preprocessing", "output")
CORE_LIBRARIES = {"torch", "timm", "safetensors"}
# imported in the functions that read and write files, or fetch them
AT_THE_BOUNDARY = {"config": {"pydantic", "yaml"}, "model": {"huggingface_hub"}}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def unit(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, for its types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = str(node.module)
            yield from (f"ifam.{alias.name}" for alias in node.names) if module == "ifam" else (module,)


def units_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("ifam.")} - {unit(path), "__version__"}


def test_every_module_has_a_layer() -> None:
    assert {unit(path) for path in MODULES} == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    above = {name for name in units_imported(path) if level[name] > level[unit(path)]}
    assert above == set()
    for pair in FREE_OF_EACH_OTHER:
        assert unit(path) not in pair or not units_imported(path) & set(pair)


@pytest.mark.parametrize("path", [path for path in MODULES if unit(path) in CORE], ids=lambda path: path.name)
def test_the_core_needs_torch_and_timm_only(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - {"ifam"}
    assert libraries <= CORE_LIBRARIES | AT_THE_BOUNDARY.get(unit(path), set())


def test_no_cycles() -> None:
    needs = {name: set[str]() for layer in LAYERS for name in layer}
    for path in MODULES:
        needs[unit(path)] |= units_imported(path)
    while free := {name for name, others in needs.items() if not others}:
        needs = {name: others - free for name, others in needs.items() if name not in free}
    assert needs == {}
