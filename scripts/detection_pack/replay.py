"""dist/ against events: the verdicts of every shipped query, compared with what must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from detection_pack.build import manifest_paths, rule_entries
from detection_pack.cases import THRESHOLD, Case, events_file, kind_of, load_cases
from detection_pack.events import Clock, Event, Hit, RuleEntry
from detection_pack.findings import Finding, PackError, printable
from detection_pack.pipeline import PLATFORMS
from detection_pack.platforms.elastic import engine as elastic
from detection_pack.platforms.elastic.cluster_session import Session
from detection_pack.platforms.elastic.rules_engine import run_rules
from detection_pack.platforms.sentinel import engine as sentinel
from detection_pack.platforms.sentinel.imports_engine import run_imports
from detection_pack.platforms.splunk import engine as splunk
from detection_pack.platforms.splunk.app_engine import run_app
from detection_pack.rule import Rule

Runner = Callable[[Path, Sequence[RuleEntry], Sequence[Event], Clock], list[Hit]]
#: The queries as files, and the same rules out of what a team imports.
ENGINES: dict[str, Runner] = {"sentinel": sentinel.run, "splunk": splunk.run, "elastic": elastic.run}
IMPORTS: dict[str, Runner] = {"sentinel": run_imports, "splunk": run_app, "elastic": run_rules}

#: dist/ folders that belong to a platform besides its own, and the artefacts that hold every rule.
_FOLDERS = {"defender": "sentinel"}
_SHARED = ("azuredeploy.json", ".tgz", "rules.ndjson")
#: A rule's own query on each platform; its hits are what replay reports of a log.
_OWN_QUERY = (".kql", ".spl", ".lucene", ".esql")

#: Artefacts that may alert more often than the rule, never less: Kibana's threshold rule.
SOUND_ONLY = ".threshold.json"


_TODO = "correct the rule or the case"


@dataclass(frozen=True)
class Verdict:
    """How one artefact did on the cases of its rule. ``faults``: which came out otherwise, and how."""

    platform: str
    rule: str
    artefact: str
    matched: int
    must_match: int
    silent: int
    must_not: int
    faults: tuple[tuple[Case, str], ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What it got wrong, a case each."""
        return tuple(
            Finding(str(case.path), case.line, f"{self.artefact}: {fault}: {case.title}", _TODO)
            for case, fault in self.faults
        )


def selected(entries: Sequence[RuleEntry], names: Iterable[str] | None) -> list[RuleEntry]:
    """The entries of these rules; all of them for None. Raises `PackError` for a name that dist/ lacks."""
    if not names:
        return list(entries)
    known = {entry.name: entry for entry in entries}
    for name in names:
        if name not in known:
            raise PackError.at("--rule", 1, f'no rule "{name}" in dist/', f"use {', '.join(sorted(known))}")
    return [known[name] for name in dict.fromkeys(names)]


def replay(
    dist: Path,
    events: Sequence[Event],
    platforms: Sequence[str] = PLATFORMS,
    rules: Iterable[str] | None = None,
) -> list[Hit]:
    """Execute what stands in ``dist`` on the events, as if right after the last of them.

    The look-back knob is set to cover them all; every other knob is as shipped.
    """
    entries = selected(rule_entries(dist), rules)
    clock = clock_for(events)
    return [hit for platform in platforms for hit in ENGINES[platform](dist, entries, events, clock)]


def cluster_runners(session: Session) -> tuple[Runner, Runner]:
    """What `ENGINES` and `IMPORTS` have for Elastic, on a cluster."""
    return (
        partial(elastic.run, opened=session.opened, esql=session.has_esql),
        partial(run_rules, opened=session.opened, esql=session.has_esql),
    )


def on_cluster(
    session: Session, dist: Path, events: Sequence[Event], rules: Iterable[str] | None = None
) -> list[Hit]:
    """`replay` for Elastic on a cluster: the hits of each rule's own query. Without ES|QL a correlation is
    its threshold rule, which may alert more often than the rule."""
    entries = selected(rule_entries(dist), rules)
    hits = cluster_runners(session)[0](dist, entries, events, clock_for(events))
    return exact(hits) + [h for h in hits if h.artefact.endswith(SOUND_ONLY) and not session.has_esql]


