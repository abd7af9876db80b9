"""Elastic: the files of dist/elastic/, and what runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.model.event import Event, Hit, RuleEntry
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import BY_HAND, INVESTIGATION, Rule
from detection_pack.platforms.conversion import Artefact, Part
from detection_pack.platforms.elastic import hunts, imports
from detection_pack.platforms.elastic.backend import ElasticQuery, events_esql, queries
from detection_pack.platforms.elastic.import_files import ElasticImports
from detection_pack.platforms.platform import ImportFiles, Platform, QueryForm, Run, Sources, Stored


class Elastic(Platform):
    id = "elastic"
    title = "Elastic"
    fence = "esql"
    #: The investigation queries in ES|QL, for whoever goes on from a table.
    investigation = f"{id}/investigation/"
    # Elastic Security, "Add and manage exceptions": exceptions are case-sensitive.
    keeps_no_lists = "exceptions of Kibana tell letter case apart, and a row of a list does not"
    forms = (
        QueryForm(".lucene", "Lucene", "lucene"),
        QueryForm(".esql", "ES|QL", "esql"),
        QueryForm(".threshold.json", "Kibana's threshold rule", "json", exact=False),
    )

    def convert(self, rule: Rule, pipeline: Pipeline) -> ElasticQuery:
        return queries(rule, pipeline)

    def made(self, rule: Rule, pipelines: Mapping[str, Pipeline], version: str) -> Part:
        """``<name>.lucene``; of a correlation ``.esql`` and ``.threshold.json``; ``.view.json``: the indices
        that the query reads and the fields that its alert shows. Kibana's rules hold all of them; a Discover
        session holds a rule of the hunting tier."""
        query = queries(rule, pipelines[self.id])
        if rule.tier in BY_HAND:
            objects = hunts.objects_of(rule, query)
            claims = tuple(one["id"] for one in objects if one["type"] == "search")
            files = _files(rule, query)
            if rule.tier == INVESTIGATION and query.esql is None:
                text = events_esql(rule, pipelines[self.id])
                files.append(Artefact(f"{self.investigation}{rule.name}.esql", text.encode(), rule.name))
            return Part(rule.name, rule.tier, tuple(files), {"objects": objects}, claims)
        imported = imports.rules_of(rule, query, version)
        return Part(
            rule.name,
            rule.tier,
            tuple(_files(rule, query)),
            {"rules": [imports.line(one) for one in imported]},
            tuple(one["rule_id"] for one in imported),
        )

    def assembled(self, parts: Sequence[Part], version: str) -> list[Artefact]:
        """``rules.ndjson`` and ``hunting/hunts.ndjson``, for Kibana's imports."""
        lines = [line for one in parts for line in one.shared.get("rules", ())]
        objects = [found for one in parts for found in one.shared.get("objects", ())]
        made = [Artefact(imports.PATH, imports.ndjson(lines))] if lines else []
        return [*made, Artefact(hunts.HUNTS, hunts.ndjson(objects))] if objects else made

    def run(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.elastic.run import run

        return run(given)

    def stored(self, events: Sequence[Event], sources: Sources | None = None) -> list[Stored]:
        from detection_pack.platforms.elastic.run import stored

        return stored(events, sources)

    def run_imports(self, given: Run) -> list[Hit]:
        from detection_pack.platforms.elastic.run import run_imports

        return run_imports(given)

    def imports(self, files: Mapping[str, bytes]) -> ImportFiles:
        return ElasticImports(files)

    def must_run(self, rule: RuleEntry, own: Sequence[str], shared: Sequence[str]) -> list[str]:
        """The Lucene of a correlation is the base query of its threshold rule, and runs as a part of that."""
        held = hunts.HUNTS if rule.tier in BY_HAND else imports.PATH
        # What is asked in ES|QL gives rows for a person, which are no verdict.
        judged = [path for path in own if not path.startswith(self.investigation)]
        listed = [*super().must_run(rule, judged, shared), *(path for path in shared if path == held)]
        return [path for path in listed if rule.window is None or not path.endswith(".lucene")]


def _files(rule: Rule, query: ElasticQuery) -> list[Artefact]:
    out = []
    # A hunt is its exact query: its Lucene would be no more than a part of a threshold rule.
    hunted = rule.tier in BY_HAND and query.esql is not None
    if query.lucene is not None and not hunted:
        # Lucene has no comments: the file is the query and one final newline.
        out.append(
            Artefact(f"{imports.QUERIES}/{rule.name}.lucene", (query.lucene + "\n").encode(), rule.name)
        )
    if query.esql is not None:
        out.append(Artefact(f"{imports.QUERIES}/{rule.name}.esql", query.esql.encode(), rule.name))
    if query.threshold is not None and not hunted:
        out.append(
            Artefact(f"{imports.QUERIES}/{rule.name}.threshold.json", _json(query.threshold), rule.name)
        )
    out.append(Artefact(f"{imports.QUERIES}/{rule.name}.view.json", _json(_view(rule, query)), rule.name))
    return out


def _view(rule: Rule, query: ElasticQuery) -> dict[str, Any]:
    alert = rule.alert
    shown = {column: alert.field_of(column) for column in alert.FIELDS}
    return {
        "index": list(query.index),
        "fields": dict(sorted(query.fields.items())),
        "time": "@timestamp",
        "columns": {column: query.fields[field] for column, field in shown.items() if field},
        "DetectionType": alert.type,
        "DetectionDetail": [
            {"field": query.fields.get(part, part)} if is_field else part
            for is_field, part in alert.detail_parts()
        ],
    }


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


PLATFORM = Elastic()
