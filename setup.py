"""The pack's data in the wheel: rules, pipelines, events, documents and artefacts.

A checkout keeps them where people look for them; a wheel holds a copy inside the package, so that the
installed command works from any folder. Everything else about the project stands in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
#: What `detection_pack.cli` looks for in a checkout and in the wheel alike; MANIFEST.in has the same list.
DATA = (
    "CHANGELOG.md",
    "LICENSE",
    "LICENSE-RULES",
    "dist",
    "docs",
    "pipelines",
    "pyproject.toml",
    "response",
    "sigma",
    "sigma-check.yml",
    "tests/atomics",
    "tests/events",
)
#: What may lie in these folders and is no part of the pack. Packaging tools write to dist/ by habit.
NOT_OURS = shutil.ignore_patterns(".*", "__pycache__", "*.whl", "*.tar.gz")


class BuildWithData(build_py):
    """Copies the pack's data to ``detection_pack/_pack/`` of what is built, never into the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        packaged = Path(self.build_lib) / "detection_pack" / "_pack"
        # A build folder may still hold the data of an earlier build.
        shutil.rmtree(packaged, ignore_errors=True)
        for name in DATA:
            source, target = ROOT / name, packaged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=NOT_OURS)
            else:
                shutil.copy(source, target)


setup(cmdclass={"build_py": BuildWithData})
