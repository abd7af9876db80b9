"""Findings as text, JSON and SARIF; what found them is only a table of ids here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from detection_pack.checks.places import Place, place_of, snippet
from detection_pack.model.documents import read_text
from detection_pack.model.findings import Finding, PackError

SARIF_VERSION = "2.1.0"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_TOOL = "detection-pack"
#: GitHub takes paths against the root of the checkout under this name.
_ROOT = "%SRCROOT%"


class Info(Protocol):
    """What a report says of a check."""

    @property
    def about(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def severity(self) -> str: ...


@dataclass(frozen=True)
class Report:
    """What was found. ``root``: paths under it are shown against it. ``checks``: every check that ran."""

    findings: Sequence[Finding]
    root: Path
    version: str
    checks: Mapping[str, Info]


def text(report: Report) -> str:
    """One line a finding with its code at the end; below it the line that it is about, where its value stands
    there, with carets under the value."""
    return "".join(
        f"{finding} [{finding.check}]\n" + (snippet(*placed) if placed else "")
        for finding, placed in zip(report.findings, _places(report), strict=True)
    )


def as_json(report: Report) -> str:
    """``{"findings": [{path, line, column, endColumn, check, severity, what, todo} …], "errors": n,
    "warnings": n}``.

    Columns count characters from 1, the end past the last; null where the line does not say the value once.
    """
    errors = sum(finding.severity == "error" for finding in report.findings)
    listed = [
        {
            "path": _relative(finding.path, report.root)[0],
            "line": finding.line,
            "column": placed[1].start + 1 if placed else None,
            "endColumn": placed[1].end + 1 if placed else None,
            "check": finding.check,
            "severity": finding.severity,
            "what": finding.what,
            "todo": finding.todo,
        }
        for finding, placed in zip(report.findings, _places(report), strict=True)
    ]
    return _dumped({"findings": listed, "errors": errors, "warnings": len(listed) - errors})


def sarif(report: Report) -> str:
    """A SARIF 2.1.0 log of one run, as GitHub's code scanning takes it."""
    ids = [*report.checks, *sorted({f.check for f in report.findings} - set(report.checks))]
    index = {check: number for number, check in enumerate(ids)}
    driver = {
        "name": _TOOL,
        "version": report.version,
        "semanticVersion": report.version,
        "rules": [_rule(check, report.checks.get(check)) for check in ids],
    }
    marks = _fingerprints(report)
    results = [
        _result(report, finding, index[finding.check], mark, placed)
        for finding, mark, placed in zip(report.findings, marks, _places(report), strict=True)
    ]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return _dumped({"$schema": SARIF_SCHEMA, "version": SARIF_VERSION, "runs": [run]})


def _rule(check: str, info: Info | None) -> dict[str, Any]:
    if info is None:
        return {"id": check}
    return {
        "id": check,
        "name": "".join(word.capitalize() for word in check.split("-")),
        "shortDescription": {"text": info.about},
        "fullDescription": {"text": info.help},
        "help": {"text": info.help},
        "defaultConfiguration": {"level": info.severity},
    }


def _result(
    report: Report, finding: Finding, index: int, mark: str, placed: tuple[str, Place] | None
) -> dict[str, Any]:
    path, inside = _relative(finding.path, report.root)
    where: dict[str, str] = {"uri": quote(path) if inside else Path(path).as_uri()}
    where |= {"uriBaseId": _ROOT} if inside else {}
    region = {"startLine": max(finding.line, 1)}
    if placed:
        line, place = placed
        region["startColumn"], region["endColumn"] = place.columns(line)
    return {
        "ruleId": finding.check,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{finding.what}; {finding.todo}"},
        "locations": [{"physicalLocation": {"artifactLocation": where, "region": region}}],
        "partialFingerprints": {"primaryLocationLineHash": mark},
    }


def _places(report: Report) -> list[tuple[str, Place] | None]:
    """For each finding its line and where in it the value stands; None where that is not known."""
    read = cache(_own_lines)
    placed: list[tuple[str, Place] | None] = []
    for finding in report.findings:
        lines = read(finding.path)
        line = lines[finding.line - 1].rstrip("\r") if 0 < finding.line <= len(lines) else ""
        place = place_of(finding, line)
        placed.append((line, place) if place else None)
    return placed


def _own_lines(path: str) -> list[str]:
    """The lines of a file that validation would read: what a link points to is not shown."""
    try:
        return read_text(Path(path)).split("\n")
    except (PackError, ValueError):
        return []


def _relative(path: str, root: Path) -> tuple[str, bool]:
    """The path against the root with forward slashes, and whether it is under it (else it is absolute)."""
    resolved, base = Path(path).resolve(), root.resolve()
    if resolved.is_relative_to(base):
        return resolved.relative_to(base).as_posix(), True
    return resolved.as_posix(), False


def _fingerprints(report: Report) -> list[str]:
    """A name for each finding that stays when its line moves: made of the check, the path and the line's own
    text, and counted among equals."""
    lines: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    marks = []
    for finding in report.findings:
        if finding.path not in lines:
            lines[finding.path] = _lines(finding.path)
        own = lines[finding.path]
        said = own[finding.line - 1].strip() if 0 < finding.line <= len(own) else ""
        name = "\0".join((finding.check, _relative(finding.path, report.root)[0], said))
        mark = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        seen[mark] = seen.get(mark, 0) + 1
        marks.append(f"{mark}:{seen[mark]}")
    return marks


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return []


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, indent=2) + "\n"


REPORTERS: Mapping[str, Callable[[Report], str]] = {"text": text, "json": as_json, "sarif": sarif}
