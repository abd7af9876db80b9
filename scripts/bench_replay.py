"""How long and in how much memory `detection-pack replay` judges a large log, as ratios to DuckDB's scan.

The log is made (tests/support/exchange_log.py: raw Exchange records of 1 KB). The scan is DuckDB's of the
same file and of exactly the keys that the rules read, in the same run; ours is a whole process less its
start-up, which is the same command on a log of one record. Memory is the most that the process held.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.build.dist import rule_entries
from detection_pack.model.pack import load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import TIERS
from detection_pack.replay.needs import wanted_keys
from detection_pack.replay.verdict import selected
from support import exchange_log

ROOT = Path(__file__).resolve().parents[1]
#: What is measured: the label, the platforms, and the most that it may take of the scan's time.
SENTINEL, ALL = ("sentinel",), tuple(PLATFORMS)
_SCAN = """
import duckdb, sys, time
path, threads, *keys = sys.argv[1:]
connection = duckdb.connect(config={"threads": threads})
columns = ", ".join("'" + key + "': 'JSON'" for key in keys)
read = ", ".join(f'count("{key}"), max(length(CAST("{key}" AS VARCHAR)))' for key in keys)
start = time.perf_counter()
source = f"read_json('{path}', format='newline_delimited', columns={{{columns}}})"
connection.execute(f"SELECT {read} FROM {source}").fetchall()
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of wall-clock time and megabytes at the most."""

    seconds: float
    megabytes: float


def replayed(log: Path, platforms: Sequence[str], arguments: Sequence[str]) -> Cost:
    """One `detection-pack replay` of a log; it must succeed."""
    chosen = [part for name in platforms for part in ("--platform", name)]
    command = [sys.executable, "-m", "detection_pack.cli", "replay", str(log), *chosen, *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}: {said.decode()[-400:]}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def scanned(log: Path, keys: Sequence[str]) -> float:
    """Seconds of DuckDB's own scan of these keys, start-up left out."""
    command = [sys.executable, "-c", _SCAN, str(log), str(os.cpu_count() or 1), *keys]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


@dataclass(frozen=True)
class Line:
    """One line of the table: what ran, and the most that its ratio may be (None: it is only shown)."""

    label: str
    platforms: tuple[str, ...]
    arguments: tuple[str, ...]
    limit: float | None


LINES = (
    Line("core rules, Sentinel", SENTINEL, ("--tier", "core"), 3.0),
    *(Line(f"core rules, {p}", (p,), ("--tier", "core"), None) for p in PLATFORMS if p not in SENTINEL),
    Line("core rules, all platforms", ALL, ("--tier", "core"), 10.0),
    Line("every rule, all platforms", ALL, (), 25.0),
)


def _keys(line: Line) -> list[str]:
    """The keys of the log that the rules of a line read on its platforms."""
    tiers = set(line.arguments) & set(TIERS)
    pack = load_pack(ROOT)
    known = pack.by_name
    chosen = [rule.name for rule in pack.rules if not tiers or rule.tier in tiers]
    entries = selected(rule_entries(ROOT / "dist"), chosen)
    read = wanted_keys(ROOT / "dist", entries, line.platforms, pack.sources, known)
    found = read[exchange_log.SOURCE]
    assert found is not None
    return sorted({key for key in found if not any(key != k and key.lower() == k.lower() for k in found)})


def measure(counts: Sequence[int], runs: int) -> bool:
    """Print the table; whether every ratio is within its limit."""
    fine = True
    keys = {line: _keys(line) for line in LINES}
    with tempfile.TemporaryDirectory() as scratch:
        one = Path(scratch) / "one.jsonl"
        exchange_log.write(one, 1)
        print("| records | what | start-up | time | scan | ratio | limit | memory |")
        print("|---|---|---|---|---|---|---|---|")
        for count in counts:
            log = Path(scratch) / f"{count}.jsonl"
            exchange_log.write(log, count)
            for line in LINES:
                fine &= _line(line, count, runs, log, one, keys[line])
            log.unlink()
    return fine


def _line(line: Line, count: int, runs: int, log: Path, one: Path, keys: Sequence[str]) -> bool:
    ratios, costs, scans, starts = [], [], [], []
    for _ in range(runs):
        starts.append(replayed(one, line.platforms, line.arguments).seconds)
        scans.append(scanned(log, keys))
        costs.append(replayed(log, line.platforms, line.arguments))
        ratios.append((costs[-1].seconds - starts[-1]) / scans[-1])
    ratio = statistics.median(ratios)
    taken = statistics.median(cost.seconds for cost in costs)
    memory = max(cost.megabytes for cost in costs)
    limit = "" if line.limit is None else f"{line.limit:g}"
    print(
        f"| {count:,} | {line.label} | {statistics.median(starts):.2f} s | {taken:.2f} s"
        f" | {statistics.median(scans):.2f} s | {ratio:.1f} | {limit} | {memory:,.0f} MB |",
        flush=True,
    )
    return line.limit is None or ratio <= line.limit
