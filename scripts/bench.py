#!/usr/bin/env python3
"""What is published in figures: ``bench.py build`` and ``bench.py replay`` measure how long things take,
``bench.py month`` counts what the rules make of a month in which nothing is wrong (scripts/bench_month.py),
``bench.py corpus`` how many rules of anybody's folder each platform has (scripts/bench_corpus.py), ``bench.py
elastic`` what a query costs Elasticsearch before it reads a document (scripts/bench_elastic.py).

Builds are measured as ratios to stock `sigma convert` on the same rules and targets in the same run; replays
as ratios to DuckDB's own scan of the same log (scripts/bench_replay.py).

Every figure is of whole processes. The two sides run in turn, so that a change of the machine's speed hits
both, and a ratio is the median of the ratios pair by pair. Needs sigma-cli (among the test dependencies).
Files are written to memory where the system has a folder for that: how long a disk takes to make thousands of
small files differs several times over between runs.

- the pack: a whole build of it against three calls of `sigma convert`;
- each platform: a folder of rules (tests/support/corpus.py, those that both sides convert) built for it alone
  against one `sigma convert`; ours writes a file or more for each rule and everything that imports, stock
  prints its queries;
- all platforms at once on two processes, against the quickest of the three stock calls;
- how the time grows with the rules.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sigma.collection import SigmaCollection
from sigma.plugins import InstalledSigmaPlugins

from detection_pack.build.dist import make_folder
from detection_pack.model.pipeline import load_pipelines

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import bench_corpus  # noqa: E402
import bench_month  # noqa: E402
import bench_replay  # noqa: E402
import bench_tuning  # noqa: E402
from support import corpus  # noqa: E402

TARGETS = {"sentinel": "kusto", "splunk": "splunk", "elastic": "lucene"}

MEMORY = Path("/dev/shm")

Timed = Callable[[], float]


def seconds(command: Sequence[str]) -> float:
    """Wall-clock seconds of one command; it must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return time.perf_counter() - start


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


def stock(platform: str, rules: Sequence[Path]) -> float:
    """One `sigma convert` of files or folders, with the pack's pipeline."""
    program = shutil.which("sigma", path=str(Path(sys.executable).parent)) or shutil.which("sigma")
    if program is None:
        raise SystemExit("sigma is not installed; pip install -e '.[test]'")
    pipeline = f"dist/pipelines/{platform}.yml"
    return seconds([program, "convert", "-t", TARGETS[platform], "-p", pipeline, *map(str, rules)])


def ours(*arguments: str) -> float:
    """One `detection-pack build` into a new folder, unless the arguments name one."""
    command = [sys.executable, "-m", "detection_pack.cli", "build", *arguments]
    if "--out" in arguments:
        return seconds(command)
    with scratch_folder() as folder:
        return seconds([*command, "--out", f"{folder}/out"])


def convertible(folder: Path, wanted: int) -> list[Path]:
    """The first rules of the folder that every stock backend and every platform of ours converts."""
    refused = {finding.path for finding in make_folder(ROOT, folder, keep_going=True, jobs=2).refused}
    found = [path for path in sorted(folder.rglob("*.yml")) if str(path) not in refused]
    backends: Mapping[str, Any] = InstalledSigmaPlugins.autodiscover().backends
    for platform, pipeline in load_pipelines(ROOT).items():
        if platform in TARGETS:
            backend = backends[TARGETS[platform]](processing_pipeline=pipeline.processing())
            found = [path for path in found if _converts(backend, path)]
    return found[:wanted]


def _converts(backend: Any, path: Path) -> bool:
    try:
        backend.convert(SigmaCollection.from_yaml(path.read_text(encoding="utf-8")))
    except Exception:  # stock backends raise many kinds, and each means no
        return False
    return True


def ratio(label: str, a: Timed, b: Timed, runs: int, limit: float) -> bool:
    """Print the median ratio of the pairs; whether it is within the limit."""
    pairs = [(a(), b()) for _ in range(runs)]
    found = statistics.median(x / y for x, y in pairs)
    left, right = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{label:34} {left:6.2f} s : {right:6.2f} s = {found:.2f} (at most {limit})", flush=True)
    return found <= limit


