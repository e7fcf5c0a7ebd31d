"""What is released: a wheel and a source distribution that install and run, of packages whose licences allow it."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.list_licences import PAGE, licence, pinned

ROOT = Path(__file__).parents[1]
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LLVM-exception", "MIT",
    "MIT-CMU", "PSF-2.0", "Zlib",
}  # fmt: skip
AS_IT_IS = {"MPL-2.0", "NVIDIA proprietary"}  # may be used by anyone, and is not changed or handed on here


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def build(kind: str, source: Path, out: Path) -> Path:
    """By the hook that pip calls, without its network."""
    hook = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    return out / run(sys.executable, "-c", hook, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel_and_source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return build("wheel", checkout, out), build("sdist", checkout, out)


def test_the_wheel_has_every_file_of_the_package(wheel_and_source: tuple[Path, Path]) -> None:
    source = ROOT / "src"
    ours = {path.relative_to(source).as_posix() for path in (source / "ifam").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel_and_source[0]) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("ifam/")}
    assert packed == {name for name in ours if "__pycache__" not in name}


def test_the_source_distribution_makes_the_same_wheel(wheel_and_source: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, source = wheel_and_source
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / source.name.removesuffix(".tar.gz"), tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {(info.filename, info.CRC) for info in one.infolist()} == {
            (info.filename, info.CRC) for info in other.infolist()
        }


@pytest.mark.parametrize("archive", [0, 1], ids=["wheel", "source distribution"])
def test_it_installs_and_runs_outside_the_checkout(
    archive: int, wheel_and_source: tuple[Path, Path], tmp_path: Path
) -> None:
    """In an environment of its own, which borrows the dependencies, and setuptools to build with."""
    environment = tmp_path / "environment"
    venv.create(environment)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    alone = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    run(*pip, "install", "--quiet", *alone, wheel_and_source[archive], cwd=tmp_path)
    where, version = run(python, "-c", "import ifam; print(ifam.__file__, ifam.__version__)", cwd=tmp_path).split()
    assert Path(where).is_relative_to(packages)
    assert f"ifam {version}" in run(python.with_name("ifam"), "--version", cwd=tmp_path)
    assert "usage: ifam" in run(python.with_name("ifam"), "--help", cwd=tmp_path)


def requirements(package: str, extra: str) -> list[Requirement]:
    """What a package, or an extra of it, asks for on this system: this one by pyproject.toml, others as installed."""
    if package == "ifam":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    else:
        lines = requires(package) or []
    asked = map(Requirement, lines)
    return [each for each in asked if each.marker is None or each.marker.evaluate({"extra": extra})]


def everything_needed(wanted: str) -> Iterator[Requirement]:
    """A requirement's own, theirs, and so on."""
    waiting, seen = [Requirement(wanted)], set()
    while waiting:
        requirement = waiting.pop()
        for package in {(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)} - seen:
            seen.add(package)
            waiting += requirements(*package)
        yield requirement


def test_what_is_installed_for_development_is_what_is_pinned() -> None:
    """Each is there, in a version that all who need it accept and that is pinned; and nothing else is pinned."""
    pins = {canonicalize_name(name): pin for name, pin in pinned().items()}
    needed = [each for each in everything_needed("ifam[dev]") if each.name != "ifam"]
    installed = {canonicalize_name(each.name): version(each.name) for each in needed}
    refused = [each for each in needed if not each.specifier.contains(version(each.name), prereleases=True)]
    assert refused == []
    here = {canonicalize_name(str(each.name)) for each in distributions()}  # the rest is for other systems
    assert installed.items() ^ {(name, pin) for name, pin in pins.items() if name in here} == set()


@pytest.mark.parametrize("package", pinned())
def test_licences_allow_everyone_to_use_it(package: str) -> None:
    try:
        said = licence(package)
    except ModuleNotFoundError:
        pytest.skip("not installed on this system")
    assert {*re.split(" AND | OR | WITH ", re.sub("[()]", "", said))} <= PERMISSIVE | AS_IT_IS


def test_the_page_of_licences_is_that_of_the_constraints() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert {name.removeprefix("| "): version for name, version, _ in rows} == pinned()