def judged_on_cluster(
    session: Session, dist: Path, cases: Mapping[str, Sequence[Case]]
) -> tuple[list[Hit], str, list[Finding]]:
    """The rules' own cases on a cluster: hits, the table of verdicts, and what came out otherwise."""
    executed = execute(dist, cases, ["elastic"], {"elastic": cluster_runners(session)})
    verdicts = judge(dist, cases, executed)
    if not session.has_esql:
        windows = {entry.name for entry in rule_entries(dist) if entry.window is not None}
        verdicts = [v for v in verdicts if v.rule not in windows or v.artefact.endswith(SOUND_ONLY)]
    hits = [hit for found in executed.values() for hit in found]
    return exact(hits), table(verdicts), [finding for v in verdicts for finding in v.wrong]


def clock_for(events: Sequence[Event]) -> Clock:
    """One second after the last event, looking back over all of them, in whole days."""
    times = [event.time for event in events if event.time is not None]
    if not times:
        return Clock(datetime(2026, 1, 1, tzinfo=UTC), "1d")
    now = max(times) + timedelta(seconds=1)
    return Clock(now, f"{(now - min(times)).days + 1}d")


def all_cases(root: Path, rules: Sequence[Rule]) -> dict[str, list[Case]]:
    """The cases of every rule. A rule without an events file is an error."""
    found = {}
    for rule in rules:
        path = events_file(root, rule.name)
        if not path.is_file():
            raise PackError.at(rule.path, 1, "has no events file", f"write tests/events/{path.name}")
        found[rule.name] = load_cases(path, kind_of(rule))
    return found


def execute(
    dist: Path,
    cases: Mapping[str, Sequence[Case]],
    platforms: Sequence[str] = PLATFORMS,
    runners: Mapping[str, Sequence[Runner]] | None = None,
) -> dict[tuple[str, str], list[Hit]]:
    """Replay each rule's own cases: the hits of every ``(rule, platform)``. ``runners``: others than ours."""
    runners = runners or {platform: (ENGINES[platform], IMPORTS[platform]) for platform in platforms}
    entries = {entry.name: entry for entry in rule_entries(dist)}
    found = {}
    for name, listed in cases.items():
        if name not in entries:
            raise PackError.at(
                dist / "manifest.json", 1, f'lacks the rule "{name}"', "run detection-pack build"
            )
        events = [event for case in listed for event in case.events]
        clock = clock_for(events)
        for platform in platforms:
            found[name, platform] = [
                h for run in runners[platform] for h in run(dist, [entries[name]], events, clock)
            ]
    return found


def judge(
    dist: Path, cases: Mapping[str, Sequence[Case]], executed: Mapping[tuple[str, str], Sequence[Hit]]
) -> list[Verdict]:
    """Compare executed hits with the cases. Every artefact that was executed gets a verdict."""
    entries = {entry.name: entry for entry in rule_entries(dist)}
    verdicts = []
    for (name, platform), hits in executed.items():
        entry = entries[name]
        for artefact in _judged(dist, entry, platform, hits):
            own = [hit for hit in hits if hit.artefact == artefact]
            verdicts.append(_verdict(platform, entry, artefact, cases[name], own))
    return verdicts


def _judged(dist: Path, entry: RuleEntry, platform: str, hits: Sequence[Hit]) -> list[str]:
    """What was executed of a rule on a platform, and what the manifest says must have been.

    A hit out of an artefact that holds every rule names the artefact, then its place in it.
    """
    own, shared = manifest_paths(dist, entry.name)
    mine = [p for p in own if _FOLDERS.get(p.split("/")[0], p.split("/")[0]) == platform]
    # A view is no query, and the base query of a threshold rule runs as a part of that.
    left_out = (".view.json", ".lucene") if entry.window is not None else (".view.json",)
    executed = dict.fromkeys(hit.artefact for hit in hits)
    # The template holds the analytics rules; a rule of the hunting tier is none.
    analytics = any(path.startswith("sentinel/analytics/") for path in own)
    silent = [
        path
        for path in shared
        if (analytics or not path.endswith("azuredeploy.json"))
        and path.startswith(f"{platform}/")
        and path.endswith(_SHARED)
        and not any(artefact.startswith(path) for artefact in executed)
    ]
    mine = [path for path in mine if not path.endswith(left_out)]
    return list(dict.fromkeys([*mine, *executed, *silent]))


