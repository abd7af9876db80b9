"""The marked blanks of a new rule or events file, and what must not be said beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detection_pack.checks.catalogue import Keys, found
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding
from detection_pack.model.placeholders import MARKER, is_blank, said_of

#: Keys whose parts are looked at one by one; a fault at any other top key is about all that stands under it.
_TREES = ("detection", "correlation", "match", "no_match")


def blanks(path: Path, text: str, documents: Iterable[Document]) -> tuple[list[Finding], frozenset[int]]:
    """A finding for every blank, and the lines at which nothing else is to be said."""
    lines = text.split("\n")
    findings: list[Finding] = []
    silent: set[int] = set()
    for document in documents:
        for keys, value in _scalars(document.data, ()):
            if not is_blank(value):
                continue
            first = document.line(*keys)
            # YAML ends lines where a text editor does not, at U+2028 say.
            last = min([*(n for n in document.lines.values() if n > first), len(lines) + 1])
            said = [n for n in range(first, last) if MARKER in lines[n - 1]] or [first]
            for line in said:
                what = said_of(lines[line - 1]) if line <= len(lines) else "is a blank"
                findings.append(found("blank", path, line, what, "fill it in"))
            silent |= {first, *said}
            if keys[0] not in _TREES:
                silent.add(document.line(keys[0]))
            silent |= _cases(document, keys)
    return findings, frozenset(silent)


def _cases(document: Document, keys: Keys) -> set[int]:
    """The lines of the cases of an events file that hold a blank: all of them where the defaults do."""
    if keys[0] in ("match", "no_match"):
        return {document.line(*keys[:2])}
    if keys[0] != "defaults":
        return set()
    return {
        n
        for place, n in document.lines.items()
        if place[:1] in (("match",), ("no_match",)) and len(place) == 2
    }


def _scalars(node: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(node, dict):
        for key, child in node.items():
            if is_blank(key):
                yield (*keys, key), key
            yield from _scalars(child, (*keys, key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _scalars(child, (*keys, index))
    else:
        yield keys, node
