"""Values that nothing writes, against the table that a log source keeps of those that its records hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from sigma.rule import SigmaDetectionItem
from sigma.types import SigmaNumber, SigmaString, SpecialChars

from detection_pack.model.detections import Leaf, leaves
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, Severity
from detection_pack.model.log_source import KnownValues, LogSource, source_of
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule

#: Looking for the nearest value costs milliseconds; a list of thousands of unknown ones gets no more of them.
MAX_SUGGESTIONS = 100


@dataclass(frozen=True, eq=False)
class _Table:
    """A log source's table of the values of a field."""

    source: LogSource
    about: KnownValues

    @cached_property
    def values(self) -> Mapping[str, frozenset[str]]:
        """Each known value and the types of record that hold it; none for one that nothing writes."""
        rows = self.source.table(self.about.table)
        return {row["value"]: frozenset((row["types"] or "").split()) for row in rows}

    @cached_property
    def covered(self) -> frozenset[str]:
        """The types of record whose values the table lists, by name and by number."""
        names = frozenset[str]().union(*self.values.values())
        stated = self.source.fields.get(self.about.by)
        enumeration = self.source.enumerations.get(stated.enumeration or "", {}) if stated else {}
        return names | {str(number) for number, name in enumeration.items() if name in names}

    @cached_property
    def lines(self) -> str:
        """Every known value in small letters, a line each."""
        return "\n".join(name.lower() for name in self.values)

    def judges(self, document: Document) -> bool:
        """Whether the table covers the types of record that a rule names, where it names any."""
        named = [str(v) for leaf in leaves(document) if leaf.field == self.about.by for _, v in leaf.values]
        return not named or any(name in self.covered for name in named)

    def knows(self, value: SigmaString | SigmaNumber) -> bool:
        """Whether a known value matches, by one search through all: a rule may list thousands."""
        parts = value.s if isinstance(value, SigmaString) else (str(value),)
        wild = {SpecialChars.WILDCARD_MULTI: "[^\n]*", SpecialChars.WILDCARD_SINGLE: "[^\n]"}
        texts = [str(p) for p in parts if not isinstance(p, SpecialChars)]
        if len(texts) == 1 and texts[0].lower() not in self.lines:
            return False
        text = "".join(wild[p] if isinstance(p, SpecialChars) else re.escape(str(p).lower()) for p in parts)
        return re.search(f"^{text}$", self.lines, re.MULTILINE) is not None

    def near(self, name: str) -> str | None:
        folded = {known.lower(): known for known in self.values}
        near = difflib.get_close_matches(name.strip("*").lower(), list(folded), n=1, cutoff=0.85)
        return folded[near[0]] if near else None


@lru_cache(maxsize=16)
def _table(source: LogSource) -> _Table | None:
    return _Table(source, source.known_values) if source.known_values is not None else None


def unlisted_values(reading: Reading, rule: Rule, sources: Mapping[str, LogSource]) -> Iterator[Finding]:
    """Every value that no known type of record holds, of a field whose values the log source lists. ``rule``
    is the reading's with its misspelt names put right."""
    for document in rule.documents:
        stated = document.data.get("logsource")
        source = source_of(sources, stated) if isinstance(stated, dict) else None
        table = _table(source) if source is not None else None
        if table is None or not table.judges(document):
            continue
        for leaf in leaves(document):
            unlike = {"re", "fieldref", "exists", "cidr"} & set(leaf.modifiers)
            if leaf.field == table.about.field and not unlike:
                yield from _unlisted(reading, leaf, table)


def _unlisted(reading: Reading, leaf: Leaf, table: _Table) -> Iterator[Finding]:
    suggestions = MAX_SUGGESTIONS
    for keys, value in leaf.values:
        try:
            said = SigmaDetectionItem.from_mapping(leaf.key, value).value
        except Exception:  # reported as a fault of Sigma
            continue
        texts = [v for v in said if isinstance(v, SigmaString | SigmaNumber)]
        if not texts or any(map(table.knows, texts)):
            continue
        near = table.near(str(value)) if suggestions else None
        suggestions -= bool(suggestions)
        growing = not near and re.fullmatch(table.about.growing, str(value))
        severity: Severity = "warning" if growing else "error"
        todo = f'did you mean "{near}"?' if near else f"look it up in {table.about.reference}"
        what = f'no known {table.about.by} writes the {table.about.field} "{value}"'
        yield reading.at("unlisted-value", leaf.document, keys, what, todo, severity)
