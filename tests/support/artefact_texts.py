"""Artefacts as somebody other than their writer reads them: what is left when every literal is taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_KQL = re.compile(r'(@"(?:[^"]|"")*"|"(?:[^"\\\n]|\\.)*")|//[^\n]*')
_SPL = re.compile(r'"(?:[^"\\]|\\.)*"')


def kql_skeleton(text: str) -> str:
    """A KQL query without its comments, each string replaced by ``S``."""
    return _KQL.sub(lambda found: "S" if found[1] else "", text)


def kql_lets(text: str) -> tuple[list[str], int]:
    """The names that a query's statements define, and how many statements it has."""
    skeleton = kql_skeleton(text).strip()
    names = re.findall(r"^let (\w+) = ", skeleton, re.MULTILINE)
    return names, len([part for part in skeleton.split(";") if part.strip()])


def spl_skeleton(text: str) -> str:
    """An SPL search, each string replaced by ``S``."""
    return _SPL.sub("S", text)


def spl_commands(text: str) -> set[str]:
    """The commands after a pipe, subsearches included."""
    return set(re.findall(r"\|\s*(`?\w+)", spl_skeleton(text)))


def strings_of(value: Any) -> Iterator[str]:
    """Every string of a JSON document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_of(inner)
