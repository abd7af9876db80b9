"""What every test may use: where the pack is, and its build."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from detection_pack.languages.kept import FOLDER
from detection_pack.model.pack import Pack, load_pack

pytest_plugins = ["support.campaigns"]

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: What the core rules are measured against.
REFERENCE = ROOT / "reference"


def pytest_configure(config: pytest.Config) -> None:
    """One folder a run for what is kept between runs of the product: the processes of the run share it, and
    nothing in it is older than the code."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="detection-pack-kept-")
        config.add_cleanup(folder.cleanup)
        os.environ[FOLDER] = folder.name


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack(ROOT)
