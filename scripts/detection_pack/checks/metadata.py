"""What an analyst and an importer need from every rule of the pack."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Set

from detection_pack.checks.subject import Subject
from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding

_LEVELS = ("informational", "low", "medium", "high", "critical")
_STATUS = ("stable", "test", "experimental", "deprecated", "unsupported")
_LISTS = ("references", "falsepositives", "required_tables", "data_sources", "tags")
_CONFIDENCE = ("high", "medium", "low")
LONGEST_TITLE, SHORTEST_DESCRIPTION = 110, 80


def metadata(
    subject: Subject, faulty: Set[tuple[int, Key]]
) -> Iterator[tuple[Finding, Document, tuple[Key, ...]]]:
    """Every gap in the metadata of every document, with its place.

    ``faulty``: the keys, by document, that are no Sigma and reported as that.
    """
    for index, document in enumerate(subject.rule.documents):
        for key, finding in _of_document(subject, document):
            if (index, key) not in faulty:
                yield finding, document, (key,)
    for key, finding in _of_rule(subject):
        yield finding, subject.rule.main, (key,)


def _of_document(subject: Subject, document: Document) -> Iterator[tuple[str, Finding]]:
    data = document.data
    try:
        uuid.UUID(str(data.get("id")))
    except ValueError:
        yield "id", _missing(subject, document, "id", "has no UUID as its id", "make one with uuidgen")
    if data.get("status") not in _STATUS:
        yield (
            "status",
            _missing(subject, document, "status", "has no Sigma status", f"use {', '.join(_STATUS)}"),
        )
    if data.get("level") not in _LEVELS:
        yield "level", _missing(subject, document, "level", "has no Sigma level", f"use {', '.join(_LEVELS)}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(data.get("date"))):
        yield "date", _missing(subject, document, "date", "has no date", "write the day as 2026-01-31")
    if len(str(data.get("description") or "")) < SHORTEST_DESCRIPTION:
        what = f"has a description of less than {SHORTEST_DESCRIPTION} characters"
        yield (
            "description",
            _missing(subject, document, "description", what, "tell the analyst in 2 sentences"),
        )


def _of_rule(subject: Subject) -> Iterator[tuple[str, Finding]]:
    main = subject.rule.main
    for key in _LISTS:
        if not isinstance(main.data.get(key), list) or not main.data[key]:
            yield (
                key,
                _missing(subject, main, key, f'has no "{key}"', f'add "{key}:" with at least one entry'),
            )
    if main.data.get("confidence") not in _CONFIDENCE:
        yield (
            "confidence",
            _missing(subject, main, "confidence", "has no confidence", f"use {', '.join(_CONFIDENCE)}"),
        )
    tags = main.data.get("tags")
    if isinstance(tags, list) and tags and not any(re.match(r"attack\.t\d", str(tag)) for tag in tags):
        todo = "tag it, such as attack.t1114.002"
        yield "tags", _missing(subject, main, "tags", "has no ATT&CK technique", todo)
    if len(subject.rule.title) > LONGEST_TITLE:
        what = f"has a title of over {LONGEST_TITLE} characters"
        yield "title", _missing(subject, main, "title", what, "shorten it")


def _missing(subject: Subject, document: Document, key: str, what: str, todo: str) -> Finding:
    return subject.at("metadata", document, (key,), what, todo)
