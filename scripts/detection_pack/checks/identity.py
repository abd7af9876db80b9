"""Ids and names, which no two rules of a pack may share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, Severity
from detection_pack.model.reading import Reading


def duplicates(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Every id and name that an earlier document has, whatever its tier or file. A name of anybody's rules
    only matters where somebody refers to it, and an id where the rule is built on its own."""
    ids: dict[str, tuple[Path, int, bool]] = {}
    names: dict[str, tuple[Path, int, bool]] = {}
    mains = [reading.rule.main for reading in readings if reading.rule is not None]
    built = {(main.path, main.line()) for main in mains}
    for reading, document in _once(readings):
        own = (document.path, document.line()) in built
        yield from _taken(reading, document, "id", ids, "duplicate-id", "make a new one with uuidgen", own)
        todo = "give each rule a name of its own"
        yield from _taken(reading, document, "name", names, "duplicate-name", todo, own)


def _once(readings: Sequence[Reading]) -> Iterator[tuple[Reading, Document]]:
    """Every document: several correlations may be built of one."""
    told: set[tuple[Path, int]] = set()
    for reading in readings:
        for document in reading.documents:
            if (place := (document.path, document.line())) not in told:
                told.add(place)
                yield reading, document


def _taken(
    reading: Reading,
    document: Document,
    key: str,
    seen: dict[str, tuple[Path, int, bool]],
    check: str,
    todo: str,
    own: bool,
) -> Iterator[Finding]:
    value = document.data.get(key)
    if not isinstance(value, str) or not value:
        return
    keys: Keys = (key,)
    folded = value.lower()
    if folded in seen:
        path, line, others = seen[folded]
        built = key == "id" and own and others
        severity: Severity = "error" if reading.in_pack or built else "warning"
        what = f'the {key} "{value}" is taken by {path}:{line}'
        yield reading.at(check, document, keys, what, todo, severity)
    if folded not in seen or (own and not seen[folded][2]):
        seen[folded] = (document.path, document.line(*keys), own)
