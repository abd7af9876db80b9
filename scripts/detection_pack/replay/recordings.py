"""A folder of rules against recordings of what each of them must find, as SigmaHQ keeps them.

There a rule's folder of recordings holds ``info.yml`` with the rule's id, and the recorded events as
``<id>.evtx`` and, as evtx_dump writes them in JSON, ``<id>.json`` (SigmaHQ/sigma, regression_data/README.md).
A recording without an ``info.yml`` belongs to the rule whose id it is named by, or else whose file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from detection_pack.build.dist import Built, entry_reasons, make_folder, rule_entries
from detection_pack.build.dist import write as write_dist
from detection_pack.build.tally import shown
from detection_pack.model.documents import load_documents
from detection_pack.model.event import Event, RuleEntry
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import load_rules
from detection_pack.model.rule import Rule
from detection_pack.model.rule_files import is_yaml
from detection_pack.model.text_table import columns
from detection_pack.platforms.platform import Run, platform
from detection_pack.replay.log_replay import Told
from detection_pack.replay.reading import read
from detection_pack.replay.verdict import clock_for, exact

#: Endings of files that hold events in JSON.
JSON = (".json", ".jsonl", ".ndjson")
#: Beside recordings, and none.
_TEXTS = (".md", ".txt", ".py")
#: Plain rules that run together: a store of documents is searched whole for each.
TOGETHER = 20
FOUND, MISSED, NOT_BUILT, NOT_RUN, NOT_READ = "found", "missed", "not built", "not run", "not read"


@dataclass(frozen=True)
class Recording:
    """One file of recorded events. ``rule``: the id that its info.yml names, else empty; ``least``: how many
    of its events the rule must find."""

    path: Path
    rule: str = ""
    least: int = 1


@dataclass(frozen=True)
class Judgement:
    """Whether a rule finds its own recording on a platform; ``why`` where it does not."""

    rule: str
    platform: str
    recording: Path
    outcome: str
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        told = {"rule": self.rule, "platform": self.platform, "outcome": self.outcome, "reason": self.why}
        return {**told, "recording": str(self.recording)}


@dataclass(frozen=True)
class Recorded:
    """Every rule with a recording on every platform, the names of rules without one, recordings of no rule in
    the folder, and what is not a recording that can be read, or no rule."""

    judgements: tuple[Judgement, ...]
    without: tuple[str, ...]
    strays: tuple[Path, ...]
    unread: tuple[Finding, ...]
    faults: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[tuple[str, Path], ...]:
        """The rules, with the recording, that are missed where they are built, or are found nowhere."""
        by_recording: dict[tuple[str, Path], list[str]] = {}
        for one in self.judgements:
            by_recording.setdefault((one.rule, one.recording), []).append(one.outcome)
        return tuple(
            key
            for key, outcomes in by_recording.items()
            if FOUND not in outcomes or any(o not in (FOUND, NOT_BUILT) for o in outcomes)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "results": [one.as_json() for one in self.judgements],
            "failed": [{"rule": rule, "recording": str(path)} for rule, path in self.failed],
            "without_recording": list(self.without),
            "of_no_rule": [str(path) for path in self.strays],
            "not_read": [str(finding) for finding in self.unread],
        }

    def text(self) -> str:
        rows = [[shown(o.rule), o.platform, o.outcome, shown(o.why)] for o in self.judgements]
        lines = columns([["rule", "platform", "outcome", "reason"], *rows]) if rows else []
        return "\n".join([*lines, *self.summary()])

    def summary(self) -> list[str]:
        """How many there are of each, in lines for people."""
        tried = {(one.rule, one.recording) for one in self.judgements}
        fine = len(tried) - len(self.failed)
        lines = [f"{fine} of {len(tried)} recordings found by their rules wherever these are built"]
        lines.append(f"{len(self.without)} rules without a recording")
        if self.strays:
            lines.append(f"{len(self.strays)} recordings of no rule in the folder")
        return lines


def recordings(folder: Path) -> tuple[list[Recording], list[Finding]]:
    """Every recording below a folder, by path, and what is there and cannot be read as one, as warnings.
    Raises `PackError` where the folder cannot be read."""
    found: list[Recording] = []
    said: list[Finding] = []

    def unreadable(error: OSError) -> None:
        raise PackError.at(error.filename or folder, 1, f"cannot be read ({error.strerror})", "check it")

    for place, below, names in os.walk(folder, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        files = [Path(place) / name for name in sorted(names) if not name.startswith(".")]
        # A pipe would wait for ever, a link may lead anywhere.
        files = [path for path in files if stat.S_ISREG(path.lstat().st_mode)]
        rule, least = "", dict[str, int]()
        for path in (path for path in files if path.stem.lower() == "info" and is_yaml(path)):
            try:
                rule, least = _information(path)
            except PackError as error:
                said += error.findings
        written = {path.stem for path in files if path.suffix.lower() in JSON}
        for path in files:
            if path.suffix.lower() in JSON:
                found.append(Recording(path, rule, least.get(path.name, 1)))
            elif not is_yaml(path) and path.suffix.lower() not in _TEXTS and path.stem not in written:
                said.append(Finding(str(path), 1, "is not JSON", "write it as JSON: evtx_dump -o json"))
        named = sorted(least.keys() - {path.name for path in files})
        missing = [name for name in named if PurePosixPath(name).stem not in written]
        said += [Finding(place, 1, f"lacks {name}, which its info.yml names", "add it") for name in missing]
    return found, [replace(finding, severity="warning") for finding in said]


def _information(path: Path) -> tuple[str, dict[str, int]]:
    """The id of the rule, and by the name of each file how many of its events the rule must find."""
    data = next((document.data for document in load_documents(path)), None)
    about = data.get("rule_metadata") if isinstance(data, Mapping) else None
    first = about[0] if isinstance(about, list) and about else None
    if not isinstance(data, Mapping) or not isinstance(first, Mapping):
        raise PackError.at(path, 1, "names no rule", "write rule_metadata with the id of the rule")
    least: dict[str, int] = {}
    tests = data.get("regression_tests_info")
    for test in tests if isinstance(tests, list) else []:
        if isinstance(test, Mapping) and isinstance(test.get("path"), str):
            count = test.get("match_count")
            whole = isinstance(count, int) and not isinstance(count, bool)
            least[PurePosixPath(test["path"]).name] = max(1, int(count)) if whole and count else 1
    return str(first.get("id", "")).lower(), least


@dataclass
class _Case:
    """A rule and its recording, while it is judged."""

    rule: Rule
    recording: Recording
    events: list[Event] = field(default_factory=list)
    unread: str = ""


def judged(
    root: Path,
    rules_dir: Path,
    folder: Path,
    scratch: Path,
    platforms: Sequence[str],
    jobs: int,
    told: Told,
) -> Recorded:
    """Build the rules of a folder below ``scratch`` and run each on its recordings. Raises `PackError`."""
    listed, said = recordings(folder)
    faults: list[Finding] = []
    rules = load_rules(root, faults, rules_dir)
    built = make_folder(root, rules_dir, True, platforms, jobs)
    dist = scratch / "dist"
    write_dist(built, dist)
    cases, strays = _cases(rules, listed)
    sources = load_log_sources(root)
    for number, case in enumerate(cases):
        told(f"reading {case.recording.path.name}", number, len(cases))
        _read(case, number, sources)
    with_recording = {case.rule.name for case in cases}
    without = tuple(rule.name for rule in rules if rule.name not in with_recording)
    judgements = _judgements(dist, built, cases, platforms, sources, told)
    return Recorded(tuple(judgements), without, tuple(strays), tuple(said), tuple(faults))


def _cases(rules: Sequence[Rule], listed: Sequence[Recording]) -> tuple[list[_Case], list[Path]]:
    """Each recording with its rule, and the recordings of no rule."""
    ids = {str(rule.id).lower(): rule for rule in rules if rule.id}
    stems: dict[str, Rule | None] = {}
    for rule in rules:
        # A file of several rules says nothing of which is meant.
        stems[rule.path.stem] = None if rule.path.stem in stems else rule
    cases, strays = [], []
    for one in listed:
        rule_of = ids.get(one.path.stem.lower()) or ids.get(one.rule) or stems.get(one.path.stem)
        if rule_of is None:
            strays.append(one.path)
        else:
            cases.append(_Case(rule_of, one))
    return sorted(cases, key=lambda case: (case.rule.name, case.recording.path)), strays


def _read(case: _Case, number: int, sources: Mapping[str, LogSource]) -> None:
    """The recording's events, named so that no two recordings share an event."""
    try:
        with read([case.recording.path], sources) as reading:
            events = reading.events()
    except PackError as error:
        case.unread = error.findings[0].what
        return
    case.events = [replace(event, id=f"{number}:{event.id}") for event in events]


