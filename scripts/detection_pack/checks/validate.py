"""Every check of rules, pipelines and events files, in one pass: no fault hides another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from detection_pack.build.meaning import meaning
from detection_pack.checks import conventions, facts
from detection_pack.checks.attack_tags import attack_tags
from detection_pack.checks.catalogue import CheckInfo, catalogue, found
from detection_pack.checks.events_file import EventsFile, contradictions, events_findings, read_events
from detection_pack.checks.files import Files, files_of
from detection_pack.checks.identity import duplicates
from detection_pack.checks.metadata import metadata
from detection_pack.model import pipeline_document
from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.own_keys import stale_notes
from detection_pack.model.pack import COVERAGE, Pack, pack_version
from detection_pack.model.pipeline import Pipeline, load_pipeline, load_pipelines
from detection_pack.model.placeholders import PLACEHOLDER, placeholders
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.playbook import PLAYBOOK, dangling, read_playbook
from detection_pack.model.reading import Reading
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.rule_files import rule_files
from detection_pack.model.rule_reader import read_rule, read_rules
from detection_pack.model.rule_texts import unforeseen
from detection_pack.model.site_lists import load_list_filters, unknown_rules
from detection_pack.platforms.diagnosis import diagnose
from detection_pack.platforms.platform import platforms

#: What is said of a condition when one of its selections could not be read.
_DANGLING = ("sigma-dangling-condition", "sigma-dangling-detection")


#: Where one of these has spoken, a convention about the same line has nothing to add.
_SAID_ALREADY = frozenset({"sigma", "unknown-log-source", "inexpressible"})


def all_checks() -> dict[str, CheckInfo]:
    """Every check by its id, the pack's own first."""
    return {**catalogue(), **conventions.catalogue()}


def validate(root: Path, paths: Sequence[Path] = (), execute: bool = True) -> list[Finding]:
    """Check the whole pack, or the named files and folders. Every finding, sorted; none means fine.

    ``execute`` runs the rules that have no other fault on their events. A file of the pack is judged as one,
    with metadata and events; any other rule is a stranger's, whose conventions are warnings.
    """
    return _Validation(root, files_of(root, paths)).run(execute, whole=not paths)


