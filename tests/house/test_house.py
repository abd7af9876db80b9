"""The trap: rot that no single test would see.

The folder sigma/ must never become a Python package, because it would hide pySigma; who imports whom is
held in test_layers.py; no committed file names a registry or a local path.
"""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from conftest import ROOT
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.platforms.platform import platforms

PACKAGE = ROOT / "scripts" / "detection_pack"


def test_sigma_holds_no_python() -> None:
    assert [str(p) for p in (ROOT / "sigma").rglob("*") if p.suffix == ".py"] == []
    assert {p.suffix for p in (ROOT / "sigma").rglob("*") if p.is_file()} <= {".yml"}


def test_pytest_collects_every_file_of_tests() -> None:
    """A folder whose name pytest leaves out by itself ("build", "dist") is a room without a test."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    collected = {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}


def test_platforms_have_one_shape() -> None:
    assert set(PLATFORMS) == {"defender", "elastic", "sentinel", "splunk"}
    for name, here in zip(PLATFORMS, platforms(), strict=True):
        assert (here.id, here.forms[0].exact) == (name, True)
        names = {path.name for path in (PACKAGE / "platforms" / name).iterdir()}
        assert {"platform.py", "backend.py"} <= names or name == "sentinel", name


def test_nothing_knows_a_rule_by_name() -> None:
    names = {path.stem for path in (ROOT / "sigma").rglob("*.yml")}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not names & {text for text in literals if isinstance(text, str)}, path


def test_no_committed_file_names_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    bad = ("registry." + "npmjs", "files." + "pythonhosted", "/" + "root/", "/" + "work/")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            content = path.read_bytes().decode("utf-8", "replace")
            assert not [word for word in bad if word in content], name
