"""What every test may use: where the pack is, and its build."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detection_pack.model.pack import Pack, load_pack

pytest_plugins = ["support.campaigns"]

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: What the core rules are measured against.
REFERENCE = ROOT / "reference"


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack(ROOT)


def copy_of_the_pack(target: Path) -> Path:
    """What a contributor changes, in a folder of its own."""
    for name in ("sigma", "pipelines", "tests/events", "docs", "dist"):
        shutil.copytree(ROOT / name, target / name)
    for name in ("pyproject.toml", "sigma-check.yml"):
        shutil.copy(ROOT / name, target / name)
    return target


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder with None, by relative path."""
    paths = sorted(folder.rglob("*"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in paths}
