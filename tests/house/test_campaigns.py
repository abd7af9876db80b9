"""The trap: a green run that has left out what mattered, and does not say so.

The summary must count the campaigns that were left out and name each reason for a skipped test, also where
several processes run the tests and none of them sees the whole.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from support.campaigns import COSTS, LONG, SHORT, kept_cases, seconds_of_files, write_lists

TESTS = """
import pytest

def test_plain():
    pass

def large(size):
    return pytest.param(size, marks=pytest.mark.campaign)

@pytest.mark.parametrize("size", [1, large(2), large(3)])
def test_sampled(size):
    assert size

def test_judged():
    pytest.skip("the judge is missing")

@pytest.mark.skipif(True, reason="the judge is missing")
def test_judged_as_well():
    pass
"""


def run(folder: Path, *options: str) -> list[str]:
    """The last lines that pytest prints for the tests above."""
    (folder / "conftest.py").write_text('pytest_plugins = ["support.campaigns"]\n', encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = campaign\n", encoding="utf-8")
    (folder / "test_it.py").write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], cwd=folder, text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("processes", [("-n", "0"), ("-n", "2")], ids=" ".join)
def test_the_summary_says_what_was_left_out(processes: tuple[str, str], tmp_path: Path) -> None:
    said = run(tmp_path, *processes)
    assert "left out: 2 campaigns (run them with --campaigns -m campaign)" in said
    assert "skipped: 2 (the judge is missing)" in said
    assert said[-1].startswith("2 passed, 2 skipped")


def test_campaigns_are_run_alone_or_with_the_others(tmp_path: Path) -> None:
    alone = run(tmp_path, "-n", "0", "--campaigns", "-m", "campaign")
    assert alone[-1].startswith("2 passed, 4 deselected") and not [s for s in alone if "left out" in s]
    assert run(tmp_path, "-n", "0", "--campaigns")[-1].startswith("4 passed, 2 skipped")


def test_of_a_long_test_the_first_cases_run_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / LONG).parent.mkdir(parents=True)
    (tmp_path / LONG).write_text(
        "# made\n0 test_it.py::test_plain\n1 test_it.py::test_judged\n", encoding="utf-8"
    )
    said = run(tmp_path, "-n", "0")
    assert "left out: 3 campaigns (run them with --campaigns -m campaign)" in said
    assert said[-1].startswith("1 passed, 2 skipped")
    assert run(tmp_path, "-n", "0", "--campaigns", "-m", "campaign")[-1].startswith("3 passed, 3 deselected")
    assert run(tmp_path, "-n", "0", "test_it.py::test_plain")[-1].startswith("1 passed")


def test_costs_make_the_list_and_every_file_keeps_a_test(tmp_path: Path) -> None:
    (tmp_path / "costs").mkdir()
    (tmp_path / LONG).parent.mkdir(parents=True)
    assert run(tmp_path, "-n", "0", "--campaigns", "--costs", "costs")[-1].startswith("4 passed, 2 skipped")
    [written] = (tmp_path / "costs").glob("*.txt")
    lines = written.read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines[:3]] == [
        "test test_it.py::test_plain",
        "test test_it.py::test_sampled[1]",
        "campaign test_it.py::test_sampled[2]",
    ]
    costs = ["0.5 test a.py::one[x]", f"{SHORT:.2f} test a.py::one[y]", "9 campaign a.py::one[z]"]
    costs += ["7 test b.py::two", "6 test b.py::three[some words]", "0.1 test c.py::four"]
    written.write_text("\n".join(costs), encoding="utf-8")
    write_lists(tmp_path / "costs", tmp_path)
    text = (tmp_path / LONG).read_text(encoding="utf-8")
    assert kept_cases(text) == {"a.py::one": 1, "b.py::two": 0}
    files = seconds_of_files((tmp_path / COSTS).read_text(encoding="utf-8"))
    # Of a.py all but the first case is a campaign, of b.py the first of its two tests; c.py takes no time.
    assert list(files) == ["b.py", "a.py"] and files["b.py"] == (6, 7)
    assert files["a.py"] == (0, round(9 + SHORT))


def test_the_files_that_take_longest_come_first(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"test_{name}.py").write_text(f"def test_{name}():\n    pass\n", encoding="utf-8")
    (tmp_path / COSTS).parent.mkdir(parents=True)
    (tmp_path / COSTS).write_text("# made\n3 0 test_c.py\n1 9 test_b.py\n0 1 test_it.py\n", encoding="utf-8")

    def order(*options: str) -> list[str]:
        said = run(tmp_path, "-n", "0", "-v", *options)
        ran = [found[1] for line in said if (found := re.match(r"test_(\w+)\.py ", line))]
        return list(dict.fromkeys(ran))

    assert order() == ["c", "b", "a", "it"]
    assert order("--campaigns") == ["b", "it", "a", "c"]


def test_every_long_test_is_there() -> None:
    for name in kept_cases((ROOT / LONG).read_text(encoding="utf-8")):
        path, _, function = name.partition("::")
        assert f"def {function.rpartition('::')[2]}(" in (ROOT / path).read_text(encoding="utf-8"), name
