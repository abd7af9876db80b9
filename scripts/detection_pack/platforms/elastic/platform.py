"""Elastic: the files of dist/elastic/, and what runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.model.event import Clock, Event, Hit, RuleEntry
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.elastic import artefacts, rules
from detection_pack.platforms.elastic.backend import ElasticQuery, queries
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Setting, Sources
from detection_pack.platforms.settings import chosen, decoded, readable

#: What decides when a rule runs, on what, and what becomes of a result. Prose is left out.
_SETTINGS = (
    "type",
    "enabled",
    "severity",
    "risk_score",
    "language",
    "index",
    "interval",
    "from",
    "to",
    "timestamp_override",
    "threshold",
    "alert_suppression",
    "max_signals",
)


class Elastic(Platform):
    id = "elastic"
    title = "Elastic"
    forms = (
        QueryForm(".lucene", "Lucene", "lucene"),
        QueryForm(".esql", "ES|QL", "esql"),
        QueryForm(".threshold.json", "Kibana's threshold rule", "json", exact=False),
    )

    def convert(self, rule: Rule, pipeline: Pipeline) -> ElasticQuery:
        return queries(rule, pipeline)

    def part(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        return artefacts.part(rule, pipelines, version)

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        return artefacts.assembled(parts, version)

    def run(
        self,
        dist: Path,
        rules: Sequence[RuleEntry],
        events: Sequence[Event],
        clock: Clock,
        sources: Sources | None = None,
    ) -> list[Hit]:
        from detection_pack.platforms.elastic.run import run

        return run(dist, rules, events, clock, sources)

    def run_imports(
        self,
        dist: Path,
        rules: Sequence[RuleEntry],
        events: Sequence[Event],
        clock: Clock,
        sources: Sources | None = None,
    ) -> list[Hit]:
        from detection_pack.platforms.elastic.rules_engine import run_rules

        return run_rules(dist, rules, events, clock, sources)

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return ElasticImports(files)

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        """The Lucene of a correlation is the base query of its threshold rule, and runs as a part of that."""
        listed = [*super().must_run(rule, own, shared), *(path for path in shared if path == rules.PATH)]
        return [path for path in listed if rule.window is None or not path.endswith(".lucene")]


class ElasticImports(ImportFiles):
    """The Kibana rules. Their queries have no parameters: Kibana's own form changes them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._rules: dict[str, list[dict[str, Any]]] = {}
        with readable(rules.PATH):
            for line in filter(None, decoded(files.get(rules.PATH, b"")).split("\n")):
                made = json.loads(line)
                for tag in made.get("tags", ()):
                    if tag.startswith(rules.NAME_TAG) and isinstance(made["type"], str):
                        self._rules.setdefault(tag.removeprefix(rules.NAME_TAG), []).append(made)

    def schedules(self, rule: str) -> list[Setting]:
        return [
            setting
            for made in self._rules.get(rule, ())
            for setting in chosen(Elastic.id, made["type"], made, _SETTINGS, f"{made['type']} rule")
        ]

    def parameters(self, rule: str) -> list[Setting]:
        return []

    def parts(self, rule: str) -> dict[str, str]:
        return {
            f"{rules.PATH}: {made['type']}": json.dumps(made, ensure_ascii=False)
            for made in self._rules.get(rule, ())
        }


PLATFORM = Elastic()
