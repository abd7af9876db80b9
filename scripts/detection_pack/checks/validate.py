"""Every check of rules, pipelines and events files, in one pass: no fault hides another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection_pack.checks import conventions
from detection_pack.checks.attack_tags import attack_tags
from detection_pack.checks.blank_values import blanks
from detection_pack.checks.catalogue import CheckInfo, Keys, catalogue, found
from detection_pack.checks.events_file import EventsFile, contradictions, events_findings, read_events
from detection_pack.checks.expression import refusals, without
from detection_pack.checks.fields import misnamed
from detection_pack.checks.files import Files, files_of
from detection_pack.checks.identity import duplicates
from detection_pack.checks.known_values import unlisted_values
from detection_pack.checks.metadata import metadata
from detection_pack.checks.noise import noise
from detection_pack.checks.sigma_faults import sigma_faults
from detection_pack.checks.subject import Subject, Value, read_subject
from detection_pack.model import pipeline_document
from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource, load_log_sources, source_of
from detection_pack.model.pack import Pack, pack_version
from detection_pack.model.pipeline import Pipeline, load_pipeline, load_pipelines
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.rule_reader import ALERT, KNOB, rule_files

#: What is said of a condition when one of its selections could not be read.
_DANGLING = ("sigma-dangling-condition", "sigma-dangling-detection")


#: Where one of these has spoken, a convention about the same line has nothing to add.
_SAID_ALREADY = frozenset({"sigma", "unknown-log-source", "inexpressible", "regex-limits"})


def all_checks() -> dict[str, CheckInfo]:
    """Every check by its id, the pack's own first."""
    return {**catalogue(), **conventions.catalogue()}


def validate(root: Path, paths: Sequence[Path] = (), execute: bool = True) -> list[Finding]:
    """Check the whole pack, or the named files and folders. Every finding, sorted; none means fine.

    ``execute`` runs the rules that have no other fault on their events. A file of the pack is judged as one,
    with metadata and events; any other rule is a stranger's, whose conventions are warnings.
    """
    return _Validation(root, files_of(root, paths)).run(execute)


