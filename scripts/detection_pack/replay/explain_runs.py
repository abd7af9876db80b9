"""Variants of a rule, converted by a platform and executed by its engine on some events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Part
from detection_pack.platforms.platform import Platform, Run
from detection_pack.replay.verdict import clock_for, exact

#: The pack's version, which only files for an import say; those are not executed here.
_VERSION = "0.0.0"


@dataclass(frozen=True)
class Answers:
    """What a platform says: the hits of every rule, by its name, and why it refuses others."""

    hits: Mapping[str, tuple[Hit, ...]]
    refused: Mapping[str, str]

    def fires(self, rule: Rule) -> bool | None:
        """Whether the rule found anything; None where the platform refuses it."""
        return None if rule.name in self.refused else bool(self.hits.get(rule.name))

    def finds(self, rule: Rule, event: str) -> bool | None:
        """Whether the rule found this event; a correlation names no events, and any hit of it counts."""
        if rule.name in self.refused:
            return None
        return any(hit.group is not None or event in hit.events for hit in self.hits.get(rule.name, ()))


class Asked:
    """Rules as one platform's queries, ready to run on any events.

    A rule that the platform cannot say is in ``refused`` with its reason. Use it as a context manager: it
    owns a folder.
    """

    def __init__(
        self,
        platform: Platform,
        rules: Iterable[Rule],
        pipelines: Mapping[str, Pipeline],
        sources: Iterable[LogSource],
    ) -> None:
        self.platform = platform
        self.refused: dict[str, str] = {}
        self._sources = tuple(sources)
        self._entries: dict[str, RuleEntry] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="detection-pack-")
        parts = []
        for rule in rules:
            try:
                part = platform.part(rule, pipelines, _VERSION)
            except PackError as error:
                self.refused[rule.name] = error.findings[0].what
                continue
            parts.append(part)
            self._entries[rule.name] = _entry(rule, part)
        self._write(parts)

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _write(self, parts: Sequence[Part]) -> None:
        files = [artefact for part in parts for artefact in part.artefacts]
        if parts:
            files += self.platform.assembled(parts, _VERSION)
        for artefact in files:
            path = Path(self._folder.name) / artefact.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(artefact.content)

    def run(self, events: Sequence[Event], names: Iterable[str] | None = None) -> Answers:
        """What these rules (None: all) find among the events, by their own queries as they are imported."""
        wanted = [self._entries[n] for n in (self._entries if names is None else names) if n in self._entries]
        try:
            hits = self._hits(events, wanted)
            refused: dict[str, str] = {}
        except PackError:
            # One that the engine cannot run must not silence the others.
            hits, refused = self._one_by_one(events, wanted)
        found: dict[str, list[Hit]] = {}
        for hit in exact(hits):
            found.setdefault(hit.rule, []).append(hit)
        return Answers({name: tuple(own) for name, own in found.items()}, {**self.refused, **refused})

    def _one_by_one(
        self, events: Sequence[Event], wanted: Sequence[RuleEntry]
    ) -> tuple[list[Hit], dict[str, str]]:
        hits: list[Hit] = []
        refused: dict[str, str] = {}
        for entry in wanted:
            try:
                hits += self._hits(events, [entry])
            except PackError as error:
                refused[entry.name] = error.findings[0].what
        return hits, refused

    def _hits(self, events: Sequence[Event], entries: Sequence[RuleEntry]) -> list[Hit]:
        given = Run(Path(self._folder.name), entries, events, clock_for(events), self._sources)
        return self.platform.run(given)


def _entry(rule: Rule, part: Part) -> RuleEntry:
    facts = rule.correlation
    paths = tuple(artefact.path for artefact in part.artefacts)
    if facts is None:
        return RuleEntry(rule.name, artefacts=paths)
    return RuleEntry(rule.name, facts.group_by, facts.window, paths)