def _verdict(
    platform: str, entry: RuleEntry, artefact: str, cases: Sequence[Case], hits: Sequence[Hit]
) -> Verdict:
    sound_only = artefact.endswith(SOUND_ONLY)
    faults = []
    right = {True: 0, False: 0}
    judged_as = THRESHOLD if sound_only else platform
    for case in cases:
        expected = case.expected_of(judged_as)
        fault = (
            _plain_fault(case, expected, hits)
            if entry.window is None
            else _correlation_fault(case, expected, hits, entry.group_by[0], sound_only)
        )
        if fault is None:
            right[expected] += 1
        else:
            faults.append((case, fault))
    must_match = sum(case.expected_of(judged_as) for case in cases)
    return Verdict(
        platform,
        entry.name,
        artefact,
        right[True],
        must_match,
        right[False],
        len(cases) - must_match,
        tuple(faults),
    )


def _plain_fault(case: Case, expected: bool, hits: Sequence[Hit]) -> str | None:
    found = {event for hit in hits for event in hit.events}
    for event in case.events:
        if (event.id in found) != expected:
            return f"{event.id} {'was missed' if expected else 'matched and must not'}"
    return None


def _correlation_fault(
    case: Case, expected: bool, hits: Sequence[Hit], group_field: str, sound_only: bool
) -> str | None:
    # Cases of one file do not share the first group field, so its value tells whose alert this is.
    owned = {str(event.record.get(group_field) or "").lower() for event in case.events}
    own = [hit for hit in hits if hit.group and hit.group[0][1].lower() in owned]
    if not expected:
        return "fired and must not" if own and not sound_only else None
    if not own:
        return "did not fire"
    if sound_only or not case.hits:
        return None
    found = {(hit.group, hit.window, hit.value) for hit in own}
    stated = {(hit.group, hit.window, hit.value) for hit in case.hits}
    return (
        None if found == stated else f"fired as {sorted(map(str, found))}, not as {sorted(map(str, stated))}"
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """Rules by platforms: the cases that must match and do, and those that must not and do not."""
    rules = list(dict.fromkeys(v.rule for v in verdicts))
    platforms = list(dict.fromkeys(v.platform for v in verdicts))
    rows = [["rule", *platforms]]
    for rule in rules:
        cells = [[v for v in verdicts if (v.rule, v.platform) == (rule, platform)] for platform in platforms]
        rows.append([rule, *map(_cell, cells)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    bad = sum(bool(v.wrong) for v in verdicts)
    summary = "all as expected" if not bad else f"{bad} wrong"
    lines.append(
        f"{len(rules)} rules x {len(platforms)} platforms: {len(verdicts)} queries executed, "
        f"as files and out of what is imported, {summary}"
    )
    return "\n".join(lines)


def _cell(verdicts: Sequence[Verdict]) -> str:
    """The verdicts of one rule on one platform; the exact artefacts' worst figures."""
    exact_ones = [v for v in verdicts if not v.artefact.endswith(SOUND_ONLY)] or list(verdicts)
    shown = min(exact_ones, key=lambda v: v.matched + v.silent)
    mark = "WRONG" if any(v.wrong for v in verdicts) else "ok"
    counts = f"{shown.matched}/{shown.must_match} match, {shown.silent}/{shown.must_not} silent"
    return f"{mark} {counts} ({len(verdicts)} queries)"


def exact(hits: Sequence[Hit]) -> list[Hit]:
    """The hits of each rule's own query, one artefact a platform, without the empty ones."""
    own = {f"/queries/{hit.rule}{ending}" for hit in hits for ending in _OWN_QUERY}
    found = [
        hit
        for hit in hits
        if (hit.events or hit.group is not None) and hit.artefact[hit.artefact.find("/") :] in own
    ]
    return sorted(found, key=lambda h: (PLATFORMS.index(h.platform), h.rule, str(h.window), h.group or ()))


def hits_as_table(hits: Sequence[Hit]) -> str:
    """One line an alert, for people."""
    lines = []
    for hit in hits:
        if hit.group is not None:
            group = ", ".join(f"{k}={v}" for k, v in hit.group)
            when = hit.window.strftime("%Y-%m-%dT%H:%M:%SZ") if hit.window else "?"
            lines.append(f"{hit.platform:9} {hit.rule}  {when}  {group}  count={hit.value:g}")
        else:
            lines += [f"{hit.platform:9} {hit.rule}  {event}" for event in sorted(hit.events)]
    return "\n".join(map(printable, lines)) if lines else "no hits"
