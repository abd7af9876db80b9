"""The trap: rot that no single test would see.

The folder sigma/ must never become a Python package, because it would hide pySigma; who imports whom is
settled; no committed file names a registry or a local path.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "scripts" / "detection_pack"
PLATFORMS = ("sentinel", "splunk", "elastic")


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_sigma_holds_no_python() -> None:
    assert [str(p) for p in (ROOT / "sigma").rglob("*") if p.suffix == ".py"] == []
    assert {p.suffix for p in (ROOT / "sigma").rglob("*") if p.is_file()} <= {".yml"}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_imports_no_other(platform: str) -> None:
    others = [f"detection_pack.platforms.{other}" for other in PLATFORMS if other != platform]
    for path in (PACKAGE / "platforms" / platform).glob("*.py"):
        named = imports(path)
        assert not [name for name in named if any(name.startswith(other) for other in others)], path
        upward = (
            "detection_pack.build",
            "detection_pack.replay",
            "detection_pack.validate",
            "detection_pack.cli",
        )
        assert not named & set(upward), path


def test_pack_imports_no_platform_and_platforms_have_one_shape() -> None:
    for name in ("pack", "rule", "rule_file", "pipeline", "documents", "findings", "events"):
        assert not [n for n in imports(PACKAGE / f"{name}.py") if "platforms" in n]
    for platform in PLATFORMS:
        names = {path.name for path in (PACKAGE / "platforms" / platform).iterdir()}
        assert {"backend.py", "ingest.sql", "engine.py", "artefacts.py"} <= names


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
