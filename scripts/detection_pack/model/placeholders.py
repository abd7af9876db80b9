"""Placeholders: the marked places in a new rule or events file that its author fills in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document, Key
from detection_pack.model.findings import Finding

#: What ``new`` writes where only the author knows the value, followed by what belongs there.
MARKER = "FILL-IN"
#: The id of the findings that this module makes.
PLACEHOLDER = "placeholder"
#: Keys whose parts are looked at one by one; a fault at any other top key is about all that stands under it.
_TREES = ("detection", "correlation", "match", "no_match")


def is_placeholder(value: object) -> bool:
    """Whether the text contains the marker. What is no text is no placeholder."""
    return isinstance(value, str) and MARKER in value


def placeholders(
    path: Path, text: str, documents: Iterable[Document]
) -> tuple[list[Finding], frozenset[int]]:
    """A finding for every placeholder, and the lines at which nothing else is to be said."""
    findings: list[Finding] = []
    silent: set[int] = set()
    if MARKER not in text:
        return findings, frozenset()
    lines = text.split("\n")
    for document in documents:
        for keys, value in _scalars(document.data, ()):
            if not is_placeholder(value):
                continue
            first = document.line(*keys)
            # YAML ends lines where a text editor does not, at U+2028 say.
            last = min([*(n for n in document.lines.values() if n > first), len(lines) + 1])
            said = [n for n in range(first, last) if MARKER in lines[n - 1]] or [first]
            for line in said:
                what = _said_of(lines[line - 1] if line <= len(lines) else "")
                findings.append(Finding(str(path), line, what, "fill it in", PLACEHOLDER))
            silent |= {first, *said}
            if keys[0] not in _TREES:
                silent.add(document.line(keys[0]))
            silent |= _cases(document, keys)
    return list(dict.fromkeys(findings)), frozenset(silent)


def _said_of(line: str) -> str:
    """What a finding says of a line with the marker in it."""
    about = line.partition(MARKER)[2].strip(" :\"'},]")
    return f"is a placeholder: {about}" if about else "is a placeholder"


def _cases(document: Document, keys: tuple[Key, ...]) -> set[int]:
    """The lines of the cases of an events file that hold a placeholder: all of them where the defaults do."""
    if keys[0] in ("match", "no_match"):
        return {document.line(*keys[:2])}
    if keys[0] != "defaults":
        return set()
    return {
        n
        for place, n in document.lines.items()
        if place[:1] in (("match",), ("no_match",)) and len(place) == 2
    }


def _scalars(node: Any, keys: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """Every scalar by its place, and every key with the marker in it."""
    if isinstance(node, dict):
        for key, child in node.items():
            if is_placeholder(key):
                yield (*keys, key), key
            yield from _scalars(child, (*keys, key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _scalars(child, (*keys, index))
    else:
        yield keys, node
