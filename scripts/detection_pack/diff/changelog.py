"""The changelog's section for what changes: a draft to paste, and what is missing of it."""

from __future__ import annotations

import re
from pathlib import Path

from semver import Version

from detection_pack.diff.difference import Report
from detection_pack.languages.markdown import code, text
from detection_pack.model.findings import Finding

CHANGELOG = "CHANGELOG.md"


def draft(report: Report) -> list[str]:
    """The lines of the section, in Markdown, its heading first."""
    lines = [f"## {max(report.required, report.head_version)}", ""]
    for change in report.rules:
        why = "; ".join(text(reason.why) for reason in change.reasons)
        title = f" ({text(change.title)})" if change.kind != "changed" else ""
        lines.append(f"- {code(change.name)}{title}: {why}.")
    # What is in them of a changed rule is said there; a path that comes or goes is said nowhere else.
    files = [file for file in report.shared if file.kind != "changed" or not report.rules]
    if files:
        named = ", ".join(f"{code(file.path)} {file.kind}" for file in files)
        lines.append(f"- Files that hold every rule: {named}.")
    return lines


def release_findings(root: Path, report: Report) -> list[Finding]:
    """What is missing before the change can be shipped: a version in pyproject.toml that is high enough, and
    a section of the changelog for it that names every rule that changes."""
    findings = []
    stated, required = report.head_version, report.required
    if stated < required:
        path = root / "pyproject.toml"
        what = f"the version {stated} is too low: {report.bump.name.lower()} since {report.base_version}"
        findings.append(Finding(str(path), _line_of(path, r"version\s*="), what, f"write {required}"))
    if not report.bump:
        return findings
    path = root / CHANGELOG
    version = max(stated, required)
    section = _section(path, version)
    if section is None:
        what = f'has no section "## {version}"'
        return [*findings, Finding(str(path), 1, what, "write it; detection-pack diff prints a draft")]
    line, text = section
    named = set(re.findall(r"[a-z0-9_]+", text))
    return findings + [
        Finding(str(path), line, f'the section "## {version}" does not name {name}', "say what changes in it")
        for name in (change.name for change in report.rules)
        if name not in named
    ]


def _section(path: Path, version: Version) -> tuple[int, str] | None:
    """``(line of the heading, text)`` of a version's section."""
    lines = _lines(path)
    heading = re.compile(rf"##\s+\[?v?{re.escape(str(version))}\]?(?:\s.*)?")
    for number, line in enumerate(lines, start=1):
        if heading.fullmatch(line):
            rest = lines[number:]
            end = next((i for i, other in enumerate(rest) if other.startswith("## ")), len(rest))
            return number, "\n".join(rest[:end])
    return None


def _line_of(path: Path, pattern: str) -> int:
    return next((n for n, line in enumerate(_lines(path), start=1) if re.match(pattern, line)), 1)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