def _judgements(
    dist: Path,
    built: Built,
    cases: Sequence[_Case],
    platforms: Sequence[str],
    sources: Mapping[str, LogSource],
    told: Told,
) -> Iterator[Judgement]:
    entries = {entry.name: entry for entry in rule_entries(dist)}
    reasons = entry_reasons(built)
    counts: dict[tuple[int, str], int | str] = {}
    for number, batch in enumerate(_batches(cases, entries)):
        for name in platforms:
            told(name, number * TOGETHER, len(cases))
            counts |= _counted(dist, batch, entries, name, sources)
    for case in cases:
        for name in platforms:
            rule, path = case.rule, case.recording.path
            entry, found = entries.get(rule.name), counts.get((id(case), name))
            if entry is None or not platform(name).own(entry):
                here = reasons.get((rule.name, name)) or reasons.get((str(rule.path), name))
                why = here or "only what refers to it is built"
                yield Judgement(rule.name, name, path, NOT_BUILT, why)
            elif found is None:
                yield Judgement(rule.name, name, path, NOT_READ, case.unread)
            elif isinstance(found, str):
                yield Judgement(rule.name, name, path, NOT_RUN, found)
            elif found < (least := 1 if rule.correlation else case.recording.least):
                why = f"{found} of its {len(case.events)} events, must be {least}"
                yield Judgement(rule.name, name, path, MISSED, why)
            else:
                yield Judgement(rule.name, name, path, FOUND)


