"""A rule's file as far as it can be read, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from detection_pack.model.detections import Fault, Keys
from detection_pack.model.documents import Document
from detection_pack.model.findings import Finding, Severity
from detection_pack.model.rule import TIERS, Rule


@dataclass(frozen=True)
class Reading:
    """What `rule_reader.read_rule` makes of a file.

    ``rule`` may hold any fault but a document that is no rule; None where nothing can be looked at.
    ``findings`` are all that keep the rule from being loaded. ``faults`` are those of them that are about a
    place of the rule: the rest can be looked at without these. ``silent``: the lines of placeholders, about
    which nothing else is said. ``warnings`` refuse nothing.
    """

    path: Path
    text: str
    rule: Rule | None
    findings: tuple[Finding, ...] = ()
    faults: tuple[Fault, ...] = ()
    silent: frozenset[int] = frozenset()
    warnings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, rule: Rule) -> Reading:
        """A rule that has been loaded, to look for what platforms have against it."""
        return cls(rule.path, rule.text, rule)

    @property
    def in_pack(self) -> bool:
        """Whether this is one of the pack's own, which must have events and metadata."""
        return self.rule is not None and self.rule.tier in TIERS

    @property
    def documents(self) -> tuple[Document, ...]:
        return self.rule.documents if self.rule is not None else ()

    def at(
        self, check: str, document: Document, keys: Keys, what: str, todo: str, severity: Severity = "error"
    ) -> Finding:
        """A finding at the line of ``keys`` in ``document``."""
        return Finding(str(document.path_of(*keys)), document.line(*keys), what, todo, check, severity)

    def fault(self, check: str, document: Document, keys: Keys, what: str, todo: str) -> Fault:
        """The same with its place, which has to go."""
        return Fault(self.at(check, document, keys, what, todo), document, keys)

    def line_within(self, document: Document, keys: Keys, said: str) -> int:
        """The line that says ``said`` inside a value of several lines; the value's own line if none does."""
        first = document.line(*keys)
        if document.path_of(*keys) != self.path:
            return first
        return next(self._lines_saying(said, first, document.line_after(*keys)), first)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    def _lines_saying(self, said: str, first: int, end: int | None) -> Iterator[int]:
        lines = self._lines
        # YAML ends lines where a text editor does not, at U+2028 say.
        last = min(end or len(lines) + 1, len(lines) + 1)
        return (n for n in range(first, last) if said in lines[n - 1])