def pack_ratio(runs: int) -> bool:
    core = sorted((ROOT / "sigma" / "core").glob("*.yml"))
    rules = [path for path in core if "correlation:" not in path.read_text(encoding="utf-8")]
    three: Timed = lambda: sum(stock(platform, rules) for platform in TARGETS)  # noqa: E731
    ours(), three()  # warm the file cache
    return ratio("the pack : three sigma convert", ours, three, runs, 0.5)


def folder_ratios(folder: Path, count: int, runs: int, jobs: int) -> bool:
    rules = str(folder)
    fine = True
    times: dict[str, float] = {}
    for platform in TARGETS:
        one = ["--rules", rules, "--platform", platform, "--jobs", str(jobs)]
        times[platform] = stock(platform, [folder])
        label = f"{platform}, {count} rules : sigma convert"
        mine: Timed = lambda one=one: ours(*one)  # type: ignore[misc]  # noqa: E731
        theirs: Timed = lambda platform=platform: stock(platform, [folder])  # type: ignore[misc]  # noqa: E731
        fine &= ratio(label, mine, theirs, runs, 1.0)
    quickest = min(times, key=lambda platform: times[platform])
    return fine & ratio(
        f"all three : sigma convert, {quickest}",
        lambda: ours("--rules", rules, "--jobs", str(jobs)),
        lambda: stock(quickest, [folder]),
        runs,
        2.0,
    )


def growth(files: Sequence[Path], jobs: int) -> None:
    """How the time of a build grows with the rules."""
    with scratch_folder() as scratch:
        base = Path(scratch)
        for share in (4, 2, 1):
            part = base / f"part{share}"
            part.mkdir()
            for path in files[: len(files) // share]:
                shutil.copy(path, part)
            taken = ours("--rules", str(part), "--jobs", str(jobs))
            count = len(files) // share
            print(f"{count} rules, all platforms: {taken:.2f} s, {taken / count * 1000:.2f} ms a rule")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    build = commands.add_parser("build", help="builds against stock sigma convert")
    build.add_argument("--runs", type=int, default=5, help="pairs for each ratio")
    build.add_argument("--rules", type=int, default=1000, help="rules in the folder")
    build.add_argument("--jobs", type=int, default=2, help="our processes")
    build.add_argument("--seed", type=int, default=1, help="of the folder's rules")
    replay = commands.add_parser("replay", help="replays of a log against DuckDB's scan of it")
    replay.add_argument("--runs", type=int, default=3, help="pairs for each ratio")
    replay.add_argument("--records", type=int, nargs="+", default=[50_000, 1_000_000], help="sizes of logs")
    commands.add_parser(
        "tuning", help="what lists and parameters do to it; writes reference/month/tuning.yml"
    )
    commands.add_parser("month", help="alerts of a benign month; writes reference/month/figures.yml")
    cost = commands.add_parser("elastic", help="what a query costs Elasticsearch, against stock pySigma's")
    cost.add_argument("--rules", type=int, default=100, help="rules in the made corpus")
    cost.add_argument("--runs", type=int, default=5, help="of each query")
    cost.add_argument("--seed", type=int, default=1, help="of the corpus")
    cost.add_argument("--major", default="8", help="version of Elasticsearch")
    shares = commands.add_parser("corpus", help="how many rules of a folder each platform has, and goals")
    shares.add_argument("--rules", type=Path, required=True, metavar="CHECKOUT", help="of SigmaHQ's rules")
    chosen = parser.parse_args()
    if chosen.command == "corpus":
        return bench_corpus.main(chosen.rules)
    if chosen.command == "elastic":
        import bench_elastic  # the judges that it needs need a JDK

        return 0 if bench_elastic.measure(chosen.rules, chosen.runs, chosen.seed, chosen.major) else 1
    if chosen.command == "month":
        return 0 if bench_month.measure() else 1
    if chosen.command == "tuning":
        return 0 if bench_tuning.measure() else 1
    if chosen.command == "replay":
        return 0 if bench_replay.measure(chosen.records, chosen.runs) else 1
    fine = pack_ratio(chosen.runs)
    with scratch_folder() as scratch:
        made = Path(scratch) / "made"
        corpus.write(made, count=chosen.rules * 2, seed=chosen.seed)
        files = convertible(made, chosen.rules)
        folder = Path(scratch) / "rules"
        folder.mkdir()
        for path in files:
            shutil.copy(path, folder)
        fine &= folder_ratios(folder, len(files), chosen.runs, chosen.jobs)
        growth(files, chosen.jobs)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
