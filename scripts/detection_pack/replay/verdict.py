"""dist/ against events: the verdicts of every shipped query, compared with what must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from detection_pack.build.dist import rule_entries, shared_artefacts
from detection_pack.model.case import THRESHOLD, Case, events_file, load_cases, log_source_of
from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.findings import Finding, PackError, printable
from detection_pack.model.log_source import LogSource
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.model.text_table import columns
from detection_pack.platforms.platform import Platform, Run, Runner, Sources, platform
from detection_pack.platforms.records import Records

_TODO = "correct the rule or the case"
_WITHOUT_EVENTS = datetime(2026, 1, 1, tzinfo=UTC)
#: Further back than any record that is read (`record_time`).
EVER = "36500d"


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
            raise PackError.at(
                "--rule", 1, f'names no rule of the build: "{name}"', f"use {', '.join(sorted(known))}"
            )
    return [known[name] for name in dict.fromkeys(names)]


def replay(
    dist: Path,
    events: Sequence[Event] | Records,
    platforms: Sequence[str] = PLATFORMS,
    rules: Iterable[str] | None = None,
    sources: Sources | None = None,
) -> list[Hit]:
    """Execute what stands in ``dist`` on the events, or on the records of a log, as if right after the last.

    Of records only the rules' own queries are executed, not their other forms. The look-back is set to cover
    them all; every other parameter is as shipped. ``sources``: the log sources
    whose tables the queries may read, whether or not there is an event of them.
    """
    entries = selected(rule_entries(dist), rules)
    clock, alone = clock_for(events), isinstance(events, Records)
    return [
        hit
        for found in map(platform, platforms)
        for hit in found.run(Run(dist, [e for e in entries if found.own(e)], events, clock, sources, alone))
    ]


#: Days that a window of a correlation may take at most, with its steps.
_LONGEST_WINDOW = 15


def clock_for(events: Sequence[Event] | Records) -> Clock:
    """One second after the last event, looking back over all of them.

    Of records the look-back is always the same, so that a query reads the same before and after they are
    loaded (`needs.wanted_keys`).
    """
    if isinstance(events, Records):
        span = events.span()
        return Clock(_WITHOUT_EVENTS if span is None else span[1] + timedelta(seconds=1), EVER)
    times = [event.time for event in events if event.time is not None]
    if not times:
        return Clock(_WITHOUT_EVENTS, "1d")
    now = max(times) + timedelta(seconds=1)
    # An import does not alert on the window that its look-back begins with: there is room for the longest.
    return Clock(now, f"{(now - min(times)).days + 1 + _LONGEST_WINDOW}d")


def all_cases(root: Path, rules: Sequence[Rule], sources: Mapping[str, LogSource]) -> dict[str, list[Case]]:
    """The cases of every rule. A rule without an events file is an error."""
    found = {}
    for rule in rules:
        path = events_file(root, rule.name)
        if not path.is_file():
            raise PackError.at(rule.path, 1, "has no events file", f"write tests/events/{path.name}")
        found[rule.name] = load_cases(path, log_source_of(rule, sources))
    return found


def execute(
    dist: Path,
    cases: Mapping[str, Sequence[Case]],
    platforms: Sequence[str] = PLATFORMS,
    sources: Sources | None = None,
    runners: Mapping[str, Sequence[Runner]] | None = None,
) -> dict[tuple[str, str], list[Hit]]:
    """Replay each rule's own cases: the hits of every ``(rule, platform)``. ``runners``: others than ours."""
    entries = {entry.name: entry for entry in rule_entries(dist)}
    found = {}
    for name, listed in cases.items():
        if name not in entries:
            raise PackError.at(
                dist / "manifest.json", 1, f'lacks the rule "{name}"', "run detection-pack build"
            )
        events = [event for case in listed for event in case.events]
        clock = clock_for(events)
        for here in map(platform, platforms):
            if here.own(entries[name]):
                chosen = (here.run, here.run_imports) if runners is None else runners[here.id]
                given = Run(dist, [entries[name]], events, clock, sources)
                made = (run(given) for run in chosen)
                found[name, here.id] = [hit for hits in made for hit in hits]
    return found


