"""The platforms, which are the folders of ``platforms/`` that hold a ``platform.py``."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "platforms"

#: Names of folders: the registry is the list of them, and nothing else names a platform.
PLATFORMS: tuple[str, ...] = tuple(sorted(path.parent.name for path in _FOLDER.glob("*/platform.py")))
