"""What an analyst and an importer need from every rule of the pack."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Set

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule

_LEVELS = ("informational", "low", "medium", "high", "critical")
_STATUS = ("stable", "test", "experimental", "deprecated", "unsupported")
_LISTS = ("references", "falsepositives", "required_tables", "data_sources", "tags")
#: The list that only a rule for Microsoft Sentinel needs.
_TABLES, _OF_TABLES = "required_tables", "sentinel"
_CONFIDENCE = ("high", "medium", "low")
LONGEST_TITLE, SHORTEST_DESCRIPTION = 110, 80


def metadata(reading: Reading, rule: Rule, faulty: Set[tuple[int, Key]]) -> Iterator[Finding]:
    """Every gap in the metadata of every document of ``rule``, the reading's.

    ``faulty``: the keys, by document, that are no Sigma and reported as that.
    """
    for index, document in enumerate(rule.documents):
        for key, finding in _of_document(reading, document):
            if (index, key) not in faulty:
                yield finding
    yield from (finding for _, finding in _of_rule(reading, rule))


def _of_document(reading: Reading, document: Document) -> Iterator[tuple[str, Finding]]:
    data = document.data
    try:
        uuid.UUID(str(data.get("id")))
    except ValueError:
        yield "id", _missing(reading, document, "id", "has no UUID as its id", "make one with uuidgen")
    if data.get("status") not in _STATUS:
        yield (
            "status",
            _missing(reading, document, "status", "has no Sigma status", f"use {', '.join(_STATUS)}"),
        )
    if data.get("level") not in _LEVELS:
        yield "level", _missing(reading, document, "level", "has no Sigma level", f"use {', '.join(_LEVELS)}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(data.get("date"))):
        yield "date", _missing(reading, document, "date", "has no date", "write the day as 2026-01-31")
    if len(str(data.get("description") or "")) < SHORTEST_DESCRIPTION:
        what = f"has a description of less than {SHORTEST_DESCRIPTION} characters"
        yield (
            "description",
            _missing(reading, document, "description", what, "tell the analyst in 2 sentences"),
        )


def _of_rule(reading: Reading, rule: Rule) -> Iterator[tuple[str, Finding]]:
    main = rule.main
    for key in _LISTS:
        if key == _TABLES and _OF_TABLES in rule.absent:
            continue
        if not isinstance(main.data.get(key), list) or not main.data[key]:
            yield (
                key,
                _missing(reading, main, key, f'has no "{key}"', f'add "{key}:" with at least one entry'),
            )
    if main.data.get("confidence") not in _CONFIDENCE:
        yield (
            "confidence",
            _missing(reading, main, "confidence", "has no confidence", f"use {', '.join(_CONFIDENCE)}"),
        )
    tags = main.data.get("tags")
    if isinstance(tags, list) and tags and not any(re.match(r"attack\.t\d", str(tag)) for tag in tags):
        todo = "tag it, such as attack.t1114.002"
        yield "tags", _missing(reading, main, "tags", "has no ATT&CK technique", todo)
    if len(rule.title) > LONGEST_TITLE:
        what = f"has a title of over {LONGEST_TITLE} characters"
        yield "title", _missing(reading, main, "title", what, "shorten it")


def _missing(reading: Reading, document: Document, key: str, what: str, todo: str) -> Finding:
    return reading.at("metadata", document, (key,), what, todo)
