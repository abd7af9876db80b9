"""zizmor, which others wrote and which knows GitHub's workflows. Its wheel holds the program; ``--offline``
keeps it from the network."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

from conftest import ROOT
from judges import require


def judged(*paths: Path) -> tuple[int, str]:
    """Its exit code for these files, 0 where it finds nothing, and what it prints."""
    program = shutil.which("zizmor", path=sysconfig.get_path("scripts"))
    require(None if program else "zizmor is missing: install the test extra")
    assert program is not None
    done = subprocess.run(
        [program, "--offline", "--no-progress", "--color=never", "--persona=pedantic", "--collect=all",
         "--config", str(ROOT / ".github" / "zizmor.yml"), *map(str, paths)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
