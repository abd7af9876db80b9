"""Every check that a rule must pass, each with a message that says what to do."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from detection_pack.build import make
from detection_pack.cases import Case, kind_of, load_cases
from detection_pack.documents import Document
from detection_pack.findings import Finding, PackError
from detection_pack.pack import Pack, Rule, load_pack, load_pipeline, load_rule, rule_files

#: How many events a rule's events file must hold on either side.
LEAST_CASES = 12
_LEVELS = ("informational", "low", "medium", "high", "critical")
_STATUS = ("stable", "test", "experimental", "deprecated", "unsupported")
#: Pipeline features that read files, run programs or fill in templates: logic that a reader cannot see.
_FORBIDDEN_IN_PIPELINES = ("template", "allow_template_vars", "vars", "file", "command", "url", "program")

Check = Callable[[Rule], list[Finding]]


def validate(root: Path, paths: Sequence[Path] = ()) -> list[Finding]:
    """Check the whole pack, or the named files as files of it. Every finding, sorted; none means fine."""
    findings: list[Finding] = []
    if paths:
        for path in paths:
            findings += _one(root, path)
        return sorted(set(findings))
    try:
        pack = load_pack(root, findings=findings)
    except PackError as error:
        return sorted({*findings, *error.findings})
    for pipeline in pack.pipelines.values():
        findings += _pipeline_findings(pipeline.document)
    for rule in pack.rules:
        findings += [finding for check in CHECKS for finding in check(rule)]
        findings += events_findings(root, rule)
    findings += _duplicates(pack.rules)
    findings += make(pack, keep_going=True).refused
    findings += _orphans(root)
    return sorted(set(findings))


def _one(root: Path, path: Path) -> list[Finding]:
    findings: list[Finding] = []
    try:
        resolved = path.resolve()
        if resolved.parent == (root / "pipelines").resolve():
            pipeline = load_pipeline(path.stem, path)
            return _pipeline_findings(pipeline.document)
        if resolved.parent == (root / "tests" / "events").resolve():
            pack = load_pack(root, findings=[])
            rule = next((r for r in pack.rules if r.name == path.stem), None)
            if rule is None:
                return [Finding(str(path), 1, "has no rule of its name", "rename it or write the rule")]
            return _case_findings(path, load_cases(path, kind_of(rule)))
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix in (".yml", ".yaml"))
            return [finding for file in files for finding in _one(root, file)]
        in_pack = (root / "sigma").resolve() in resolved.parents
        rule = load_rule(path, resolved.parent.name if in_pack else "other", named_by_stem=not in_pack)
        findings += [finding for check in CHECKS for finding in check(rule)] if in_pack else []
        findings += events_findings(root, rule) if in_pack else []
        pack = load_pack(root, findings=[])
        findings += make(Pack(root, pack.version, (rule,), pack.pipelines), keep_going=True).refused
    except PackError as error:
        findings += error.findings
    return findings


def _metadata(rule: Rule) -> list[Finding]:
    """What an analyst and an importer need from every rule of the pack."""
    findings = []
    for document in rule.documents:
        data = document.data
        try:
            uuid.UUID(str(data.get("id")))
        except ValueError:
            findings.append(_at(rule, document, "id", "has no UUID as its id", "make one with uuidgen"))
        if data.get("status") not in _STATUS:
            findings.append(_at(rule, document, "status", "has no Sigma status", f"use {', '.join(_STATUS)}"))
        if data.get("level") not in _LEVELS:
            findings.append(_at(rule, document, "level", "has no Sigma level", f"use {', '.join(_LEVELS)}"))
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(data.get("date"))):
            findings.append(_at(rule, document, "date", "has no date", "write the day as 2026-01-31"))
        if len(str(data.get("description") or "")) < 80:
            findings.append(
                _at(
                    rule,
                    document,
                    "description",
                    "does not say what it means",
                    "tell the analyst in 2 sentences",
                )
            )
    return findings


def _main_metadata(rule: Rule) -> list[Finding]:
    main, findings = rule.main, []
    for key in ("references", "falsepositives", "required_tables", "data_sources", "tags"):
        if not isinstance(main.data.get(key), list) or not main.data[key]:
            findings.append(_at(rule, main, key, f'has no "{key}"', f'add "{key}:" with at least one entry'))
    if main.data.get("confidence") not in ("high", "medium", "low"):
        findings.append(_at(rule, main, "confidence", "has no confidence", "use high, medium or low"))
    if not rule.techniques:
        findings.append(
            _at(rule, main, "tags", "has no ATT&CK technique", "tag it, such as attack.t1114.002")
        )
    if len(rule.title) > 110:
        findings.append(_at(rule, main, "title", "has a title of over 110 characters", "shorten it"))
    return findings


CHECKS: tuple[Check, ...] = (_metadata, _main_metadata)


def events_findings(root: Path, rule: Rule) -> list[Finding]:
    """Faults of the rule's events file, a missing one included."""
    path = root / "tests" / "events" / f"{rule.name}.yml"
    if not path.is_file():
        return [Finding(str(rule.path), 1, "has no events file", f"write tests/events/{path.name}")]
    try:
        return _case_findings(path, load_cases(path, kind_of(rule)))
    except PackError as error:
        return list(error.findings)


def _case_findings(path: Path, cases: Sequence[Case]) -> list[Finding]:
    findings = []
    for side, wanted in (("match", True), ("no_match", False)):
        count = sum(case.matches is wanted for case in cases)
        if count < LEAST_CASES:
            findings.append(
                Finding(str(path), 1, f'has {count} cases under "{side}"', f"write at least {LEAST_CASES}")
            )
    seen: dict[str, int] = {}
    for case in cases:
        for event in case.events:
            if event.id in seen:
                what = f'repeats the Id "{event.id}"'
                findings.append(Finding(str(path), case.line, what, "give each event its own Id"))
            seen[event.id] = case.line
    return findings


def _pipeline_findings(document: Document) -> list[Finding]:
    findings = []
    for path, line in document.lines.items():
        if not path:
            continue
        value = document.data
        for key in path:
            value = value[key]
        named = path[-1] in _FORBIDDEN_IN_PIPELINES and len(path) > 2 and path[0] == "transformations"
        typed = path[-1] == "type" and any(word in str(value) for word in ("template", "external", "file"))
        if (named and "mapping" not in path) or typed:
            todo = "say it with a plain transformation"
            findings.append(Finding(str(document.path), line, f'uses "{path[-1]}: {value}"', todo))
    for key in ("vars", "finalizers", "postprocessing"):
        if key in document.data:
            at = document.line(key)
            findings.append(Finding(str(document.path), at, f'uses "{key}"', "say it with a transformation"))
    return findings


def _duplicates(rules: Sequence[Rule]) -> list[Finding]:
    findings: list[Finding] = []
    seen: dict[str, Path] = {}
    for rule in rules:
        for document in rule.documents:
            identity = str(document.data.get("id"))
            if identity in seen:
                what = f"has the id of {seen[identity]}"
                findings.append(_at(rule, document, "id", what, "make a new one with uuidgen"))
            seen[identity] = rule.path
    return findings


def _orphans(root: Path) -> list[Finding]:
    names = {path.stem for path, _ in rule_files(root)}
    return [
        Finding(str(path), 1, "has no rule of its name", "rename it or write the rule")
        for path in sorted((root / "tests" / "events").glob("*.yml"))
        if path.stem not in names
    ]


def _at(rule: Rule, document: Document, key: str, what: str, todo: str) -> Finding:
    return Finding(str(rule.path), document.line(key), what, todo)
