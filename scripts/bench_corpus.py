"""How many rules of a folder each platform has, by log source: ``bench.py corpus --rules CHECKOUT``.

A checkout of SigmaHQ's rules is read from its folder rules/, any other folder whole. reference/goals.yml says
which share of a log source's rules each platform should have. Where the checkout has recordings beside its
rules (regression_data/), the rules run on them, too.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detection_pack.build.outcomes import Outcome, Setting, outcomes_of_files, processors
from detection_pack.build.tally import shown
from detection_pack.model.collection import of_folder
from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import no_rule, pack_version
from detection_pack.model.pipeline import load_pipelines
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule_files import rule_files
from detection_pack.model.text_table import columns
from detection_pack.replay.recordings import judged

ROOT = Path(__file__).resolve().parents[1]
GOALS = ROOT / "reference" / "goals.yml"
RULES, RECORDINGS = "rules", "regression_data"
#: What a log source is called that a rule does not state.
NONE = "none stated"

LogSourcePairs = Mapping[str, str]


@dataclass
class Share:
    """Rules of one log source: how many there are, and how many each platform has."""

    rules: int = 0
    built: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.rules += 1
        self.built.update(outcome.parts.keys())

    def cells(self) -> list[str]:
        figures = (f"{self.built[name]} ({self.built[name] / self.rules:.1%})" for name in PLATFORMS)
        return [str(self.rules), *figures]


@dataclass(frozen=True)
class Goal:
    """Which share of the rules whose log source has all of these pairs each platform should have."""

    logsource: LogSourcePairs
    least: Mapping[str, float]


def load_goals(path: Path = GOALS) -> list[Goal]:
    """The goals of a file. Raises `PackError`."""
    stated = load_documents(path)[0].data
    return [Goal(one["logsource"], one["least"]) for one in stated] if isinstance(stated, list) else []


def measure(checkout: Path) -> bool:
    """Print the tables; whether every goal that the checkout has rules for is met, and every rule finds its
    own recording. Raises `PackError` for a folder without rules."""
    folder = checkout / RULES if (checkout / RULES).is_dir() else checkout
    if not (outcomes := list(_outcomes(folder))):
        raise no_rule(folder)
    sources = {str(path): _log_source(path) for path, _ in rule_files(ROOT, folder)}
    lines, fine = tables(outcomes, sources, load_goals())
    print("\n".join(lines))
    if (checkout / RECORDINGS).is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            names, jobs = list(PLATFORMS), processors()
            found = judged(ROOT, folder, checkout / RECORDINGS, Path(scratch), names, jobs, lambda *_: None)
        print("", *found.summary(), sep="\n")
        fine &= not found.failed
    return fine


def _outcomes(folder: Path) -> Iterator[Outcome]:
    files = rule_files(ROOT, folder)
    setting = Setting(
        load_pipelines(ROOT),
        pack_version(ROOT),
        sources=load_log_sources(ROOT),
        collection=of_folder(folder.resolve().name),
    )
    found = outcomes_of_files(files, setting, processors(), folder)
    # A file of filters or of what only a correlation counts has no rule of its own.
    return (one for one in found if one.parts or one.refused or one.unread)


def _log_source(path: Path) -> LogSourcePairs:
    """The log source that a file's first rule states, as far as it can be read."""
    unread: list[Finding] = []
    try:
        documents = load_documents(path, findings=unread)
    except (PackError, OSError):
        return {}
    stated = next((d.data["logsource"] for d in documents if "logsource" in d.data), None)
    if not isinstance(stated, Mapping):
        return {}
    return {str(key): str(value) for key, value in stated.items() if value is not None}


def tables(
    outcomes: Sequence[Outcome], sources: Mapping[str, LogSourcePairs], goals: Sequence[Goal]
) -> tuple[list[str], bool]:
    """The goals and then all log sources, the one with most rules first, as lines; whether all goals are
    met. ``sources``: the log source of each file."""
    lines, fine = [], True
    rows = [["goal for", "rules", *PLATFORMS, ""]]
    for goal in goals:
        share = Share()
        for one in outcomes:
            if goal.logsource.items() <= sources.get(one.path, {}).items():
                share.add(one)
        if share.rules:
            below = [
                f"{name} below {least:.1%}"
                for name, least in sorted(goal.least.items())
                if share.built[name] / share.rules < least
            ]
            rows.append([_name(goal.logsource), *share.cells(), ", ".join(below) or "met"])
            fine &= not below
    if len(rows) > 1:
        lines += [*columns(rows), ""]
    shares: dict[str, Share] = {}
    for one in outcomes:
        shares.setdefault(_name(sources.get(one.path, {})), Share()).add(one)
    ordered = sorted(shares.items(), key=lambda item: (-item[1].rules, item[0]))
    total = Share()
    for one in outcomes:
        total.add(one)
    listed = [[shown(name), *share.cells()] for name, share in ordered]
    if total.rules:
        listed.append(["all", *total.cells()])
    return [*lines, *columns([["log source", "rules", *PLATFORMS], *listed])], fine


def _name(pairs: LogSourcePairs) -> str:
    keys = ("product", "category", "service")
    return "/".join(str(pairs[key]) for key in keys if key in pairs) or NONE


def main(checkout: Path) -> int:
    """Exit code 0 where all goals are met, 1 where not, 2 where there is nothing to measure."""
    if not checkout.is_dir():
        print(Finding(str(checkout), 1, "is not a folder", "name a checkout"), file=sys.stderr)
        return 2
    try:
        return 0 if measure(checkout) else 1
    except PackError as error:
        print(*error.findings, sep="\n", file=sys.stderr)
        return 2
