"""Operations of audit records, against the table of those that Microsoft's services write."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from sigma.rule import SigmaDetectionItem
from sigma.types import SigmaNumber, SigmaString, SpecialChars

from detection_pack.checks.fields import RECORD_TYPE
from detection_pack.checks.subject import Leaf, Subject, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, Severity
from detection_pack.model.rule import Rule

OPERATION = "Operation"
#: Looking for the nearest name costs milliseconds; a list of thousands of unknown ones gets no more of them.
MAX_SUGGESTIONS = 100
_CMDLET = re.compile(r"[A-Z][A-Za-z]+-[A-Z][A-Za-z0-9]+")


@cache
def operations() -> Mapping[str, frozenset[str]]:
    """Each known operation and the record types that hold it; none for a name that nothing writes."""
    with Path(__file__).with_name("operations.csv").open(encoding="utf-8", newline="") as file:
        return {row["operation"]: frozenset(row["record_types"].split()) for row in csv.DictReader(file)}


@cache
def covered() -> frozenset[str]:
    """The record types whose operations the table lists, by name and by integer."""
    names = frozenset[str]().union(*operations().values())
    enums = Path(__file__).parents[1] / "model" / "enums.csv"
    with enums.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["enum"] == "AuditLogRecordType"]
    return names | {row["value"] for row in rows if row["name"] in names}


def unknown_operations(subject: Subject, rule: Rule) -> Iterator[Finding]:
    """Every Operation of an Exchange or compliance rule that no known record type writes. ``rule`` is the
    subject's with its misspelt names put right."""
    for document in rule.documents:
        source = document.data.get("logsource")
        if not isinstance(source, dict) or source.get("product") != "m365" or not _judged(document):
            continue
        for leaf in leaves(document):
            if leaf.field == OPERATION and not {"re", "fieldref", "exists", "cidr"} & set(leaf.modifiers):
                yield from _unknown(subject, leaf)


def _judged(document: Document) -> bool:
    """Whether the rule's record types, where it names any, are ones that the table covers."""
    named = [str(v) for leaf in leaves(document) if leaf.field == RECORD_TYPE for _, v in leaf.values]
    return not named or any(name in covered() for name in named)


def _unknown(subject: Subject, leaf: Leaf) -> Iterator[Finding]:
    suggestions = MAX_SUGGESTIONS
    for keys, value in leaf.values:
        try:
            said = SigmaDetectionItem.from_mapping(leaf.key, value).value
        except Exception:  # reported as a fault of Sigma
            continue
        texts = [v for v in said if isinstance(v, SigmaString | SigmaNumber)]
        if not texts or any(map(_is_known, texts)):
            continue
        near = _near(str(value)) if suggestions else None
        suggestions -= bool(suggestions)
        severity: Severity = "warning" if not near and _CMDLET.fullmatch(str(value)) else "error"
        todo = f'did you mean "{near}"?' if near else "look it up in Microsoft's list of audited activities"
        what = f'no known record type writes the operation "{value}"'
        yield subject.at("unknown-operation", leaf.document, keys, what, todo, severity)


def _is_known(value: SigmaString | SigmaNumber) -> bool:
    """Whether a known operation matches, by one search through all names: a rule may list thousands."""
    parts = value.s if isinstance(value, SigmaString) else (str(value),)
    wild = {SpecialChars.WILDCARD_MULTI: "[^\n]*", SpecialChars.WILDCARD_SINGLE: "[^\n]"}
    texts = [str(p) for p in parts if not isinstance(p, SpecialChars)]
    if len(texts) == 1 and texts[0].lower() not in _names():
        return False
    text = "".join(wild[p] if isinstance(p, SpecialChars) else re.escape(str(p).lower()) for p in parts)
    return re.search(f"^{text}$", _names(), re.MULTILINE) is not None


@cache
def _names() -> str:
    """Every known operation in small letters, a line each."""
    return "\n".join(name.lower() for name in operations())


def _near(name: str) -> str | None:
    folded = {known.lower(): known for known in operations()}
    near = difflib.get_close_matches(name.strip("*").lower(), list(folded), n=1, cutoff=0.85)
    return folded[near[0]] if near else None
