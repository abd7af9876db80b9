"""A copy of the pack's sources in a folder of a test's own, which the test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from conftest import ROOT


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def copy_of_the_sources(target: Path) -> Path:
    """What a build reads, without what it writes."""
    for name in ("sigma", "pipelines", "tests/events"):
        shutil.copytree(ROOT / name, target / name)
    for name in ("pyproject.toml", "sigma-check.yml"):
        shutil.copy(ROOT / name, target / name)
    return target
