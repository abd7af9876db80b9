#!/usr/bin/env python3
"""How long a whole build takes, as a ratio to three `sigma convert` calls in the same run.

Both sides are whole processes, run in turn so that a change of the machine's speed hits both; the figure is
the median of the ratios, pair by pair. Needs sigma-cli (it is among the test dependencies).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"kusto": "sentinel", "splunk": "splunk", "lucene": "elastic"}
LIMIT = 0.5


def seconds(command: Sequence[str]) -> float:
    """Wall-clock seconds of one command; it must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return time.perf_counter() - start


def sigma_convert() -> float:
    """Three stock conversions, one for each platform, with the pack's pipelines.

    Of the core rules only those that all stock backends can convert: not the correlation.
    """
    program = shutil.which("sigma", path=str(Path(sys.executable).parent)) or shutil.which("sigma")
    if program is None:
        raise SystemExit("sigma is not installed; pip install -e '.[test]'")
    rules = [
        str(p) for p in sorted((ROOT / "sigma" / "core").glob("*.yml")) if "correlation:" not in p.read_text()
    ]
    total = 0.0
    for target, platform in TARGETS.items():
        pipeline = f"pipelines/{platform}.yml"
        total += seconds([program, "convert", "-t", target, "-p", pipeline, *rules])
    return total


def build() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, "-m", "detection_pack.cli", "build", "--out", f"{folder}/dist"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    build(), sigma_convert()  # warm the file cache
    pairs = [(build(), sigma_convert()) for _ in range(runs)]
    ratio = statistics.median(ours / stock for ours, stock in pairs)
    print(f"build:                {statistics.median(ours for ours, _ in pairs):.2f} s (median of {runs})")
    print(f"three sigma convert:  {statistics.median(stock for _, stock in pairs):.2f} s")
    print(f"ratio:                {ratio:.2f} (at most {LIMIT})")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
