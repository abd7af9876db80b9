"""A copy of the pack's sources in a folder of a test's own, which the test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from conftest import ROOT


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    return {path: content for path, content in tree(folder).items() if content is not None}


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder with None, by relative path."""
    paths = sorted(folder.rglob("*"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in paths}


def copy_of_the_sources(target: Path) -> Path:
    """What a build reads, without what it writes."""
    for name in ("sigma", "pipelines", "response", "tests/events", "reference/month"):
        shutil.copytree(ROOT / name, target / name)
    for name in ("pyproject.toml", "sigma-check.yml"):
        shutil.copy(ROOT / name, target / name)
    return target


def copy_of_the_pack(target: Path) -> Path:
    """What a contributor changes, in a folder of its own."""
    copy_of_the_sources(target)
    for name in ("docs", "dist"):
        shutil.copytree(ROOT / name, target / name)
    return target


def core_alone(root: Path) -> Path:
    """A copy of the pack without its other tiers, for what costs as much as the pack has rules; and without
    the filters, the response, the coverage and the facts, which name rules of all tiers."""
    shutil.rmtree(root / "sigma" / "filters")
    shutil.rmtree(root / "response")
    for name in ("coverage.yml", "facts.yml"):
        (root / "reference" / name).unlink(missing_ok=True)
    for tier in ("extended", "hunting", "investigation"):
        for path in (root / "sigma" / tier).glob("*.yml"):
            (root / "tests" / "events" / path.name).unlink()
            path.unlink()
    return root
