"""What every test may use: where the pack is, and its build."""

from __future__ import annotations

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
