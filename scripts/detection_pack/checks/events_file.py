"""A rule's events: are there enough, are they records that exist, and do they agree with the rule."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detection_pack.build import dist as build
from detection_pack.checks.catalogue import found
from detection_pack.model.case import Case, load_cases
from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document, load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.placeholders import is_placeholder
from detection_pack.model.record_time import value_at
from detection_pack.model.rule import Rule

#: How many events a rule's events file must hold on either side.
LEAST_CASES = 12


@dataclass(frozen=True)
class EventsFile:
    """An events file as far as it can be read; ``document`` is None where there is none."""

    path: Path
    text: str
    document: Document | None
    cases: tuple[Case, ...]
    faulty: bool


def read_events(path: Path, source: LogSource, findings: list[Finding]) -> EventsFile:
    """Read an events file; its faults go to ``findings``."""
    faults: list[Finding] = []
    cases = load_cases(path, source, faults)
    findings += faults
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        documents = load_documents(path, text, [])
    except (PackError, OSError):
        text, documents = "", []
    return EventsFile(path, text, documents[0] if documents else None, tuple(cases), bool(faults))


def events_findings(events: EventsFile) -> Iterator[Finding]:
    """Too few cases, ids that repeat, and fields that a record of its type never holds."""
    yield from _few(events)
    seen: set[str] = set()
    for case in events.cases:
        for event in case.events:
            if event.id in seen:
                what = f'repeats the Id "{event.id}"'
                yield found("duplicate-event", events.path, case.line, what, "give each event its own Id")
            seen.add(event.id)
        yield from _never_held(events, case)


def _few(events: EventsFile) -> Iterator[Finding]:
    data = events.document.data if events.document is not None else None
    if not isinstance(data, dict):
        return
    for side in ("match", "no_match"):
        listed = data.get(side)
        listed = listed if isinstance(listed, list) else []
        if len(listed) >= LEAST_CASES or any(_has_placeholder(case) for case in listed):
            continue
        line = events.document.line(side) if events.document is not None else 1
        what = f'has {len(listed)} cases under "{side}"'
        yield found("few-events", events.path, line, what, f"write at least {LEAST_CASES}")


def _has_placeholder(node: object) -> bool:
    if isinstance(node, dict):
        return any(_has_placeholder(child) for child in node.values())
    return any(map(_has_placeholder, node)) if isinstance(node, list) else is_placeholder(node)


def _never_held(events: EventsFile, case: Case) -> Iterator[Finding]:
    """Of cases that must match alone: what a rule must not match may be a record that was made up."""
    if not case.matches or events.document is None:
        return
    said: set[str] = set()
    for event in case.events:
        if (never := event.source.never_held) is None:
            continue
        kind = value_at(event.record, never.by)
        number = value_at(event.source.as_written(event.record), never.by)
        for name, why in never.fields.get(str(number), {}).items():
            if value_at(event.record, name) in (None, "") or name in said:
                continue
            said.add(name)
            what = f'a record with the {never.by} {kind} never holds "{name}": {why}'
            line = _line_of_field(events.document, case, name)
            yield found("event-field", events.path, line, what, "leave it out, or write the record as it is")


def _line_of_field(document: Document, case: Case, name: str) -> int:
    """Where the case states the field, else where the defaults do."""
    index = next(i for i in range(10**6) if document.line("match", i) == case.line)
    places: list[Keys] = [("match", index, "record", name)]
    places += [
        keys for keys in document.lines if keys[:3] == ("match", index, "each") and keys[4:] == (name,)
    ]
    return next((document.lines[keys] for keys in places if keys in document.lines), case.line)


def contradictions(pack: Pack, rules: Mapping[str, tuple[Rule, Sequence[Case]]]) -> Iterator[Finding]:
    """Build these rules, execute them on their own cases, and give each case that came out otherwise.

    The build is written to a folder that goes afterwards; the engines are loaded here, because they take
    longer than every other check.
    """
    from detection_pack.replay import verdict as replay

    if not rules:
        return
    built = build.make(replace(pack, rules=tuple(rule for rule, _ in rules.values())))
    cases = {name: list(listed) for name, (_, listed) in rules.items()}
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as folder:
        dist = Path(folder) / "dist"
        build.write(built, dist)
        verdicts = replay.judge(dist, cases, replay.execute(dist, cases, sources=pack.sources.values()))
    wrong: dict[tuple[Path, int], list[tuple[str, str]]] = {}
    for verdict in verdicts:
        for case, fault in verdict.faults:
            wrong.setdefault((case.path, case.line), []).append((verdict.artefact, fault))
    for (path, line), faults in wrong.items():
        by_fault: dict[str, list[str]] = {}
        for artefact, fault in faults:
            by_fault.setdefault(fault, []).append(artefact)
        for fault, artefacts in by_fault.items():
            shown = ", ".join(artefacts[:3]) + (
                f" and {len(artefacts) - 3} more" if len(artefacts) > 3 else ""
            )
            yield found(
                "contradicted-event", path, line, f"{fault} by {shown}", "correct the rule or the case"
            )
