"""What every test may use: where the pack is, and its build."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection_pack.pack import Pack, load_pack

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: Material that may lie beside a checkout; no test needs it to be there.
SHARED = ROOT.parent / "shared" / "reference"
REFERENCE = SHARED / "reference_query.kql"


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack(ROOT)
