"""Ids and names, which no two rules of a pack may share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading


def duplicates(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Every id and name that an earlier document has, whatever its tier or file."""
    ids: dict[str, tuple[Path, int]] = {}
    names: dict[str, tuple[Path, int]] = {}
    for reading in readings:
        for document in reading.documents:
            yield from _taken(reading, document, "id", ids, "duplicate-id", "make a new one with uuidgen")
            todo = "give each rule a name of its own"
            yield from _taken(reading, document, "name", names, "duplicate-name", todo)


def _taken(
    reading: Reading,
    document: Document,
    key: str,
    seen: dict[str, tuple[Path, int]],
    check: str,
    todo: str,
) -> Iterator[Finding]:
    value = document.data.get(key)
    if not isinstance(value, str) or not value:
        return
    keys: Keys = (key,)
    folded = value.lower()
    if folded in seen:
        path, line = seen[folded]
        yield reading.at(check, document, keys, f'the {key} "{value}" is taken by {path}:{line}', todo)
    else:
        seen[folded] = (reading.path, document.line(*keys))