class _Validation:
    """One run: what was read, and what was found in each file."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self.files = files
        self.findings: list[Finding] = []
        self.sources = self._sources()
        self.pipelines = dict(self._pipelines())
        self.subjects: dict[Path, Subject] = {}
        self.events: dict[Path, EventsFile] = {}

    def run(self, execute: bool) -> list[Finding]:
        checked = [self._rule(subject) for subject in self._subjects()]
        self.findings += self._conventions(checked)
        self._duplicates()
        self._events()
        self._silence()
        if execute:
            self.findings += self._contradictions()
        return sorted(dict.fromkeys(self.findings))

    def _sources(self) -> Mapping[str, LogSource]:
        """The log sources of the pack; a fault is always reported, because rules hang on them."""
        findings: list[Finding] = []
        sources = load_log_sources(self.root, findings=findings)
        selected = {path.resolve(): path for path in self.files.pipelines}
        for finding in findings:
            shown = str(selected.get(Path(finding.path).resolve(), finding.path))
            self.findings.append(replace(finding, path=shown))
        return sources

    def _pipelines(self) -> Iterator[tuple[str, Pipeline]]:
        """Every pipeline of the pack; a faulty file is always reported, because rules hang on it."""
        findings: list[Finding] = []
        pipelines = load_pipelines(self.root, findings, self.sources)
        selected = {path.resolve(): path for path in self.files.pipelines}
        own = (self.root / "pipelines").resolve()
        for resolved, path in selected.items():
            if own not in resolved.parents:
                try:
                    load_pipeline(path.stem, path)
                except PackError as error:
                    findings += error.findings
        for finding in findings:
            shown = str(selected.get(Path(finding.path).resolve(), finding.path))
            self.findings.append(replace(_as(finding, pipeline_document.PIPELINE), path=shown))
        yield from pipelines.items()

    def _subjects(self) -> Iterator[Subject]:
        for path, tier in self.files.rules:
            subject = read_subject(path, tier, tier in TIERS, self.pipelines, self.sources, self.findings)
            if subject is not None:
                self.subjects[path] = subject
                yield subject

    def _rule(self, subject: Subject) -> tuple[conventions.Checked, bool]:
        """Check one rule; what remains of it without the faults, and whether it still is one whole."""
        places: list[tuple[Document, Keys, str | Value | None]] = []
        sound = mapped = True
        faulty: set[tuple[int, Key]] = set()
        for finding, document, keys in sigma_faults(subject):
            self.findings.append(finding)
            faulty.add((subject.rule.documents.index(document), keys[0]))
            mapped = mapped and keys[0] != "logsource"
            places.append((document, keys, None))
            sound = sound and keys[0] not in ("detection", "logsource", "correlation")
        for fault in misnamed(subject):
            self.findings.append(fault.finding)
            mapped = mapped and fault.keys != ("logsource",)
            if fault.keys != ("logsource",):
                places.append((fault.document, fault.keys, fault.instead))
        for finding, document, keys in noise(subject):
            self.findings.append(finding)
            if finding.check == "regex-limits":
                places.append((document, keys, None))
        for finding, document, keys in attack_tags(subject):
            self.findings.append(finding)
            if finding.check == "unknown-technique":
                places.append((document, keys, None))
        own = {finding.check for finding in subject.faults}
        places += [(subject.rule.main, ("alert",), None)] if ALERT in own else []
        places += [(subject.rule.main, ("lookback",), None)] if KNOB in own else []
        sound = sound and not (KNOB in own and "correlation" in subject.rule.main.data)
        for finding, document, keys in metadata(subject, faulty) if subject.in_pack else ():
            self.findings.append(finding)
            if keys[0] in ("required_tables", "data_sources", "confidence"):
                places.append((document, keys, None))
        rest = _mended(without(subject.rule, places))
        self.findings += unlisted_values(subject, rest)
        sound = sound and _selections(rest) == _selections(subject.rule)
        if set(PLATFORMS) <= set(self.pipelines) and mapped:
            refused = refusals(self._pack(()), subject, rest, sound)
            self.findings += (replace(f, path=str(subject.path)) for f in refused)
        return conventions.Checked(subject, rest), sound

    def _conventions(self, checked: Sequence[tuple[conventions.Checked, bool]]) -> Iterator[Finding]:
        try:
            issues = conventions.conventions(self.root, [rule for rule, _ in checked])
        except PackError as error:
            yield from error.findings
            return
        faulty = {(f.path, f.line) for f in self.findings if f.check in _SAID_ALREADY}
        unsound = {str(rule.subject.path) for rule, sound in checked if not sound}
        for issue in issues:
            hidden = issue.path in unsound and issue.check in _DANGLING
            if not hidden and (issue.path, issue.line) not in faulty:
                yield issue

    def _duplicates(self) -> None:
        """Against all rules of the pack, whichever are checked; only those that are checked are blamed."""
        chosen = {path.resolve() for path, _ in self.files.rules}
        subjects = [s for s in self.subjects.values() if s.in_pack]
        for path, tier in rule_files(self.root):
            if path.resolve() not in chosen:
                other = read_subject(path, tier, True, self.pipelines, self.sources, [])
                subjects += [other] if other is not None else []
        strangers = [s for s in self.subjects.values() if not s.in_pack]
        # The unchecked come first, so that the checked are blamed.
        subjects.sort(key=lambda s: (s.path in self.subjects, str(s.path)))
        self.findings += (f for f in duplicates([*subjects, *strangers]) if Path(f.path) in self.subjects)

    def _events(self) -> None:
        for subject in list(self.subjects.values()):
            if not subject.in_pack:
                continue
            path = self._events_path(subject.rule)
            if path is None:
                what, todo = "has no events file", f"write tests/events/{subject.rule.name}.yml"
                self.findings.append(found("missing-events", subject.path, 1, what, todo))
            else:
                self._read_events(path, subject.rule)
        rules = {path.stem: (path, tier) for path, tier in rule_files(self.root)}
        for path in self.files.events:
            if path in self.events:
                continue
            if path.stem not in rules:
                todo = "rename it or write the rule"
                self.findings.append(found("orphan-events", path, 1, "has no rule of its name", todo))
                continue
            owner = read_subject(*rules[path.stem], True, self.pipelines, self.sources, [])
            if owner is not None:
                self._read_events(path, owner.rule)

    def _events_path(self, rule: Rule) -> Path | None:
        named = [path for path in self.files.events if path.stem == rule.name]
        path = named[0] if named else self.root / "tests" / "events" / f"{rule.name}.yml"
        return path if path.is_file() else None

    def _read_events(self, path: Path, rule: Rule) -> None:
        source = source_of(self.sources, rule.logsource)
        if source is None:
            return  # the rule is told that its log source is unknown
        events = read_events(path, source, self.findings)
        self.events[path] = events
        self.findings += events_findings(events)

    def _silence(self) -> None:
        """Report every blank, and nothing else about it."""
        texts: list[tuple[Path, str, Sequence[Document]]] = [
            (path, subject.text, subject.rule.documents) for path, subject in self.subjects.items()
        ]
        texts += [(p, e.text, [e.document]) for p, e in self.events.items() if e.document is not None]
        for path, text, documents in texts:
            marked, silent = blanks(path, text, documents)
            spoken = [f for f in self.findings if f.path != str(path) or f.line not in silent]
            self.findings = [*spoken, *marked]

    def _contradictions(self) -> Iterable[Finding]:
        """Of rules without any error, whose events have none."""
        bad = {Path(finding.path).resolve() for finding in self.findings if finding.severity == "error"}
        own = (self.root / "pipelines").resolve()
        if not set(PLATFORMS) <= set(self.pipelines) or any(own in path.parents for path in bad):
            return ()
        sources = {path.stem: (path, tier) for path, tier in rule_files(self.root)}
        runnable = {}
        for path, events in self.events.items():
            rule = self._runnable(*sources[path.stem]) if path.stem in sources else None
            usable = path.resolve() not in bad and not events.faulty and events.cases
            if rule is not None and rule.path.resolve() not in bad and usable:
                runnable[rule.name] = (rule, events.cases)
        try:
            return list(contradictions(self._pack(()), runnable))
        except PackError as error:
            return error.findings

    def _runnable(self, path: Path, tier: str) -> Rule | None:
        from detection_pack.model.rule_reader import load_rule

        try:
            return load_rule(path, tier)
        except PackError:
            return None

    def _pack(self, rules: tuple[Rule, ...]) -> Pack:
        try:
            version = pack_version(self.root)
        except PackError:
            version = "0"
        return Pack(self.root, version, rules, self.pipelines, self.sources)


def _mended(rule: Rule) -> Rule:
    """The rule with what pySigma demands of every rule, where its own is missing or faulty."""
    documents = tuple(replace(document, data=_complete(document.data)) for document in rule.documents)
    return replace(rule, documents=documents, main=documents[rule.documents.index(rule.main)])


def _complete(data: dict[str, Any]) -> dict[str, Any]:
    data = {**data, "title": "Title"} if data.get("title") is None else dict(data)
    detection = data.get("detection")
    if isinstance(detection, dict) and "condition" not in detection:
        data["detection"] = {**detection, "condition": " and ".join(map(str, detection))}
    return data


def _selections(rule: Rule) -> list[list[str]]:
    return [
        list(map(str, d.data["detection"]))
        for d in rule.documents
        if isinstance(d.data.get("detection"), dict)
    ]


def _as(finding: Finding, check: str) -> Finding:
    return replace(finding, check=check) if finding.check == "refused" else finding


def count(findings: Sequence[Finding]) -> Mapping[str, int]:
    """How many errors and warnings."""
    errors = sum(finding.severity == "error" for finding in findings)
    return {"errors": errors, "warnings": len(findings) - errors}
