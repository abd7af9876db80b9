"""What `detection-pack investigate` prints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.build.dist import rule_entries
from detection_pack.investigate.ready_queries import parameters, queries_text, ready_queries
from detection_pack.investigate.trail import trail, wanted
from detection_pack.investigate.trail_text import trail_text
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import INVESTIGATION
from detection_pack.replay import log_replay, report_page
from detection_pack.replay.inputs import STANDARD_INPUT, absent
from detection_pack.replay.progress import progress
from detection_pack.replay.read_report import lines
from detection_pack.replay.reading import read


@dataclass(frozen=True)
class Asked:
    """Which logs are asked for which account; ``report`` is the page to write."""

    logs: Sequence[Path]
    account: str
    strict: bool = False
    quiet: bool = False
    report: Path | None = None


def queries(pack: Pack, values: Mapping[str, str], names: Sequence[str], form: str) -> str:
    """The queries with these values, as text or as JSON. Raises `PackError`."""
    found = ready_queries(pack, values, names)
    if not found:
        what = f"finds no query that asks for {', '.join(values)}"
        raise PackError.at("--queries", 1, what, f"use {', '.join(parameters(pack.rules))}")
    if form == "json":
        return json.dumps({"queries": [one.as_json() for one in found]}, indent=1)
    return queries_text(found)


def investigate(pack: Pack, dist: Path, asked: Asked, form: str) -> tuple[list[str], str]:
    """What was read, as lines, and the answers, as a table or as JSON. Raises `PackError`."""
    if not any(str(path) == STANDARD_INPUT or path.exists() for path in asked.logs):
        raise PackError(list(map(absent, asked.logs)))
    keys = wanted(pack.sources.values())
    replayed = None if asked.report is None else _asked_of_rules(pack, dist, asked)
    trials = log_replay.Trials()
    with progress(asked.quiet) as told, tempfile.TemporaryDirectory(prefix="detection-pack-") as scratch:
        if replayed is not None:
            reading, trials = log_replay.opened(replayed, pack, asked.logs, Path(scratch), told, keys)
        else:
            note = lambda label, number: told(label, number, 0)  # noqa: E731
            reading = read(asked.logs, pack.sources, keys, strict=asked.strict, progress=note)
        with reading:
            said = list(lines(reading))
            found = trail(reading, asked.account).as_json()
            if replayed is not None and asked.report is not None:
                answer = log_replay.answered(replayed, pack, reading, trials, told).as_json()
                report_page.write_report(asked.report, answer, dist, pack.version, found)
    # In ASCII: a value out of a log may hold half of a surrogate pair, or what steers a terminal.
    return said, json.dumps(found, indent=1) if form == "json" else trail_text(found)


def _asked_of_rules(pack: Pack, dist: Path, asked: Asked) -> log_replay.Asked:
    """All rules but the investigation queries, which ask for a value."""
    by_hand = {rule.name for rule in pack.rules if rule.tier == INVESTIGATION}
    names = [entry.name for entry in rule_entries(dist) if entry.name not in by_hand]
    return log_replay.Asked(dist, PLATFORMS, names, strict=asked.strict)