def _batches(cases: Sequence[_Case], entries: Mapping[str, RuleEntry]) -> Iterator[list[_Case]]:
    """Cases that may run together: a correlation would count the events of the others."""
    plain: list[_Case] = []
    for case in cases:
        if case.rule.name not in entries or case.unread:
            continue
        if case.rule.correlation is not None:
            yield [case]
        else:
            plain.append(case)
    for start in range(0, len(plain), TOGETHER):
        yield plain[start : start + TOGETHER]


def _counted(
    dist: Path,
    batch: Sequence[_Case],
    entries: Mapping[str, RuleEntry],
    name: str,
    sources: Mapping[str, LogSource],
) -> dict[tuple[int, str], int | str]:
    """For each case how many of its own events, or of a correlation alerts, the platform finds, or why it
    cannot run the rule."""
    here = platform(name)
    own = [case for case in batch if here.own(entries[case.rule.name])]
    if not own:
        return {}
    events = [event for case in own for event in case.events]
    asked = list({case.rule.name: entries[case.rule.name] for case in own}.values())
    try:
        hits = exact(here.run(Run(dist, asked, events, clock_for(events), sources.values(), exact_only=True)))
    except PackError as error:
        if len(own) == 1:
            return {(id(own[0]), name): error.findings[0].what}
        parts = [_counted(dist, [case], entries, name, sources) for case in own]
        return {key: count for part in parts for key, count in part.items()}
    found: dict[tuple[int, str], int | str] = {}
    for case in own:
        ids = {event.id for event in case.events}
        mine = [hit for hit in hits if hit.rule == case.rule.name]
        if case.rule.correlation is not None:
            found[id(case), name] = sum(hit.group is not None for hit in mine)
        else:
            found[id(case), name] = len(ids & {event for hit in mine for event in hit.events})
    return found
