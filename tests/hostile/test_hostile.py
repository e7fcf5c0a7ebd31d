"""No input may do more than be refused; see the package's docstring."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.case import Material
from hostile.corpus import KINDS, corpus
from hostile.judge import peak, reset_peak, weigh
from hostile.survey import ENVIRONMENT, survey

LEAST, SHARE, PROCESSES = 2000, 13, 24


def test_the_corpus_is_large_enough_and_always_the_same() -> None:
    names = [case.name for case in corpus()]
    assert len(names) == len(set(names)) >= LEAST
    assert names == [case.name for case in corpus()]
    assert {name.partition("/")[0] for name in names} == set(KINDS)


def test_a_share_of_the_corpus() -> None:
    found = survey(every=SHARE)
    assert {outcome.name.partition("/")[0] for outcome in found} == set(KINDS)
    assert [outcome for outcome in found if outcome.result == "defect"] == []


@pytest.mark.slow
def test_the_whole_corpus() -> None:
    found = survey()
    assert [outcome for outcome in found if outcome.result == "defect"] == []
    assert len(found) >= LEAST


@pytest.fixture
def material(tmp_path: Path) -> Iterator[Material]:
    made = Material(tmp_path / "material")
    made.root.mkdir()
    made.build()
    return made


@pytest.mark.slow
def test_some_in_processes_of_their_own(material: Material, tmp_path: Path) -> None:
    chosen = [case for case in corpus() if not case.name.startswith("images/upload")]
    for number, case in enumerate(chosen[:: len(chosen) // PROCESSES]):
        place = tmp_path / str(number)
        (place / "out").mkdir(parents=True)
        program, *arguments = case.write(place, material, case.random())
        if program != "ifam" or any("\0" in word or len(word) > 100_000 for word in arguments):
            continue  # no system passes those on
        done = subprocess.run(
            [sys.executable, "-m", "ifam.cli", *map(os.fsencode, arguments)],
            cwd=place, capture_output=True, timeout=120, env=os.environ | ENVIRONMENT, check=False,
        )  # fmt: skip
        screen = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        outcome = weigh(case, done.returncode, screen, [], 0, 0)
        assert outcome.result != "defect", (case.name, outcome.said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "nobody foresaw"),
        ("open('elsewhere', 'w').close()", "touched"),
        ("__import__('os').system('true')", "started"),
        ("__import__('warnings').warn('old')", "own words"),
        ("print('no end', flush=True); raise SystemExit(3)", "ended with 3"),
        ("raise ifam.errors.DataError('wrong')", "no line that says what was expected"),
    ],
)
def test_the_judge_sees_what_it_should(body: str, said: str, tmp_path: Path) -> None:
    """In a process of its own: an audit hook stays for good."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; import ifam.errors, ifam.commands.doctor as doctor\n"
        "from hostile.judge import audit, judge; from hostile.case import Case, Material\n"
        f"def run(options): {body}\n"
        "doctor.run.__code__ = run.__code__; doctor.run.__globals__['ifam'] = ifam; audit()\n"
        "root = Path(sys.argv[1]); (root / 'material').mkdir()\n"
        "case = Case(name='images/bad', write=lambda *given: ['ifam', 'doctor'])\n"
        "print(judge(case, root / 'place', Material(root / 'material')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parents[1])], capture_output=True, text=True
    )
    assert "result='defect'" in done.stdout, done.stderr
    assert said in done.stdout


def test_memory_is_measured_again_for_every_input() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    reset_peak()  # of what ran in this process before
    before = peak()
    block = bytearray(300 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak() >= before + 200 * 2**20
    del block
    reset_peak()
    assert peak() < before + 100 * 2**20