class _Validation:
    """One run: what was read, and what was found in each file."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self.files = files
        self.findings: list[Finding] = []
        self.sources = self._sources()
        self.pipelines = dict(self._pipelines())
        self.readings: list[Reading] = []
        self.events: dict[Path, EventsFile] = {}

    def run(self, execute: bool, whole: bool) -> list[Finding]:
        checked = [self._rule(*read) for read in self._readings()]
        self.findings += self._conventions([one for one in checked if one is not None])
        self._duplicates()
        self._events()
        self._silence()
        self._notes()
        if whole:
            self.findings += self._facts()
            self._lists()
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

    def _readings(self) -> Iterator[tuple[Reading, Rule]]:
        for reading in self._read():
            self.findings += (*reading.findings, *reading.warnings)
            if reading.rule is not None:
                self.readings.append(reading)
                yield reading, reading.rule

    def _read(self) -> Iterator[Reading]:
        """The pack's rules file by file; anybody's as a build would read them, each folder as one."""
        yield from (read_rule(path, tier) for path, tier in self.files.rules if tier in TIERS)
        for folder, paths in self.files.folders:
            yield from read_rules([(path, "other") for path in paths], folder)

    def _rule(self, reading: Reading, rule: Rule) -> tuple[conventions.Checked, bool] | None:
        """Check one rule; what remains of it without the faults, and whether it still is one whole."""
        try:
            return self._checked(reading, rule)
        except Exception as error:  # what nobody foresaw in one rule must not end the work on the others
            self.findings.append(unforeseen(rule.path, rule.main.line(), "built", error))
            return None

    def _checked(self, reading: Reading, rule: Rule) -> tuple[conventions.Checked, bool]:
        diagnosis = diagnose(reading, self.pipelines, platforms(), self._version())
        self.findings += diagnosis.findings
        self.findings += meaning(reading, diagnosis.rest, self.sources)
        self.findings += diagnosis.unfilled
        self.findings += attack_tags(reading)
        if reading.in_pack:
            faulty = {(rule.documents.index(f.document), f.keys[0]) for f in reading.faults if f.keys}
            self.findings += metadata(reading, rule, faulty)
        return conventions.Checked(reading, diagnosis.rest, self.sources), diagnosis.whole

    def _conventions(self, checked: Sequence[tuple[conventions.Checked, bool]]) -> Iterator[Finding]:
        try:
            issues = conventions.conventions(self.root, [rule for rule, _ in checked])
        except PackError as error:
            yield from error.findings
            return
        faulty = {(f.path, f.line) for f in self.findings if f.check in _SAID_ALREADY}
        unsound = {str(rule.reading.path) for rule, sound in checked if not sound}
        for issue in issues:
            hidden = issue.path in unsound and issue.check in _DANGLING
            if not hidden and (issue.path, issue.line) not in faulty:
                yield issue

    def _duplicates(self) -> None:
        """Against all rules of the pack, whichever are checked; only those that are checked are blamed."""
        chosen = {path.resolve() for path, _ in self.files.rules}
        readings = [one for one in self.readings if one.in_pack]
        for path, tier in rule_files(self.root):
            if path.resolve() not in chosen:
                readings.append(read_rule(path, tier))
        others = [one for one in self.readings if not one.in_pack]
        checked = {one.path for one in self.readings}
        # The unchecked come first, so that the checked are blamed.
        readings.sort(key=lambda one: (one.path in checked, str(one.path)))
        self.findings += (f for f in duplicates([*readings, *others]) if Path(f.path) in checked)

    def _events(self) -> None:
        for reading in self.readings:
            if reading.rule is None or not reading.in_pack:
                continue
            path = self._events_path(reading.rule)
            if path is None:
                what, todo = "has no events file", f"write tests/events/{reading.rule.name}.yml"
                self.findings.append(found("missing-events", reading.path, 1, what, todo))
            else:
                self._read_events(path, reading.rule)
        rules = {path.stem: (path, tier) for path, tier in rule_files(self.root)}
        for path in self.files.events:
            if path in self.events:
                continue
            if path.stem not in rules:
                todo = "rename it or write the rule"
                self.findings.append(found("orphan-events", path, 1, "has no rule of its name", todo))
                continue
            owner = read_rule(*rules[path.stem]).rule
            if owner is not None:
                self._read_events(path, owner)

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
        """Report every placeholder, and nothing else about it."""
        silent = {str(reading.path): reading.silent for reading in self.readings if reading.silent}
        marked: list[Finding] = []
        for path, events in self.events.items():
            listed = [events.document] if events.document is not None else []
            found, silent[str(path)] = placeholders(path, events.text, listed)
            marked += found
        spoken = (f for f in self.findings if f.check == PLACEHOLDER or f.line not in silent.get(f.path, ()))
        self.findings = [*spoken, *marked]

    def _notes(self) -> None:
        """What the pack's rules say of values that they no longer have."""
        for reading in self.readings:
            if reading.in_pack:
                self.findings += stale_notes(reading, self.findings)

    def _facts(self) -> Iterator[Finding]:
        """What the whole pack rests on, and how long ago it was read."""
        today = datetime.now(UTC).date()
        yield from facts.faults(self.root, {path.stem for path, _ in rule_files(self.root)}, today)
        for reading in self.readings:
            for document in reading.documents:
                about = "what its values are worth today"
                yield from facts.aged(document, ("seen_today", "read"), about, today)
        yield from self._playbook(today)
        path = self.root / COVERAGE
        for document in load_documents(path) if path.is_file() else ():
            yield from facts.aged(document, ("read",), "what others detect", today)

    def _lists(self) -> None:
        """The filters that a site fills in."""
        lists = load_list_filters(self.root, self.findings)
        rules = [reading.rule for reading in self.readings if reading.rule is not None]
        self.findings += unknown_rules(lists, rules)

    def _playbook(self, today: date) -> Iterator[Finding]:
        """What is done after an alert: is it whole, and when was it read?"""
        if not (self.root / PLAYBOOK).is_file():
            return
        try:
            playbook, documents = read_playbook(self.root)
        except PackError as error:
            yield from error.findings
            return
        tiers = {path.stem: tier for path, tier in rule_files(self.root)}
        yield from dangling(playbook, documents, tiers)
        for index, step in enumerate(playbook.steps):
            yield from facts.aged(documents[0], ("steps", index, "read"), f'"{step.id}"', today)
        for document in documents[1:]:
            for index in range(len(document.data.get("about") or ())):
                yield from facts.aged(document, ("about", index, "read"), "a part of the guide", today)

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
            return list(contradictions(self._pack(), runnable))
        except PackError as error:
            return error.findings

    def _runnable(self, path: Path, tier: str) -> Rule | None:
        reading = read_rule(path, tier)
        return reading.rule if not reading.findings else None

    def _pack(self) -> Pack:
        return Pack(self.root, self._version(), (), self.pipelines, self.sources)

    def _version(self) -> str:
        try:
            return pack_version(self.root)
        except PackError:
            return "0.0.0"


def _as(finding: Finding, check: str) -> Finding:
    return replace(finding, check=check) if finding.check == "refused" else finding


def count(findings: Sequence[Finding]) -> Mapping[str, int]:
    """How many errors and warnings."""
    errors = sum(finding.severity == "error" for finding in findings)
    return {"errors": errors, "warnings": len(findings) - errors}
