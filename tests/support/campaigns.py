"""Campaigns: tests that look longer than a person who runs the suite wants to wait.

Each has a smaller sample of the same kind in the ordinary run, which still finds what a careless change
breaks; `--campaigns` adds the whole. The summary says what was left out and which judges were not there: a
run that is green says what it is green of.

Besides the tests that are marked, `LONG` lists tests of which only the first cases run in the ordinary run.
It is made from measured processor time: ``pytest --campaigns --costs=FOLDER`` writes what each test took,
``python -m support.campaigns FOLDER`` (in tests/) the list. A test that is named on the command line runs.

The tests of a file run in one process, and the files that take longest (`COSTS`, of the same figures) come
first: a process that is left with a long one at the end keeps all others waiting.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

#: Under this name a worker process tells the main process how many campaigns it has left out.
SENT = "campaigns_left_out"
LEFT_OUT = pytest.StashKey[int]()
#: A test a line: how many of its cases, the first ones, run in the ordinary run, and its name.
LONG = Path("tests") / "support" / "long_tests.txt"
#: A file of tests a line: seconds of processor time in the ordinary run, those of its campaigns, its name.
COSTS = Path("tests") / "support" / "file_costs.txt"
#: Seconds of processor time that the cases of one test may take together in the ordinary run.
SHORT = 1.5
LISTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--campaigns", action="store_true", help="run the long tests too; alone: -m campaign")
    parser.addoption("--costs", metavar="FOLDER", help="write there what each test took, in processor time")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    folder = item.config.getoption("--costs")
    before = sum(os.times()[:4])
    result = yield
    if folder is not None:
        with (Path(folder).absolute() / f"{os.getpid()}.txt").open("a", encoding="utf-8") as file:
            kind = "campaign" if LISTED not in item.stash and item.get_closest_marker("campaign") else "test"
            file.write(f"{sum(os.times()[:4]) - before:.2f} {kind} {item.nodeid}\n")
    return result


# Before pytest itself goes by the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = config.rootpath / LONG
    if listed.is_file() and not any("::" in argument for argument in config.args):
        _mark(items, kept_cases(listed.read_text(encoding="utf-8")))
    costs = config.rootpath / COSTS
    if costs.is_file():
        seconds = seconds_of_files(costs.read_text(encoding="utf-8"))
        of_run = 1 if config.getoption("--campaigns") else 0
        items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], (0, 0))[of_run])
    if config.getoption("--campaigns"):
        return
    campaigns = [item for item in items if item.get_closest_marker("campaign")]
    config.stash[LEFT_OUT] = len(campaigns)
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if not item.get_closest_marker("campaign")]


def kept_cases(text: str) -> Mapping[str, int]:
    """By test, how many of its cases run in the ordinary run."""
    lines = (line.partition(" ") for line in text.splitlines() if line and line[0] != "#")
    return {name: int(number) for number, _, name in lines}


def seconds_of_files(text: str) -> Mapping[str, tuple[float, float]]:
    """By file, the seconds of the ordinary run and of its campaigns."""
    lines = (line.split(" ", 2) for line in text.splitlines() if line and line[0] != "#")
    return {name: (float(ordinary), float(campaigns)) for ordinary, campaigns, name in lines}


def _mark(items: Sequence[pytest.Item], kept: Mapping[str, int]) -> None:
    seen: Counter[str] = Counter()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name in kept and item.get_closest_marker("campaign") is None:
            seen[name] += 1
            if seen[name] > kept[name]:
                item.add_marker("campaign")
                item.stash[LISTED] = True


def long_tests(costs: Mapping[str, float]) -> dict[str, int]:
    """By test, how many of its cases are short together; only tests that are not, and of each file at least
    one case stays. ``costs``: seconds by case, in the order in which they run."""
    files: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case, seconds in costs.items():
        name = case.partition("[")[0]
        files[name.partition("::")[0]][name].append(seconds)
    found: dict[str, int] = {}
    for tests in files.values():
        kept = {name: _short(cases) for name, cases in tests.items()}
        if not any(kept.values()):
            cheapest = min(tests, key=lambda name: tests[name][0])
            kept[cheapest] = 1
        found |= {name: number for name, number in kept.items() if number < len(tests[name])}
    return found


def _short(cases: Sequence[float]) -> int:
    total, number = 0.0, 0
    for seconds in cases:
        total += seconds
        if total > SHORT:
            break
        number += 1
    return number


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[SENT] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker collects all tests, so that each tells the same number."""
    told = getattr(node, "workeroutput", {}).get(SENT, 0)
    node.config.stash[LEFT_OUT] = max(told, node.config.stash.get(LEFT_OUT, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    for line in left_out(config.stash.get(LEFT_OUT, 0), reasons):
        terminalreporter.write_line(line)


def left_out(campaigns: int, reasons: Counter[str]) -> Sequence[str]:
    """The lines of the summary: what the run did not do."""
    lines = []
    if campaigns:
        lines.append(f"left out: {campaigns} campaigns (run them with --campaigns -m campaign)")
    lines += [f"skipped: {count} ({reason})" for reason, count in sorted(reasons.items())]
    return lines


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped; pytest keeps a tuple of path, line and reason."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")


def file_costs(
    costs: Mapping[str, float], campaigns: Mapping[str, float], kept: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """By file, the seconds of its tests in the ordinary run and of its campaigns, the longest first.

    ``costs`` and ``campaigns``: seconds by case, of those that are marked apart; ``kept`` as in `LONG`."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    seen: Counter[str] = Counter()
    for case, seconds in costs.items():
        name = case.partition("[")[0]
        seen[name] += 1
        found[case.partition("::")[0]][name in kept and seen[name] > kept[name]] += seconds
    for case, seconds in campaigns.items():
        found[case.partition("::")[0]][1] += seconds
    ordered = sorted(found.items(), key=lambda one: (-sum(one[1]), one[0]))
    return {name: (ordinary, more) for name, (ordinary, more) in ordered}


def write_lists(folder: Path, root: Path) -> None:
    """Make `LONG` and `COSTS` anew of what ``--costs`` wrote into ``folder``."""
    measured: dict[str, dict[str, float]] = {"test": {}, "campaign": {}}
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            seconds, kind, case = line.split(" ", 2)
            measured[kind][case] = float(seconds)
    made = "Made by campaigns.py: do not edit.\n"
    kept = long_tests(measured["test"])
    lines = [f"# How many cases of a long test are in the ordinary run. {made}"]
    lines += [f"{number} {name}\n" for name, number in sorted(kept.items())]
    (root / LONG).write_text("".join(lines), encoding="utf-8")
    lines = [f"# Seconds of processor time of a file, in the ordinary run and in campaigns. {made}"]
    costs = file_costs(measured["test"], measured["campaign"], kept)
    # What takes less comes last in any order.
    lines += [f"{a:.0f} {b:.0f} {name}\n" for name, (a, b) in costs.items() if a + b >= 1]
    (root / COSTS).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_lists(Path(sys.argv[1]), Path(__file__).parents[2])
