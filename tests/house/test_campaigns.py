"""The trap: a green run that has left out what mattered, and does not say so.

The summary must count the campaigns that were left out and name each reason for a skipped test, also where
several processes run the tests and none of them sees the whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

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
