"""Campaigns: tests that look longer than a person who runs the suite wants to wait.

Each has a smaller sample of the same kind in the ordinary run, which still finds what a careless change
breaks; `--campaigns` adds the whole. The summary says what was left out and which judges were not there: a
run that is green says what it is green of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

#: Under this name a worker process tells the main process how many campaigns it has left out.
SENT = "campaigns_left_out"
LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--campaigns", action="store_true", help="run the long tests too; alone: -m campaign")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--campaigns"):
        return
    campaigns = [item for item in items if item.get_closest_marker("campaign")]
    config.stash[LEFT_OUT] = len(campaigns)
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if not item.get_closest_marker("campaign")]


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
