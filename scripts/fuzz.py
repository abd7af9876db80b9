#!/usr/bin/env python3
"""Mutated rules, pipelines, events files and logs against the real command line.

No traceback, no "internal error", nothing over 5 seconds, exit code 0, 1 or 2, errors of one line, and an
output folder that is a whole build or as it was. A case is a function of the seed and its number:

    python scripts/fuzz.py --count 20000 --jobs 2 --seed 1
    python scripts/fuzz.py --seed 1 --case 4711

Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from support.fuzzing import campaign, targets  # noqa: E402
from support.fuzzing.sandbox import LIMIT, Sandbox  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20_000, help="cases to run")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--case", type=int, action="append", help="run this case alone and print it")
    parser.add_argument("--target", help="run the cases of this target only")
    parser.add_argument(
        "--failures", type=Path, metavar="DIR", help="write failing inputs here, also smaller"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        campaign.work(arguments.seed, LIMIT)
        return 0
    if arguments.case:
        return one(arguments.seed, arguments.case)
    groups = targets.groups(arguments.count)
    if arguments.target:
        groups = [group for group in groups if targets.target_of(group[0]).name == arguments.target]
    command = [sys.executable, __file__, "--worker", "--seed", str(arguments.seed)]
    start = time.monotonic()
    tally = campaign.Campaign(command, arguments.jobs).run(groups)
    report(arguments.seed, tally.failures, arguments.failures)
    print(campaign.summary(tally, time.monotonic() - start))
    return 1 if tally.failures else 0


def one(seed: int, cases: Sequence[int]) -> int:
    """Run cases as one group, show them, and say what happened."""
    campaign.warm_up()
    target = targets.target_of(cases[0])
    inputs = [targets.input_of(seed, case) for case in cases]
    failed = False
    with Sandbox() as sandbox:
        for given in inputs:
            print(f"---- {given.name} ({target.name}, {len(given.data)} bytes)")
            print(given.data[:20_000].decode("utf-8", "backslashreplace"))
        for command, outcome in campaign.run_inputs(sandbox, target, inputs):
            print(
                f"---- detection-pack {' '.join(command.argv)}: exit {outcome.code}, {outcome.seconds:.2f} s"
            )
            print((outcome.out + outcome.err).encode("utf-8", "backslashreplace").decode())
            for fault in outcome.faults:
                failed = True
                print(f"FAULT {fault.kind}: {fault.detail}")
        if failed:
            print(campaign.cause(sandbox, target, inputs[0]))
    return int(failed)


def report(seed: int, failures: Sequence[campaign.Failure], folder: Path | None) -> None:
    """Each kind of failure once, with how often it came; as files too, if a folder is given."""
    kinds: dict[str, list[campaign.Failure]] = {}
    for failure in failures:
        kinds.setdefault(failure.fault.signature, []).append(failure)
    if not kinds:
        return
    campaign.warm_up()
    with Sandbox() as sandbox:
        for alike in kinds.values():
            first = alike[0]
            print(f"{len(alike)} x {campaign.described(seed, first)}", end="")
            target = targets.target_of(first.cases[0])
            given = targets.input_of(seed, first.cases[0])
            if first.fault.kind in ("internal error", "exit code", "traceback"):
                print(campaign.cause(sandbox, target, given)[-1500:])
            if folder is not None:
                alone = len(first.cases) == 1 and first.fault.kind not in ("hang", "death")
                smaller = campaign.shrunk(sandbox, target, given, first.fault) if alone else None
                for path in campaign.written(folder, seed, first, given, smaller):
                    print(f"  {path}")


if __name__ == "__main__":
    sys.exit(main())