def judge(
    dist: Path, cases: Mapping[str, Sequence[Case]], executed: Mapping[tuple[str, str], Sequence[Hit]]
) -> list[Verdict]:
    """Compare executed hits with the cases. Every artefact that was executed gets a verdict."""
    entries, shared = {entry.name: entry for entry in rule_entries(dist)}, shared_artefacts(dist)
    verdicts = []
    for (name, here), hits in executed.items():
        entry = entries[name]
        for artefact in _judged(entry, platform(here), hits, shared):
            own = [hit for hit in hits if hit.artefact == artefact]
            verdicts.append(_verdict(platform(here), entry, artefact, cases[name], own))
    return verdicts


def _judged(entry: RuleEntry, here: Platform, hits: Sequence[Hit], shared: Sequence[str]) -> list[str]:
    """What was executed of a rule on a platform, and what the manifest says must have been.

    A hit out of an artefact that holds every rule names the artefact, then its place in it.
    """
    own = here.own(entry)
    executed = dict.fromkeys(hit.artefact for hit in hits)
    wanted = here.must_run(entry, own, [path for path in shared if path.startswith(f"{here.id}/")])
    silent = [p for p in wanted if p in own or not any(artefact.startswith(p) for artefact in executed)]
    return list(dict.fromkeys([*(p for p in own if p in wanted), *executed, *silent]))


def _verdict(
    here: Platform, entry: RuleEntry, artefact: str, cases: Sequence[Case], hits: Sequence[Hit]
) -> Verdict:
    sound_only = not here.is_exact(artefact)
    faults = []
    right = {True: 0, False: 0}
    judged_as = THRESHOLD if sound_only else here.id
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
        here.id,
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
    owned = case.values_of(group_field)
    own = [hit for hit in hits if hit.group and hit.group[0][1].lower() in owned]
    if not expected:
        return "fired and must not" if own and not sound_only else None
    if not own:
        return "did not fire"
    if sound_only or not case.hits:
        return None
    found = {(hit.group, hit.window, hit.value) for hit in own}
    wanted = {(hit.group, hit.window, hit.value) for hit in case.hits}
    return (
        None if found == wanted else f"fired as {sorted(map(str, found))}, not as {sorted(map(str, wanted))}"
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """Rules by platforms: the cases that must match and do, and those that must not and do not."""
    rules = list(dict.fromkeys(v.rule for v in verdicts))
    platforms = list(dict.fromkeys(v.platform for v in verdicts))
    rows = [["rule", *platforms]]
    for rule in rules:
        cells = [[v for v in verdicts if (v.rule, v.platform) == (rule, platform)] for platform in platforms]
        rows.append([rule, *map(_cell, cells)])
    lines = columns(rows)
    bad = sum(bool(v.wrong) for v in verdicts)
    summary = "all as expected" if not bad else f"{bad} wrong"
    lines += [
        "cases that must match and do, cases that must not and do not (queries executed, as files and out of",
        f"what is imported); {len(rules)} rules, {len(platforms)} platforms, "
        f"{len(verdicts)} queries: {summary}",
    ]
    return "\n".join(lines)


def _cell(verdicts: Sequence[Verdict]) -> str:
    """The verdicts of one rule on one platform; the exact artefacts' worst figures."""
    if not verdicts:
        return "not built"
    exact_ones = [v for v in verdicts if platform(v.platform).is_exact(v.artefact)] or list(verdicts)
    shown = min(exact_ones, key=lambda v: v.matched + v.silent)
    mark = "WRONG" if any(v.wrong for v in verdicts) else "ok"
    counts = f"{shown.matched}/{shown.must_match}, {shown.silent}/{shown.must_not}"
    return f"{mark} {counts} ({len(verdicts)})"


def exact(hits: Sequence[Hit]) -> list[Hit]:
    """The hits of each rule's own query, one artefact a platform, without the empty ones."""
    found = [
        hit
        for hit in hits
        if (hit.events or hit.group is not None)
        and platform(hit.platform).is_own_query(hit.artefact, hit.rule)
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
